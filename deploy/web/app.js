// Which page is shown, and when it asks the service again.

import { h } from "./dom.js";
import { NeedsToken, Unreachable, Gone, setToken, token } from "./api.js";
import { clusterPage } from "./page_cluster.js";
import { comparePage } from "./page_compare.js";
import { jobPage } from "./page_job.js";
import { jobsPage } from "./page_jobs.js";

const SHORTEST_MS = 3000, LONGEST_MS = 60000;
const main = document.getElementById("main"), notice = document.getElementById("notice"), live = document.getElementById("live");

function pageOf(hash) {
  const [name, argument = ""] = hash.replace(/^#\/?/, "").split("/");
  if (name === "job") return jobPage(decodeURIComponent(argument), () => refresh());
  if (name === "compare") return comparePage(decodeURIComponent(argument).split(",").filter(Boolean));
  if (name === "cluster") return clusterPage();
  return jobsPage();
}

let stop = new AbortController(), timer = 0, pause = SHORTEST_MS, page = null, asking = null;

function say(kind, text) {
  if (live.textContent === text) return;  // A screen reader would say it again.
  live.className = `live ${kind}`;
  live.replaceChildren(h("span", {}, text));
}

function askForToken(message) {
  const input = h("input", { type: "password", id: "token", autocomplete: "off", size: 30 });
  const use = (event) => {
    event.preventDefault();
    setToken(input.value);
    open();
  };
  main.replaceChildren(h("form", { class: "card stack", onsubmit: use }, h("h1", {}, "A token, please"),
    h("p", {}, token() ? `The service does not take this token: ${message}` : "This service shows jobs to those who have a token of it. The role viewer suffices."),
    h("p", { class: "quiet small" }, "Its operator makes one with ", h("code", {}, "imageddpo admin token create --owner NAME --role viewer"), ". It is kept in this tab until you close it."),
    h("div", { class: "row" }, h("label", { for: "token" }, "Token"), input, h("button", { type: "submit" }, "Use it"))));
  input.focus();
}

async function refresh() {
  clearTimeout(timer);
  const { signal } = stop;
  if (asking === signal) return;  // It goes on by itself.
  asking = signal;
  try {
    await page.refresh(signal);
    if (signal.aborted) return;
    notice.hidden = true;
    say("on", "live");
    pause = SHORTEST_MS;
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error instanceof NeedsToken) {
      say("off", "needs a token");
      page = null;  // Nothing is asked for until there is one.
      return askForToken(error.message);
    }
    pause = Math.min(2 * pause, LONGEST_MS);
    const again = `Asking again in ${Math.round(pause / 1000)} s.`;
    if (error instanceof Unreachable) notice.textContent = `${error.message} What you see may be old. ${again}`;
    else if (error instanceof Gone) notice.textContent = `${error.message} ${again}`;
    else notice.textContent = `The page could not be brought up to date: ${error.message}. ${again}`;
    notice.hidden = false;
    say("off", "not up to date");
  } finally {
    if (asking === signal) asking = null;
  }
  timer = setTimeout(refresh, document.hidden ? LONGEST_MS : pause);
}

function open() {
  stop.abort();
  stop = new AbortController();
  pause = SHORTEST_MS;
  page = pageOf(location.hash);
  document.title = `${page.title} · imageddpo`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === page.nav) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(page.element);
  window.scrollTo(0, 0);
  refresh();
}

window.addEventListener("hashchange", () => {
  if (location.hash === "#main") return;
  open();
  main.focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && page) refresh(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
open();
