// The clip that is shown, and what is decided on it. Nothing counts until the server said that it is written.
import { clipPath, get, playsAtOnce, post, sound } from "./api.js";
import { create, edit, flush, give, pending, select } from "./editing.js";
import { banner, by, seconds, toast } from "./dom.js";
import { Panels } from "./panels.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Queue } from "./queue.js";
import * as lists from "./turns.js";
import { describe, Waves } from "./waves.js";

export const OTHER = { p0: "p1", p1: "p0" };
export const state = { session: null, detail: null, drawn: null, turns: [], selected: null, seq: 0, loading: 0 };
const drawings = new Map(); // what is drawn of the last few clips, and of the next one
let writing = Promise.resolve(); // decisions are written one after the other

export const player = new Player(moved, playing);
const pictures = new Pictures(() => boxes(player.now()));
export const queue = new Queue((id) => show(id));
export const panels = new Panels((id) => decide("undo", { decision: id }));
export const waves = new Waves({
  seek: (time) => player.seek(time),
  toggle: (id, what) => player.toggle(id, what),
  picked: select,
  edited: (turn, start, end) => edit(lists.resized(state.turns, turn, tenth(start, turn.start_s), tenth(end, turn.end_s), duration()), turn),
  created: (person, start, end) => create(person, tenth(start), tenth(end)),
  given: give,
});

// A dragged edge falls on 10 ms; one that was not dragged stays exactly where it was.
const tenth = (value, before = null) => (before !== null && Math.abs(value - before) < 0.0011 ? before : Math.round(value * 100) / 100);
export const duration = () => (state.detail ? state.detail.seconds : 0);

// Inside are the record's own persons; after an exchange the page names them otherwise.
const faceName = (person) => (state.detail.verdict.swapped === "people" ? OTHER[person] : person);
export const voiceName = (person) => (state.detail.verdict.swapped ? OTHER[person] : person);

export function fail(error) {
  const told = error.message || String(error);
  if (error.status === 0 || error.status === 507) banner(told);
  else toast(told, true);
}

// --- a clip

async function drawnOf(id) {
  if (!drawings.has(id)) drawings.set(id, get(`${clipPath(id)}/drawn`));
  if (drawings.size > 8) drawings.delete(drawings.keys().next().value);
  try {
    return await drawings.get(id);
  } catch (error) {
    drawings.delete(id);
    throw error;
  }
}

// Resolves when the clip is seen; its sound may come a moment later.
export async function show(id) {
  if (!id) return;
  await flush();
  const started = performance.now();
  const turn = ++state.loading;
  try {
    const [detail, drawn] = await Promise.all([get(clipPath(id)), drawnOf(id)]);
    if (turn !== state.loading) return;
    await present(detail, drawn);
    if (turn !== state.loading) return;
    document.documentElement.dataset.clip = id;
    document.documentElement.dataset.drawnMs = String(Math.round(performance.now() - started));
    hear(id, drawn, turn).then(() => {
      if (turn !== state.loading) return;
      document.documentElement.dataset.heard = id;
      document.documentElement.dataset.heardMs = String(Math.round(performance.now() - started));
      if (playsAtOnce() && navigator.userActivation.hasBeenActive) player.play().catch(fail);
      ahead();
    });
  } catch (error) {
    fail(error);
  }
}

async function present(detail, drawn) {
  Object.assign(state, { detail: { ...detail, seconds: Math.max(drawn.seconds, 0.04) }, drawn, selected: null });
  by("title").textContent = detail.title;
  by("subtitle").textContent = [detail.id, detail.layout, `${seconds(drawn.seconds)} s`, detail.source.licence].filter(Boolean).join(" · ");
  by("zoom").textContent = "zoom 1×";
  const videos = pictures.load(detail.id, drawn, detail.videos);
  player.load(drawn.tracks, videos, drawn.seconds);
  panels.show(detail, drawn, voiceName);
  queue.update([detail.row]);
  queue.show(detail.id);
  history.replaceState(null, "", `#clip=${encodeURIComponent(detail.id)}`);
  await waved();
  player.seek(0);
}

// Rows anew: for another clip, or because voices and names were exchanged.
async function waved() {
  const { id } = state.detail;
  await waves.load(state.drawn, state.detail.shots, voiceName);
  if (state.detail.id !== id) return;
  settle();
  waves.curves();
  waves.heard(player);
}

async function hear(id, drawn, turn) {
  by("play").disabled = false; // without any sound the curves can be followed
  const failed = [];
  await Promise.all(
    drawn.tracks.map(async (track) => {
      try {
        const bytes = await sound(id, track.key);
        if (turn === state.loading) await player.decode(track.id, bytes);
      } catch {
        failed.push(track.id);
      }
    }),
  );
  if (failed.length && turn === state.loading) toast(`cannot be played: ${failed.join(", ")}`, true);
}

// What comes next is made ready while this one is looked at.
async function ahead() {
  const next = queue.nextOpen() || queue.beside(1);
  if (!next) return;
  try {
    const [, drawn] = await Promise.all([get(clipPath(next)), drawnOf(next)]);
    for (const track of drawn.tracks) await sound(next, track.key); // the browser keeps it
  } catch {
    // whatever is wrong with it is told when it is shown
  }
}

// Turns as they should be by now: corrected ones, else the record's.
export function settle() {
  const { verdict, turns } = state.detail;
  state.turns = lists.withEvidence(verdict.turns || turns, turns);
  state.selected = lists.matching(state.turns, state.selected);
  redraw();
}

export function redraw() {
  waves.turns(state.turns, state.selected, state.detail.verdict.marks, voiceName);
  by("selected").textContent = state.selected ? describe(state.selected, voiceName) : "";
  moved(player.now());
}

// --- decisions

export function decide(kind, data) {
  if (!state.session.writes) return Promise.resolve(toast("read only: open the address that the server showed at its start", true));
  const { id, base } = state.detail;
  writing = writing.then(async () => {
    try {
      const seen = state.detail.id === id ? state.detail.verdict.turns_by : null;
      await took(await post(`${clipPath(id)}/decisions`, { kind, data, base, ...(kind === "turns" && { seen }) }));
      return true;
    } catch (error) {
      fail(error);
      if (error.status === 409) await reread(id).catch(fail);
      if (state.detail.id === id) settle(); // back to what is written
      return false;
    }
  });
  return writing;
}

export const written = () => writing;

export async function reread(id) {
  const detail = await get(clipPath(id));
  if (state.detail.id === id) await took(detail);
}

// The server's word on a clip after a decision.
export async function took(told) {
  banner("");
  const here = state.detail && told.row.id === state.detail.id;
  if (here && told.seq < state.detail.seq) return; // an answer that was overtaken by a later one
  queue.update([told.row]);
  if (!here) return;
  const swapped = state.detail.verdict.swapped !== told.verdict.swapped;
  const known = JSON.stringify([told.verdict, told.decisions]) === JSON.stringify([state.detail.verdict, state.detail.decisions]);
  if (known) return; // what was drawn stays as it is, perhaps under somebody's hand
  Object.assign(state.detail, told);
  panels.update(state.detail, voiceName);
  if (swapped) await waved();
  else if (!pending()) settle();
}

export async function verdict(kind, data, words) {
  await flush();
  if (!(await decide(kind, data))) return;
  toast(words);
  const next = queue.nextOpen();
  if (next) await show(next);
  else toast(`${words}; nothing is left to review in this list`);
}

export async function takeBack(path, words) {
  await flush();
  if (!state.session.writes) return;
  const told = await post(path);
  if (!told.clip) {
    toast(`nothing to ${words}`);
    return;
  }
  await took(told);
  toast(`${words === "undo" ? "undone" : "done again"}: ${told.kind}`);
  if (told.clip !== state.detail.id) await show(told.clip);
}

// What others decided meanwhile.
export async function others() {
  if (document.hidden || waves.held) return;
  try {
    const told = await get(`/api/changes?after=${state.seq}`);
    state.seq = told.seq;
    queue.update(told.rows);
    if (state.detail && !pending() && told.rows.some((row) => row.id === state.detail.id)) await reread(state.detail.id);
    banner(state.session.writes ? "" : READ_ONLY);
  } catch (error) {
    fail(error);
  }
}

export const READ_ONLY = "Read only: open the address that the server showed at its start, with its token.";

// --- what the player says

function moved(time) {
  if (!state.detail) return;
  by("clock").textContent = `${seconds(time)} / ${seconds(duration())} s`;
  waves.at(time);
  boxes(time);
}

function boxes(time) {
  // A face speaks when its own voice has a turn: after an exchange of voices that is the other's.
  const other = state.detail.verdict.swapped === "voices";
  const speaking = new Set(state.turns.filter((turn) => turn.person && turn.start_s <= time && time < turn.end_s).map((turn) => (other ? OTHER[turn.person] : turn.person)));
  pictures.draw(time, speaking, faceName);
}

function playing() {
  by("play").textContent = player.playing ? "Pause" : "Play";
  by("speed").textContent = `${player.rate}×`;
  by("apart").setAttribute("aria-pressed", String(player.apart()));
  waves.heard(player);
}
