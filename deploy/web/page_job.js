// One job.

import { h, show, number, duration, when, chip, stateChip, verdictKind, progressBar, labelsOf, isEnded } from "./dom.js";
import { get } from "./api.js";
import { actions } from "./actions.js";
import { jobCharts, stageCharts } from "./charts.js";
import { gallery } from "./gallery.js";
import { logs } from "./logs.js";
import { timeline } from "./timeline.js";

const EPOCHS_OF_TIMELINE = 12;

function seconds(job) {
  const start = Date.parse(job.start_time), end = job.end_time ? Date.parse(job.end_time) : Date.now();
  return (end - start) / 1000;
}

function facts(job) {
  const progress = job.progress || {}, newest = progress.newest_epoch || {};
  const rows = [["Epochs", `${progress.epoch || 0} of ${progress.num_epochs || 0}`], ["Reward, newest epoch", number(newest.reward_mean)],
    ["Samples trained on", Number(progress.samples_seen || 0).toLocaleString()], ["Images per second", number(newest.images_per_second, 3)],
    ["Topology", job.topology || "–"], ["Owner", job.owner || "–"], ["Submitted", when(job.create_time)], [isEnded(job.state) ? "Took" : "Runs for", duration(seconds(job))]];
  if (!isEnded(job.state) && progress.seconds_left > 0) rows.push(["Left", duration(progress.seconds_left)]);
  if (job.priority) rows.push(["Priority", job.priority]);
  if (job.resume_count) rows.push(["Resumed", `${job.resume_count} times`]);
  if (job.branched_from) rows.push(["Branched from", h("a", { href: `#/job/${job.branched_from}` }, job.branched_from)]);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function head({ job, learning }) {
  const stage = !isEnded(job.state) && job.progress?.stage ? h("span", { class: "quiet small" }, job.progress.stage) : "";
  return [h("div", { class: "row spread" },
    h("div", {}, h("h1", {}, job.spec.name || job.id), h("div", { class: "small quiet" }, job.id, " ", labelsOf(job))),
    h("div", { class: "row" }, stage, stateChip(job.state), h("a", { class: "button", href: `#/compare/${job.id}` }, "Compare with …"))),
  job.state_reason ? h("p", { class: job.state === "FAILED" ? "card verdict bad" : "quiet" }, job.state_reason) : "",
  h("div", { class: "card stack" }, progressBar(job.progress || {}), facts(job)),
  h("section", { class: `card verdict ${verdictKind(learning.verdict)}`, "aria-label": "Is it learning?" },
    h("div", { class: "row" }, h("h2", { class: "inline" }, "Is it learning?"), chip(learning.verdict, verdictKind(learning.verdict))), h("p", {}, learning.why),
    h("p", { class: "small quiet" }, "Rule: ", learning.rule)),
  job.warnings?.length ? h("section", { class: "card verdict warn", "aria-label": "Warnings" }, h("h2", {}, "Warnings"), job.warnings.map((text) => h("p", { class: "small" }, text))) : ""];
}

function eventText(event) {
  if (event.state) return [stateChip(event.state.state), event.state.reason ? ` ${event.state.reason}` : ""];
  if (event.eval) return [`Evaluation after ${event.eval.epoch} epochs: reward ${number(event.eval.reward_mean)} ± ${number(event.eval.reward_stderr, 2)}`];
  if (event.checkpoint) return [`Checkpoint after ${event.checkpoint.epoch} epochs`];
  if (event.warning) return [chip("warning", "warn"), ` ${event.warning.message}`];
  return [Object.keys(event).filter((key) => key !== "number" && key !== "time").join(", ")];
}

function settingsTable(settings, onlyChanged) {
  const list = settings.filter((setting) => !onlyChanged || !setting.is_default);
  return h("table", { class: "values" }, h("thead", {}, h("tr", {}, ["Setting", "Value", "Default"].map((title) => h("th", { scope: "col" }, title)))),
    h("tbody", {}, list.map((setting) => h("tr", {}, h("td", {}, h("code", {}, setting.name)), h("td", {}, setting.value), h("td", { class: "quiet" }, setting.default)))));
}

function evaluationsTable(evaluations) {
  const parts = [...new Set(evaluations.flatMap((e) => Object.keys(e.parts_mean || {})))];
  const shown = evaluations.length > 12 ? [evaluations[0], ...evaluations.slice(-11)] : evaluations;
  return h("div", { class: "tablewrap", tabindex: 0, role: "region", "aria-label": "Evaluations" }, h("table", {}, h("thead", {}, h("tr", {}, ["Epochs", "Images", "Reward", ...parts].map((title) => h("th", { scope: "col", class: "num" }, title)))),
    h("tbody", {}, shown.map((e) => h("tr", {}, h("td", { class: "num" }, e.epoch), h("td", { class: "num" }, e.num_images), h("td", { class: "num" }, `${number(e.reward_mean)} ± ${number(e.reward_stderr, 2)}`),
      parts.map((part) => h("td", { class: "num" }, `${number(e.parts_mean?.[part])} ± ${number(e.parts_stderr?.[part], 2)}`)))))));
}

/** @param again  asks the service for news now. */
export function jobPage(id, again) {
  const top = h("div", { class: "stack" }, h("p", { class: "quiet" }, "Loading …"));
  const curves = h("div", { class: "grid" }), stages = h("div", { class: "grid" });
  const noCurves = h("p", { class: "card quiet" }, "No epoch is finished yet.");
  const stageTitle = h("h2", {}, "Where the time goes"), evaluationsCard = h("section", { class: "card", hidden: true });
  const eventList = h("ol", { class: "events", tabindex: 0, "aria-label": "Events, the newest first" });
  const changed = h("input", { type: "checkbox", id: "changed", checked: true, onchange: () => drawSettings() });
  const settings = h("div", { class: "settings", tabindex: 0, role: "region", "aria-label": "Settings" });
  const pictures = gallery(id), verbs = actions(id, again), log = logs(id), newest = timeline();
  const element = h("div", { class: "stack" }, top, verbs.element, noCurves, curves, evaluationsCard, pictures.element, stageTitle, newest.element, stages,
    h("div", { class: "two" }, h("section", { class: "card", "aria-label": "Events" }, h("h2", {}, "Events"), eventList),
      h("section", { class: "card", "aria-label": "Settings" }, h("div", { class: "row spread" }, h("h2", {}, "Settings"), h("label", { for: "changed" }, changed, "only what differs from the defaults")), settings)), log.element);
  let view = null, events = [], nextEvent = 1, epochShown = "", eventsShown = 0;

  function drawSettings() {
    if (view) show(settings, `${changed.checked}/${view.settings.length}`, () => settingsTable(view.settings, changed.checked));
  }

  async function readEvents(signal) {
    for (;;) {
      const page = await get(`jobs/${id}/events?from=${nextEvent}&epochs=false`, signal);
      events.push(...page.events);
      nextEvent = Number(page.next_event);
      if (!page.more) break;
    }
    if (events.length === eventsShown) return;
    eventsShown = events.length;
    eventList.replaceChildren(...events.slice(-400).reverse().map((event) => h("li", {}, h("time", { datetime: event.time }, when(event.time)), h("div", {}, eventText(event)))));
  }

  return {
    element, title: id, nav: "#/jobs",
    async refresh(signal) {
      view = await get(`jobs/${id}`, signal);
      show(top, JSON.stringify([view.job.progress, view.job.state, view.job.state_reason, view.learning, view.job.labels, view.job.warnings?.length]), () => head(view));
      drawSettings();
      await verbs.update(view, signal);
      await readEvents(signal);
      await log.read(signal);
      const epoch = `${view.job.progress?.epoch || 0}/${view.job.state}/${eventsShown}`;
      if (epoch === epochShown) return;  // Curves and pictures change with epochs and events alone.
      const [metrics, timings, last, evaluated, list] = await Promise.all([get(`jobs/${id}/metrics?points=600`, signal), get(`jobs/${id}/timings?points=150&thin=mean`, signal),
        get(`jobs/${id}/timings?last=${EPOCHS_OF_TIMELINE}`, signal), get(`jobs/${id}/evaluations`, signal), get(`jobs/${id}/pictures`, signal)]);
      const { evaluations } = evaluated;
      noCurves.hidden = metrics.rows > 0;
      stageTitle.hidden = timings.rows === 0;
      curves.replaceChildren(...jobCharts(metrics, evaluations));
      stages.replaceChildren(...stageCharts(timings));
      newest.update(last, (view.job.topology || "").startsWith("colocated"));
      evaluationsCard.hidden = evaluations.length === 0;
      if (evaluations.length) evaluationsCard.replaceChildren(h("h2", {}, "Evaluations on held-out images"), evaluationsTable(evaluations));
      pictures.update(list.sets, signal);
      epochShown = epoch;
    },
  };
}
