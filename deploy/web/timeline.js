// The newest epochs of a job on a line of time: what rollout ranks and the trainer do, and who waits for whom.

import { h, number, show } from "./dom.js";
import { resizing, withCursor } from "./chart.js";

const LEFT = 76, RIGHT = 8, LANE = 34, GAP = 10, AXIS = 20;
// In their order within an epoch (docs/architecture.md).
const ROLLOUT = [["rollout_wait_seconds", "waiting for weights or a trainer", "wait0"], ["sample_seconds", "sampling", "f0"], ["reward_seconds", "waiting for rewards", "wait2"]];
const TRAINER = [["publish_seconds", "publishing", "f3"], ["wait_seconds", "waiting for samples", "wait1"], ["train_seconds", "training", "f1"]];

/** Of each epoch its seconds by name. */
function epochsOf(series) {
  const { x = [], y = [] } = series.epoch_seconds || {};
  const places = new Map(Object.entries(series).map(([name, curve]) => [name, new Map(curve.x.map((at, i) => [at, curve.y[i] || 0]))]));
  return x.map((at, i) => ({ epoch: Math.round(at), seconds: y[i] || 0, of: (name) => places.get(name)?.get(at) || 0 })).filter(({ seconds }) => seconds > 0);
}

const share = (epochs, names) => epochs.reduce((sum, epoch) => sum + Math.min(epoch.seconds, names.reduce((all, name) => all + epoch.of(name), 0)), 0) /
  Math.max(1e-9, epochs.reduce((sum, epoch) => sum + epoch.seconds, 0));
const percent = (part) => `${Math.round(100 * part)}%`;

/** Who waits, in a sentence. */
function whoWaits(epochs, colocated) {
  const trainer = share(epochs, ["wait_seconds"]), rollout = share(epochs, ["rollout_wait_seconds"]), reward = share(epochs, ["reward_seconds"]);
  const scores = `${percent(reward)} for rewards`;
  if (colocated) return `The ranks sample and train in turn, and wait ${scores}.`;
  const sides = `The trainer waits for samples ${percent(trainer)} of the time, rollout ranks ${percent(rollout)} for weights or the trainer and ${scores}.`;
  if (Math.abs(trainer - rollout) < 0.1) return sides;
  return `${sides} ${trainer > rollout ? "Sampling" : "Training"} is what takes long.`;
}

export function timeline() {
  const plot = h("div", { class: "plot" }), verdict = h("p", { class: "small" }), read = h("p", { class: "small quiet", role: "status" }), legend = h("figcaption", { class: "legend" });
  const element = h("figure", { class: "card chart", hidden: true }, h("h3", {}, "The newest epochs"), verdict, plot, read, legend);
  let epochs = [], lanes = [], width = 0;

  function draw() {
    if (!width || !epochs.length) return;
    const all = epochs.reduce((sum, epoch) => sum + epoch.seconds, 0), height = lanes.length * (LANE + GAP) + AXIS;
    const px = (seconds) => LEFT + seconds / all * (width - LEFT - RIGHT);
    const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": `Epochs ${epochs[0].epoch} to ${epochs.at(-1).epoch}. ${verdict.textContent} Arrow keys read an epoch.` });
    lanes.forEach(([title], i) => svg.append(h("text", { class: "axis", x: 2, y: i * (LANE + GAP) + LANE / 2 + 4 }, title)));
    const marks = [];
    let begin = 0;
    for (const epoch of epochs) {
      lanes.forEach(([, stages], i) => {
        const sum = stages.reduce((seconds, [name]) => seconds + epoch.of(name), 0), scale = Math.min(1, epoch.seconds / Math.max(sum, 1e-9));
        let at = begin;
        for (const [name, label, kind] of stages) {
          const seconds = epoch.of(name) * scale, x = px(at), wide = px(at + seconds) - x;
          at += seconds;
          if (wide < 0.3) continue;
          svg.append(h("rect", { class: kind, x: x.toFixed(1), y: i * (LANE + GAP), width: wide.toFixed(1), height: LANE }, h("title", {}, `epoch ${epoch.epoch}: ${label} ${number(epoch.of(name), 3)} s`)));
        }
      });
      const x = px(begin), wide = px(begin + epoch.seconds) - x, bottom = height - AXIS;
      marks.push(svg.appendChild(h("rect", { class: "epochmark", x, y: 0, width: wide, height: bottom - GAP / 2, visibility: "hidden" })));
      svg.append(h("line", { class: "gridline", x1: x, x2: x, y1: 0, y2: bottom }));
      if (wide > 26) svg.append(h("text", { class: "axis", x: x + wide / 2, y: height - 5, "text-anchor": "middle" }, String(epoch.epoch)));
      begin += epoch.seconds;
    }
    const point = (index) => {
      marks.forEach((mark, i) => mark.setAttribute("visibility", i === index ? "visible" : "hidden"));
      const epoch = epochs[index];
      read.textContent = epoch ? `Epoch ${epoch.epoch}, ${number(epoch.seconds, 3)} s: ${lanes.map(([title, stages]) => `${title} ${stages.filter(([name]) => epoch.of(name) > 0).map(([name, label]) => `${label} ${number(epoch.of(name), 3)} s`).join(", ")}`).join("; ")}` : "Arrow keys, or the mouse, read an epoch.";
    };
    const placeAt = (at) => {
      let end = LEFT;
      return epochs.findIndex((epoch) => (end += epoch.seconds / all * (width - LEFT - RIGHT)) >= at);
    };
    withCursor(svg, width, epochs.length, placeAt, point);
    plot.replaceChildren(svg);
  }
  resizing(element, (now) => { width = now; draw(); });

  return {
    element,
    /** @param timings  of the newest epochs, not thinned. @param colocated  ranks sample and train in turn. */
    update(timings, colocated) {
      epochs = epochsOf(timings.series);
      element.hidden = epochs.length === 0;
      lanes = colocated ? [["Ranks", [TRAINER[0], ...ROLLOUT, ...TRAINER.slice(1)]]] : [["Rollout", ROLLOUT], ["Trainer", TRAINER]];
      verdict.textContent = whoWaits(epochs, colocated);
      show(legend, String(colocated), () => lanes.flatMap(([, stages]) => stages.map(([, label, kind]) => h("span", { class: "swatchkey" }, h("svg", { class: "swatch", viewBox: "0 0 12 12", "aria-hidden": "true" }, h("rect", { class: kind, width: 12, height: 12 })), label))));
      draw();
    },
  };
}
