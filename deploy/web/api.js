// Calls of the service. A token, where the service wants one, stays in this tab's sessionStorage.

const TOKEN = "imageddpo-token";

export class NeedsToken extends Error {}
export class Unreachable extends Error {}
export class Gone extends Error {}

export const token = () => sessionStorage.getItem(TOKEN) || "";
export function setToken(text) {
  if (text) sessionStorage.setItem(TOKEN, text.trim());
  else sessionStorage.removeItem(TOKEN);
}

async function call(path, signal, method = "GET") {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  if (method !== "GET") headers["X-Imageddpo-Change"] = "1";
  let response;
  try {
    response = await fetch(`/api/v1/${path}`, { method, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The service cannot be reached.");
  }
  if (response.ok) return response;
  const text = (await response.text()).trim();
  if (response.status === 401) throw new NeedsToken(text);
  if (response.status === 404) throw new Gone(text);
  if (response.status === 503) throw new Unreachable(text);
  throw new Error(text || `HTTP ${response.status}`);
}

export const get = async (path, signal) => (await call(path, signal)).json();
/** Asks for a change; an error has the service's reason. */
export const change = async (path) => (await call(path, undefined, "POST")).json();

/** All jobs, the newest first, without their settings. */
export async function allJobs(signal) {
  const jobs = [];
  let next = "";
  do {
    const page = await get(`jobs?view=summary&page_size=500&page_token=${encodeURIComponent(next)}`, signal);
    jobs.push(...page.jobs);
    next = page.next_page_token;
  } while (next && jobs.length < 5000);
  return jobs;
}

const pictures = new Map();  // By path, the oldest first.
const MOST_PICTURES = 400;

/** A picture as a data: URL: an <img> could not send the token. */
export async function picture(path, signal) {
  if (pictures.has(path)) return pictures.get(path);
  const blob = await (await call(path, signal)).blob();
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  pictures.set(path, url);
  if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  return url;
}
