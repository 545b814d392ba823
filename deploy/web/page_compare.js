// Several jobs: their curves over one another, and the settings in which they differ.

import { h, show, number, stateChip, chip, verdictKind } from "./dom.js";
import { allJobs, get } from "./api.js";
import { comparedCharts } from "./charts.js";

const MOST = 8;
const FIRST = ["reward_mean", "approx_kl", "clipfrac", "grad_norm", "learning_rate", "loss"];

function differences(views) {
  const names = [...new Set(views.flatMap((view) => view.settings.map((setting) => setting.name)))];
  const tables = views.map((view) => new Map(view.settings.map((setting) => [setting.name, setting.value])));
  return names.map((name) => [name, tables.map((table) => table.get(name) ?? "–")]).filter(([, values]) => new Set(values).size > 1);
}

export function comparePage(ids) {
  const jobs = ids.slice(0, MOST);
  const top = h("div", { class: "stack" }), curves = h("div", { class: "grid" }), settings = h("section", { class: "card", "aria-label": "Settings that differ" });
  const add = h("select", { id: "add", onchange: () => { if (add.value) location.hash = `#/compare/${[...jobs, add.value].join(",")}`; } });
  const adder = h("div", { class: "row" }, h("label", { for: "add" }, "Add a job"), add);
  const element = h("div", { class: "stack" }, h("div", { class: "row spread" }, h("h1", {}, "Compare"), adder), top, curves, settings);
  let shown = "";

  function summary(views) {
    return h("div", { class: "card tablewrap", tabindex: 0, role: "region", "aria-label": "Jobs" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Job", "State", "Epochs", "Reward", "Learning?", "Remove"].map((title, i) => h("th", { scope: "col", class: i === 2 || i === 3 ? "num" : "" }, i === 5 ? h("span", { class: "visually-hidden" }, title) : title)))),
      h("tbody", {}, views.map(({ job, learning }, i) => h("tr", {}, h("td", { class: "jobcell" }, h("span", { class: `key s${i}` }, h("a", { class: "jobname", href: `#/job/${job.id}` }, job.spec.name || job.id)), h("div", { class: "small quiet" }, job.id)),
        h("td", {}, stateChip(job.state)), h("td", { class: "num" }, `${job.progress?.epoch || 0}`), h("td", { class: "num" }, number(job.progress?.newest_epoch?.reward_mean)), h("td", {}, chip(learning.verdict, verdictKind(learning.verdict))),
        h("td", {}, h("a", { class: "button", href: `#/compare/${jobs.filter((id) => id !== job.id).join(",")}`, "aria-label": `Remove ${job.id}` }, "×")))))));
  }

  return {
    element, title: "Compare", nav: "#/jobs",
    async refresh(signal) {
      const list = await allJobs(signal);
      const others = list.filter((job) => !jobs.includes(job.id));
      adder.hidden = jobs.length >= MOST || !others.length;
      if (document.activeElement !== add) {
        show(add, others.map((job) => job.id).join(), () => [h("option", { value: "" }, "choose …"), ...others.map((job) => h("option", { value: job.id }, `${job.id} ${job.spec.name}`))]);
      }
      if (!jobs.length) {
        show(top, "none", () => h("p", { class: "card quiet" }, "Choose at least two jobs."));
        settings.hidden = true;
        return;
      }
      const views = await Promise.all(jobs.map((id) => get(`jobs/${id}`, signal)));
      const key = JSON.stringify(views.map(({ job, learning }) => [job.id, job.state, job.progress?.epoch, learning.verdict]));
      if (key === shown) return;
      const metrics = await Promise.all(jobs.map((id) => get(`jobs/${id}/metrics?points=400`, signal)));
      top.replaceChildren(summary(views));
      const labelled = views.map(({ job }, i) => ({ label: job.spec.name && views.filter((v) => v.job.spec.name === job.spec.name).length === 1 ? job.spec.name : job.id, metrics: metrics[i] }));
      const all = [...new Set(metrics.flatMap((table) => Object.keys(table.series)))];
      const parts = all.filter((name) => name.startsWith("parts_mean."));
      const names = [...FIRST.slice(0, 1), ...parts, ...FIRST.slice(1), ...all.filter((name) => !FIRST.includes(name) && !parts.includes(name))];
      curves.replaceChildren(...comparedCharts(labelled, names));
      const rows = differences(views);
      settings.hidden = views.length < 2;
      settings.replaceChildren(h("h2", {}, "Settings that differ"), rows.length ? h("div", { class: "tablewrap", tabindex: 0, role: "region", "aria-label": "Settings that differ" }, h("table", { class: "values" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Setting"), labelled.map(({ label }) => h("th", { scope: "col" }, label)))),
        h("tbody", {}, rows.map(([name, values]) => h("tr", {}, h("td", {}, h("code", {}, name)), values.map((value) => h("td", {}, value))))))) : h("p", { class: "quiet" }, "None: the jobs have the same settings."));
      shown = key;
    },
  };
}
