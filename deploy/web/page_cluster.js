// The ranks of the pool, and the jobs that wait for them.

import { h, show, bytes, stateChip, number, isEnded } from "./dom.js";
import { allJobs, get } from "./api.js";

function rankCard(rank, names) {
  const memory = [Number(rank.device_memory_bytes) ? `${bytes(rank.device_memory_bytes)} GPU` : "", Number(rank.host_memory_bytes) ? `${bytes(rank.host_memory_bytes)} host` : ""].filter(Boolean).join(", ");
  return h("li", { class: `rank ${rank.state.toLowerCase()}` }, h("div", { class: "row spread" }, h("h3", {}, `Rank ${rank.rank}`), stateChip(rank.state)),
    h("div", {}, rank.job_id ? h("a", { href: `#/job/${rank.job_id}` }, names.get(rank.job_id) || rank.job_id) : h("span", { class: "quiet" }, rank.state === "DEAD" ? "comes back with the next restart" : "no job")),
    h("div", { class: "small quiet" }, [rank.drained ? "drained" : "", rank.device, rank.cores ? `${rank.cores} cores` : "", memory].filter(Boolean).join(" · ")),
    rank.heartbeat_age_seconds > 3 ? h("div", { class: "small" }, `silent for ${number(rank.heartbeat_age_seconds, 2)} s`) : "");
}

const MOST_WAITING = 100;

export function clusterPage() {
  const facts = h("dl", { class: "facts card" }), hosts = h("div", { class: "stack" }), queue = h("div", { class: "stack" });
  const element = h("div", { class: "stack" }, h("h1", {}, "Cluster"), facts, hosts, h("section", { class: "stack", "aria-label": "Jobs that wait" }, h("h2", { class: "inline" }, "Jobs that wait"), queue));

  function drawQueue(waiting) {
    if (!waiting.length) return h("p", { class: "card quiet" }, "No job waits.");
    return h("div", { class: "card jobs tablewrap" }, h("table", {}, h("thead", {}, h("tr", {}, ["Job", "State", "Priority", "Why it waits"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, waiting.slice(0, MOST_WAITING).map((job) => h("tr", {}, h("td", {}, h("a", { class: "jobname", href: `#/job/${job.id}` }, job.spec.name || job.id), h("div", { class: "small quiet" }, `${job.id}${job.owner ? ` · ${job.owner}` : ""}`)),
        h("td", {}, stateChip(job.state)), h("td", { class: "none" }, String(job.priority)), h("td", { class: "wide small" }, job.state_reason || job.progress?.waiting_for || "for free ranks"))))), waiting.length > MOST_WAITING ? h("p", { class: "small quiet more" }, `and ${waiting.length - MOST_WAITING} more`) : "");
  }

  return {
    element, title: "Cluster", nav: "#/cluster",
    async refresh(signal) {
      const [cluster, jobs] = await Promise.all([get("cluster", signal), allJobs(signal)]);
      const ranks = cluster.hosts.flatMap((host) => host.ranks.map((rank) => ({ ...rank, state: rank.state.replace("RANK_", ""), hostname: host.name, host_memory_bytes: host.memory_bytes })));
      const names = new Map(jobs.map((job) => [job.id, job.spec.name || job.id]));
      const waiting = jobs.filter((job) => ["QUEUED", "RECOVERING", "PAUSED"].includes(job.state)).sort((a, b) => b.priority - a.priority || a.id.localeCompare(b.id));
      const of = (state) => ranks.filter((rank) => rank.state === state).length;
      show(facts, JSON.stringify([ranks.map((rank) => rank.state), jobs.length]), () => [["Ranks", ranks.length], ["Busy", of("BUSY")], ["Idle", of("IDLE")], ["Starting", of("STARTING")], ["Dead", of("DEAD")],
        ["Jobs not ended", jobs.filter((job) => !isEnded(job.state)).length]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))));
      show(queue, JSON.stringify(waiting.map((job) => [job.id, job.state, job.state_reason, job.priority])), () => drawQueue(waiting));
      const byHost = Map.groupBy ? Map.groupBy(ranks, (rank) => rank.hostname) : ranks.reduce((map, rank) => map.set(rank.hostname, [...(map.get(rank.hostname) || []), rank]), new Map());
      show(hosts, JSON.stringify(ranks.map((rank) => [rank.rank, rank.state, rank.drained, rank.job_id, rank.heartbeat_age_seconds > 3 && Math.round(rank.heartbeat_age_seconds)])), () => [...byHost].map(([host, list]) =>
        h("section", { class: "card", "aria-label": host }, h("h2", {}, host || "not reported yet"), h("ul", { class: "ranks plain" }, list.map((rank) => rankCard(rank, names))))));
    },
  };
}
