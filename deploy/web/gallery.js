// Pictures before and after, with a slider over the epochs. The noise of an image is the same in every evaluation.

import { h, show } from "./dom.js";
import { picture } from "./api.js";

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
          h("figure", {}, image(from, file, `Image ${name}, ${title}`), h("figcaption", {}, title))));
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
