// The list of jobs.

import { h, show, number, when, stateChip, progressBar, labelsOf, isEnded, duration } from "./dom.js";
import { allJobs, get } from "./api.js";
import { sparkline } from "./chart.js";

const STATES = ["QUEUED", "STARTING", "RUNNING", "PAUSING", "PAUSED", "RECOVERING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED"];
const sparks = new Map();  // By job id: {epoch, curve}; kept while the tab is open.

export function jobsPage() {
  const filter = h("input", { type: "search", id: "filter", placeholder: "id, name, owner, label", oninput: () => draw() });
  const state = h("select", { id: "state", onchange: () => draw() }, h("option", { value: "" }, "all states"), h("option", { value: "open" }, "not ended"),
    STATES.map((name) => h("option", { value: name }, name.toLowerCase())));
  const compare = h("button", { type: "button", disabled: true, onclick: () => { location.hash = `#/compare/${[...chosen].join(",")}`; } }, "Compare");
  const count = h("span", { class: "quiet small", role: "status" });
  const body = h("tbody");
  const empty = h("p", { class: "card quiet", hidden: true });
  const table = h("div", { class: "card jobs tablewrap" }, h("table", {}, h("caption", { class: "visually-hidden" }, "Jobs, the newest first"),
    h("thead", {}, h("tr", {}, ["Compare", "Job", "State", "Reward", "Progress", "Owner", "Submitted"].map((title, i) =>
      h("th", { scope: "col", class: title === "Submitted" ? "time" : "" }, i === 0 ? h("span", { class: "visually-hidden" }, title) : title)))), body));
  const element = h("div", { class: "stack" }, h("div", { class: "row spread" }, h("h1", {}, "Jobs"), count),
    h("div", { class: "row" }, h("div", { class: "field" }, h("label", { for: "filter" }, "Filter"), filter), h("div", { class: "field" }, h("label", { for: "state" }, "State"), state), compare), table, empty);
  const chosen = new Set(), rows = new Map();
  let jobs = null, signal, asking = 0;
  const waiting = [];

  function choose(id, on) {
    if (on) chosen.add(id); else chosen.delete(id);
    compare.disabled = chosen.size < 2;
    compare.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
  }

  function fits(job) {
    if (state.value === "open" ? isEnded(job.state) : state.value && job.state !== state.value) return false;
    const text = [job.id, job.spec.name, job.owner, ...Object.entries(job.labels || {}).map((pair) => pair.join("="))].join(" ").toLowerCase();
    return filter.value.toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }

  // Curves are asked for when their row comes into view, at most three at a time.
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const row = rows.get(entry.target.dataset.id);
      if (row) row.visible = entry.isIntersecting;
    }
    askForCurves();
  }, { rootMargin: "120px" });

  function askForCurves() {
    for (const [id, row] of rows) {
      const epoch = Number(row.job.progress?.epoch || 0);
      if (!row.visible || epoch === 0 || row.asked === epoch || sparks.get(id)?.epoch === epoch) continue;
      row.asked = epoch;
      waiting.push([id, epoch]);
    }
    askForNext();
  }

  function askForNext() {
    while (asking < 3 && waiting.length && !signal.aborted) {
      const [id, epoch] = waiting.shift();
      ++asking;
      get(`jobs/${id}/metrics?keys=reward_mean&points=60`, signal).then((metrics) => {
        sparks.set(id, { epoch, curve: metrics.series.reward_mean });
        drawSpark(rows.get(id));
      }).catch(() => { rows.get(id).asked = -1; })  // The next refresh asks again.
        .finally(() => { --asking; askForNext(); });
    }
  }

  function drawSpark(row) {
    const spark = sparks.get(row.job.id);
    const reward = row.job.progress?.newest_epoch?.reward_mean;
    show(row.spark, `${spark?.epoch}/${reward}`, () => h("div", { class: "sparkrow" },
      spark?.curve?.x.length > 1 ? sparkline(spark.curve, `reward over ${spark.epoch} epochs`) : "", h("span", { class: "small quiet" }, number(reward))));
  }

  function makeRow(job) {
    const cells = { name: h("td", { class: "jobcell" }), state: h("td"), spark: h("td", { class: "wide" }), progress: h("td", { class: "wide" }), owner: h("td", { class: "none small" }), time: h("td", { class: "none small quiet time" }) };
    const box = h("input", { type: "checkbox", "aria-label": `Choose ${job.id} to compare`, checked: chosen.has(job.id), onchange: (event) => choose(job.id, event.target.checked) });
    const row = { ...cells, job, visible: false, asked: -1, element: h("tr", { "data-id": job.id }, h("td", {}, box), cells.name, cells.state, cells.spark, cells.progress, cells.owner, cells.time) };
    observer.observe(row.element);
    return row;
  }

  function fill(row, job) {
    row.job = job;
    const progress = job.progress || {};
    show(row.name, JSON.stringify([job.spec.name, job.labels]), () => [h("a", { class: "jobname", href: `#/job/${job.id}` }, job.spec.name || job.id), h("div", { class: "small quiet" }, job.id), h("div", {}, labelsOf(job))]);
    show(row.state, job.state, () => stateChip(job.state));
    show(row.progress, JSON.stringify([progress.epoch, progress.epoch_samples_done, progress.seconds_left, job.state_reason]), () => [progressBar(progress),
      h("div", { class: "small quiet" }, `${progress.epoch || 0} of ${progress.num_epochs || 0} epochs`, !isEnded(job.state) && progress.seconds_left > 0 ? ` · ${duration(progress.seconds_left)} left` : ""),
      job.state_reason && job.state !== "SUCCEEDED" ? h("div", { class: `small reason ${job.state === "FAILED" ? "fault" : "quiet"}` }, job.state_reason) : ""]);
    show(row.owner, job.owner, () => job.owner || "–");
    show(row.time, job.create_time || "", () => when(job.create_time));
    drawSpark(row);
  }

  function draw() {
    if (!jobs) return;
    const shown = jobs.filter(fits);
    for (const job of shown) {
      if (!rows.has(job.id)) rows.set(job.id, makeRow(job));
      fill(rows.get(job.id), job);
    }
    const wanted = shown.map((job) => rows.get(job.id).element);
    if (wanted.length !== body.children.length || wanted.some((row, i) => body.children[i] !== row)) body.replaceChildren(...wanted);
    count.textContent = shown.length === jobs.length ? `${jobs.length} jobs` : `${shown.length} of ${jobs.length} jobs`;
    table.hidden = shown.length === 0;
    empty.hidden = shown.length > 0;
    empty.textContent = jobs.length ? "No job fits the filter." : "There are no jobs yet. Submit one with: imageddpo submit job.yaml";
    askForCurves();
  }

  return {
    element, title: "Jobs", nav: "#/jobs",
    async refresh(nowSignal) {
      signal = nowSignal;
      jobs = await allJobs(signal);
      draw();
    },
  };
}
