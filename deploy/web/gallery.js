// Pictures before and after, with a slider over the epochs. The noise of an image is the same in every evaluation.

import { h, number, show } from "./dom.js";
import { get, picture } from "./api.js";

const MOST_SHOWN = 24;
const stem = (name) => name.replace(/-(input|output)\.png$/, "");

export function gallery(id) {
  const body = h("div", { class: "pictures" });
  const slider = h("input", { type: "range", id: "gallery-epoch", min: 0, max: 0, value: 0 });
  const label = h("label", { for: "gallery-epoch" }, "Epochs trained");
  const kind = h("select", { id: "gallery-kind" });
  const shown = h("output", { for: "gallery-epoch", class: "small quiet" });
  const controls = h("div", { class: "stack" }, h("div", { class: "row spread" }, h("div", { class: "row" }, h("label", { for: "gallery-kind" }, "Of"), kind), shown), label, slider);
  const empty = h("p", { class: "quiet" }, "There are no pictures yet. Evaluations (eval.path) and checkpoints write them.");
  const element = h("section", { class: "card", "aria-label": "Pictures" }, h("h2", {}, "Before and after"), empty, controls, body);
  controls.hidden = true;
  let sets = [], signal;

  const chosen = () => sets.filter((set) => set.kind === kind.value);

  function image(set, name, alt) {
    const element = h("img", { alt: "", width: 128, height: 128 });
    picture(`jobs/${id}/pictures/${set.kind}/epoch-${String(set.epoch).padStart(6, "0")}/${name}`, signal)
      .then((url) => { element.src = url; element.alt = alt; }).catch(() => { element.alt = `${alt} (cannot be read)`; });
    return element;
  }

  const known = new Map();  // By epoch: what each image scored, or the answer that is on its way.
  function scoresOf(set) {
    if (!known.has(set.epoch)) {
      known.set(set.epoch, get(`jobs/${id}/scores?epoch=${set.epoch}`, signal).then(({ scores }) => {
        if (!scores.length) known.delete(set.epoch);  // Its file may still be on its way.
        return scores;
      }));
      known.get(set.epoch).catch(() => known.delete(set.epoch));  // It is asked for again with the next picture.
    }
    return known.get(set.epoch);
  }

  /** The reward of an image and its parts, before and after. */
  function scoreTable(index, first, set) {
    const sets = set === first ? [first] : [first, set], table = h("table", { class: "scores" });
    Promise.all(sets.map(scoresOf)).then((lists) => {
      const rows = lists.map((list) => list[index]);
      if (rows.some((row) => !row)) return;
      const names = Object.keys(rows.at(-1)).filter((name) => name !== "id" && name !== "seed");
      table.replaceChildren(h("caption", { class: "visually-hidden" }, `What image ${index} scored`),
        h("thead", {}, h("tr", {}, h("td"), ["before", "after"].slice(0, rows.length).map((title) => h("th", { scope: "col", class: "num" }, title)))),
        h("tbody", {}, names.map((name) => h("tr", {}, h("th", { scope: "row" }, name), rows.map((row) => h("td", { class: "num" }, number(row[name], 3)))))));
    }).catch(() => {});
    return table;
  }

  function draw() {
    const list = chosen();
    if (!list.length) return;
    const set = list[Math.min(Number(slider.value), list.length - 1)], first = list[0];
    const what = set.kind === "eval" ? `after ${set.epoch} epochs` : `drawn in epoch ${Number(set.epoch) + 1}`;
    slider.setAttribute("aria-valuetext", what);
    shown.textContent = what;
    show(body, `${set.kind}/${set.epoch}/${set.pictures.length}`, () => {
      const stems = [...new Set(set.pictures.map(stem))].sort((a, b) => Number(a) - Number(b)).slice(0, MOST_SHOWN);
      return stems.map((name) => {
        const columns = [[set, `${name}-input.png`, "input"]];
        if (set.kind === "eval" && set !== first) columns.push([first, `${name}-output.png`, "before"]);
        columns.push([set, `${name}-output.png`, set.kind === "eval" && set === first ? "before" : "after"]);
        const there = columns.filter(([from, file]) => from.pictures.includes(file));
        return h("div", { class: there.length > 2 ? "pair three" : "pair" }, there.map(([from, file, title]) =>
          h("figure", {}, image(from, file, `Image ${name}, ${title}`), h("figcaption", {}, title))), set.kind === "eval" ? scoreTable(Number(name), first, set) : "");
      });
    });
  }

  function chooseKind() {
    const list = chosen();
    slider.max = Math.max(0, list.length - 1);
    slider.value = slider.max;
    slider.disabled = list.length < 2;
    draw();
  }
  slider.addEventListener("input", draw);
  kind.addEventListener("change", chooseKind);

  return {
    element,
    update(list, nowSignal) {
      signal = nowSignal;
      const atEnd = Number(slider.value) === Number(slider.max);
      sets = list;
      const kinds = [...new Set(sets.map((set) => set.kind))];
      empty.hidden = kinds.length > 0;
      controls.hidden = kinds.length === 0;
      show(kind, kinds.join(), () => kinds.map((name) => h("option", { value: name }, name === "eval" ? "held-out images, fixed noise" : "samples of training")));
      if (atEnd) chooseKind();
      else { slider.max = Math.max(0, chosen().length - 1); draw(); }
    },
  };
}
