// What the ranks of a job have logged, followed.

import { h, chip } from "./dom.js";
import { get } from "./api.js";

const LEVELS = ["trace", "debug", "info", "warning", "error", "critical"];
const FIRST = 200, MOST_SHOWN = 1000;
const KINDS = { warning: "warn", error: "bad", critical: "bad" };

export function logs(id) {
  const level = h("select", { id: "log-level", onchange: () => again() }, LEVELS.map((name) => h("option", { value: name, selected: name === "info" }, name)));
  const rank = h("select", { id: "log-rank", onchange: () => again() }, h("option", { value: "" }, "all"));
  const follow = h("input", { type: "checkbox", id: "log-follow", checked: true, onchange: () => toEnd() });
  const list = h("ol", { class: "log plain", tabindex: 0, "aria-label": "Log, the newest last" });
  const empty = h("p", { class: "quiet" }, "Nothing of this level is in the log.");
  const element = h("section", { class: "card", "aria-label": "Log" }, h("div", { class: "row spread" }, h("h2", { class: "inline" }, "Log"),
    h("div", { class: "row" }, h("label", { for: "log-level" }, "from level"), level, h("label", { for: "log-rank" }, "of rank"), rank, h("label", { for: "log-follow" }, follow, "follow"))), empty, list);
  let cursor = "", turn = 0, asking = -1, signal;  // A turn: what is chosen.

  const toEnd = () => { if (follow.checked) list.scrollTop = list.scrollHeight; };

  function row(line) {
    const time = new Date(line.time);
    return h("li", {}, h("time", { datetime: line.time, title: time.toLocaleString() }, time.toLocaleTimeString([], { hour12: false })),
      h("span", { class: "logfrom" }, chip(line.level, KINDS[line.level]), h("span", { class: "quiet" }, `rank ${line.rank}`)), h("span", { class: "mono" }, line.message));
  }

  /** A rank that the log has shown can be chosen. */
  function meet(number) {
    const options = [...rank.options].slice(1);
    if (options.some((option) => Number(option.value) === number)) return;
    rank.insertBefore(h("option", { value: String(number) }, String(number)), options.find((option) => Number(option.value) > number) || null);
  }

  /** From the newest lines on, with what is chosen now. */
  function again() {
    ++turn;
    cursor = "";
    list.replaceChildren();
    return read(signal).catch(() => {});  // The next refresh asks again, and says what is wrong.
  }

  async function read(nowSignal) {
    signal = nowSignal;
    if (asking === turn) return;  // The answer is on its way.
    const mine = asking = turn;
    try {
      for (let more = true; more;) {
        const place = cursor ? `cursor=${encodeURIComponent(cursor)}` : `tail=${FIRST}`;
        const part = await get(`jobs/${id}/logs?${place}&min_level=${level.value}&rank=${rank.value}`, signal);
        if (turn !== mine) return;  // Something else was chosen meanwhile.
        ({ cursor, more } = part);
        list.append(...part.lines.map(row));
        while (list.children.length > MOST_SHOWN) list.firstChild.remove();
        empty.hidden = list.children.length > 0;
        list.hidden = !empty.hidden;
        for (const line of part.lines) meet(line.rank);
        if (part.lines.length) toEnd();
      }
    } finally {
      if (asking === mine) asking = -1;
    }
  }

  return { element, read };
}
