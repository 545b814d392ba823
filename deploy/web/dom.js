// Elements and formats. Texts are always set as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line", "g", "text", "rect", "circle", "title"]);

/** An element: properties by name, `on…` as listeners, the rest as attributes. */
export function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "hidden") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) {
    const [mantissa, exponent] = value.toExponential(Math.min(digits - 1, 2)).split("e");
    return `${Number(mantissa)}e${Number(exponent)}`;
  }
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(digits)));
}

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}

export function bytes(count) {
  const size = Number(count);
  if (!size) return "–";
  const unit = Math.min(4, Math.floor(Math.log2(size) / 10));
  return `${(size / 1024 ** unit).toFixed(unit ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function when(text) {
  if (!text) return "–";
  return new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
}

const STATES = { RUNNING: "accent", STARTING: "accent", SUCCEEDED: "good", FAILED: "bad", RECOVERING: "warn", PAUSING: "warn", PAUSED: "warn",
  CANCELLING: "warn", BUSY: "busy", IDLE: "good", DEAD: "bad" };

export const chip = (text, kind) => h("span", { class: `chip ${kind || ""}` }, text);
export const stateChip = (state) => chip(state.toLowerCase(), STATES[state]);

export function verdictKind(verdict) {
  if (verdict === "learning") return "good";
  if (verdict === "flat" || verdict.startsWith("hacking")) return "warn";
  return verdict.startsWith("collapsed") ? "bad" : "";
}

export const isEnded = (state) => state === "SUCCEEDED" || state === "FAILED" || state === "CANCELLED";

export function progressBar(progress) {
  const done = Number(progress.epoch), all = Number(progress.num_epochs);
  const share = all > 0 ? Math.min(1, (done + (progress.epoch_samples > 0 ? progress.epoch_samples_done / progress.epoch_samples : 0)) / all) : 0;
  const bar = h("span");
  bar.style.width = `${100 * share}%`;
  return h("div", { class: "bar", role: "progressbar", "aria-label": "epochs", "aria-valuemin": 0, "aria-valuemax": all, "aria-valuenow": done }, bar);
}

export const labelsOf = (job) => Object.entries(job.labels || {}).map(([key, value]) => h("span", { class: "tag" }, `${key}=${value}`));

const shown = new WeakMap();  // What an element's children were made from.

/** Replaces an element's children, unless that changes nothing, and leaves focus and scrolling where they are. */
export function show(element, key, make) {
  if (shown.get(element) === key) return;
  const active = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...[make()].flat());
  shown.set(element, key);
  if (active) document.getElementById(active)?.focus({ preventScroll: true });
}
