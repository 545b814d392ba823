// A line chart, a stacked chart and a sparkline as SVG. Colours are classes of style.css, so that they follow the theme.

import { h, number } from "./dom.js";

const HEIGHT = 190, LEFT = 50, RIGHT = 10, TOP = 8, BOTTOM = 22;

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; ++i) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  if (low === high) return low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
  return [low, high];
}

/** The path of a curve; a missing value is a gap. */
function pathOf(xs, ys, px, py) {
  let path = "", pen = "M";
  for (let i = 0; i < xs.length; ++i) {
    if (ys[i] === null || !Number.isFinite(ys[i])) { pen = "M"; continue; }
    path += `${pen}${px(xs[i]).toFixed(1)} ${py(ys[i]).toFixed(1)}`;
    pen = "L";
  }
  return path;
}

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return x - xs[low] < xs[high] - x ? low : high;
}

function frame(svg, width, xRange, yRange, px, py) {
  for (const y of ticks(...yRange, 4)) {
    svg.append(h("line", { class: "gridline", x1: LEFT, x2: width - RIGHT, y1: py(y), y2: py(y) }),
      h("text", { class: "axis", x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, number(y, 3)));
  }
  for (const x of ticks(...xRange, Math.max(3, Math.floor(width / 60)))) {
    svg.append(h("text", { class: "axis", x: px(x), y: HEIGHT - 5, "text-anchor": "middle" }, number(x)));
  }
}

/** Draws a figure again when its width changes. */
export function resizing(figure, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now === width || now < 50) return;
    width = now;
    draw(width);
  }).observe(figure.querySelector(".plot"));
}

/**
 * A cursor over `count` places of a chart, for the mouse and the arrow keys.
 * @param placeAt  the place at so many of the SVG's units from its left, of which it has `width`.
 * @param point    shows a place; -1: none.
 */
export function withCursor(svg, width, count, placeAt, point) {
  let cursor = -1;
  const move = (place) => { cursor = place; point(place); };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    move(placeAt((event.clientX - box.left) / box.width * width));
  });
  svg.addEventListener("pointerleave", () => move(-1));
  svg.addEventListener("blur", () => move(-1));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[event.key];
    if (!step) return;
    event.preventDefault();
    move(Math.max(0, Math.min(count - 1, (cursor < 0 ? count : cursor) + step)));
  });
  move(-1);
}

/** Where each curve's value is shown: at the right of the title, or, of several, beside their names. */
function legendOf(curves, value) {
  const places = curves.map(() => (curves.length > 1 ? h("span", { class: "keyvalue" }) : value));
  const legend = h("figcaption", { class: "legend" }, curves.length < 2 ? [] : curves.map((curve, i) => h("span", { class: `key s${i % 8}` }, h("span", {}, curve.label), places[i])));
  return [legend, places];
}

/**
 * A chart of curves [{label, x, y}] over x = epochs trained. Arrow keys move the cursor.
 * @param stacked  y's are stacked as areas; all curves then have the same x.
 */
export function chart(title, curves, { stacked = false } = {}) {
  const plot = h("div", { class: "plot" });
  const value = h("span", { class: "chartvalue" });
  const [legend, places] = legendOf(curves, value);
  const figure = h("figure", { class: "card chart" }, h("div", { class: "charthead" }, h("h3", {}, title), value), plot, legend);

  const last = (curve) => curve.y.findLast((y) => y !== null);
  const describe = (x) => {
    value.textContent = x === null ? "" : `epoch ${number(x)}`;
    curves.forEach((curve, i) => {
      const text = number(x === null ? last(curve) : curve.y[nearest(curve.x, x)]);
      places[i].textContent = curves.length > 1 || x === null ? text : `${value.textContent}: ${text}`;
    });
  };

  function draw(width) {
    const allX = curves.flatMap((curve) => curve.x);
    const sums = stacked ? curves[0].x.map((_, i) => curves.reduce((sum, curve) => sum + (curve.y[i] || 0), 0)) : [];
    const xRange = allX.length > 1 ? range(allX) : [0, Math.max(1, allX[0] || 1)];
    let yRange = stacked ? [0, Math.max(...sums, 1e-9)] : range(curves.flatMap((curve) => curve.y));
    if (!stacked) yRange = [yRange[0] - 0.05 * (yRange[1] - yRange[0]), yRange[1] + 0.05 * (yRange[1] - yRange[0])];
    const px = (x) => LEFT + (x - xRange[0]) / (xRange[1] - xRange[0]) * (width - LEFT - RIGHT);
    const py = (y) => HEIGHT - BOTTOM - (y - yRange[0]) / (yRange[1] - yRange[0]) * (HEIGHT - TOP - BOTTOM);
    const svg = h("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0,
      "aria-label": `${title}: ${curves.map((curve) => `${curve.label} is ${number(last(curve))}`).join(", ")}. Arrow keys read the curve.` });
    frame(svg, width, xRange, yRange, px, py);
    if (stacked) drawAreas(svg, curves, sums.length, px, py);
    else {
      curves.forEach((curve, i) => {
        svg.append(h("path", { class: `line s${i % 8}`, d: pathOf(curve.x, curve.y, px, py) }));
        const points = curve.y.filter((y) => y !== null).length;
        if (points <= 40) curve.x.forEach((x, j) => curve.y[j] === null || svg.append(h("circle", { class: `f${i % 8}`, cx: px(x), cy: py(curve.y[j]), r: 2.4 })));
      });
    }
    const line = h("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    svg.append(line);
    const xs = curves.reduce((longest, curve) => (curve.x.length > longest.length ? curve.x : longest), []);
    const point = (index) => {
      const x = index < 0 || !xs.length ? null : xs[index];
      line.setAttribute("visibility", x === null ? "hidden" : "visible");
      if (x !== null) { line.setAttribute("x1", px(x)); line.setAttribute("x2", px(x)); }
      describe(x);
    };
    withCursor(svg, width, xs.length, (at) => nearest(xs, xRange[0] + (at - LEFT) / (width - LEFT - RIGHT) * (xRange[1] - xRange[0])), point);
    plot.replaceChildren(svg);
  }
  resizing(figure, draw);
  return figure;
}

function drawAreas(svg, curves, count, px, py) {
  const below = new Array(count).fill(0);
  curves.forEach((curve, i) => {
    let top = "", bottom = "";
    for (let j = 0; j < count; ++j) {
      const x = px(curve.x[j]), from = j ? px(curve.x[j - 1]) : LEFT;
      const low = below[j];
      below[j] += curve.y[j] || 0;
      top += `${j ? "L" : "M"}${from.toFixed(1)} ${py(below[j]).toFixed(1)}L${x.toFixed(1)} ${py(below[j]).toFixed(1)}`;
      bottom = `L${x.toFixed(1)} ${py(low).toFixed(1)}L${from.toFixed(1)} ${py(low).toFixed(1)}${bottom}`;
    }
    if (count) svg.append(h("path", { class: `area f${i % 8}`, d: `${top}${bottom}Z` }));
  });
}

/** A small curve without axes. */
export function sparkline(curve, label) {
  const [low, high] = range(curve.y);
  const xs = range(curve.x);
  const d = pathOf(curve.x, curve.y, (x) => 2 + (x - xs[0]) / (xs[1] - xs[0]) * 116, (y) => 27 - (y - low) / (high - low) * 24);
  return h("svg", { class: "spark", viewBox: "0 0 120 30", preserveAspectRatio: "none", role: "img", "aria-label": label }, h("path", { class: "line s0", d }));
}
