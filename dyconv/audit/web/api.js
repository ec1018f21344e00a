// Talks to the server: the token from the address, the reviewer's name, and errors as sentences.
const KEPT = "dyconv-audit";
const kept = read();
let reviewer = kept.reviewer || null;
let runsOn = Boolean(kept.runsOn); // clips play as soon as they are there
let token = new URLSearchParams(location.hash.slice(1)).get("token") || kept.token || null;
if (location.hash.includes("token=")) {
  keep();
  history.replaceState(null, "", location.pathname + location.search); // not left lying in the address bar
}

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) || {};
  } catch {
    return {};
  }
}

function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify({ token, reviewer, runsOn }));
  } catch {
    // a browser that keeps nothing: the name is asked again next time
  }
}

export function name() {
  return reviewer;
}

export function setName(value) {
  reviewer = value;
  keep();
}

export const playsAtOnce = () => runsOn;
export function setPlaysAtOnce(value) {
  runsOn = value;
  keep();
}

export class Refused extends Error {
  constructor(status, told) {
    super([told.error || `the server answered ${status}`, told.hint].filter(Boolean).join(": "));
    this.status = status;
  }
}

async function asked(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers["X-Dyconv-Token"] = token;
  if (reviewer) headers["X-Reviewer"] = encodeURIComponent(reviewer);
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "same-origin" });
  } catch {
    throw new Refused(0, { error: "the server does not answer", hint: "nothing was written; is it still running?" });
  }
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, told.detail ? { error: String(told.detail) } : told);
  return told;
}

export const get = (path) => asked(path);

const KEPT_ALIVE = 60000; // bytes that a browser sends on after the page was closed
export function post(path, body) {
  const text = JSON.stringify(body || {});
  return asked(path, { method: "POST", body: text, headers: { "Content-Type": "application/json" }, keepalive: text.length < KEPT_ALIVE });
}

export async function open() {
  if (token) await post("/api/session").catch(() => {}); // a wrong token shows below as `writes: false`
  return get("/api/session");
}

export const clipPath = (id) => `/api/clips/${encodeURIComponent(id)}`;
export const mediaPath = (id, size, key) => `/media/${encodeURIComponent(id)}/${size}/${encodeURIComponent(key)}`;

export async function sound(id, key) {
  const answer = await fetch(mediaPath(id, "full", key), { credentials: "same-origin" });
  if (!answer.ok) throw new Refused(answer.status, { error: `${key} cannot be read` });
  return answer.arrayBuffer();
}
