// What a reviewer does to turns: shown at once, written as one list as soon as it rests.
import { toast } from "./dom.js";
import { decide, duration, player, redraw, state, voiceName, written } from "./review.js";
import * as lists from "./turns.js";

const NUDGED_MS = 350; // edges moved by keys are written once they rest for so long
let nudged = null;

export const pending = () => nudged !== null;

export function select(turn) {
  state.selected = turn;
  redraw();
}

// Shows a new list, and writes it; with `later` only when the keys rest.
export function edit(turns, turn, later = false) {
  if (!turns) {
    redraw();
    return;
  }
  state.turns = turns;
  state.selected = lists.matching(turns, turn);
  redraw();
  if (nudged) clearTimeout(nudged);
  nudged = setTimeout(flush, NUDGED_MS);
  if (!later) flush();
}

// Writes what was not written yet; resolves when all that was decided is.
export function flush() {
  if (nudged === null) return written();
  clearTimeout(nudged);
  nudged = null;
  return decide("turns", { turns: lists.plain(state.turns) });
}

export function soloed() {
  const alone = [...player.tracks.values()].filter((track) => track.solo && track.person);
  return alone.length === 1 ? alone[0].person : null;
}

export function nudge(edge, step) {
  const turn = state.selected;
  if (!turn) {
    toast("choose a turn first: . and ,");
    return;
  }
  const [start, end] = edge === "start" ? [turn.start_s + step, turn.end_s] : [turn.start_s, turn.end_s + step];
  if (end - start < lists.FRAME - 1e-6) return;
  const turns = lists.resized(state.turns, turn, start, end, duration());
  if (turns) edit(turns, { ...turn, start_s: start, end_s: end }, true);
}

export function create(person, start, end) {
  const turns = lists.added(state.turns, person, Math.max(start, 0), Math.min(end, duration()), duration());
  if (turns) edit(turns, { person, start_s: start, end_s: end });
  else {
    toast(person ? `${voiceName(person)} speaks there already` : "too short");
    redraw();
  }
}

export function give(turn, person) {
  edit(lists.given(state.turns, turn, person), { ...turn, person });
}

export function step(by) {
  const { turns, selected } = state;
  if (!turns.length) return;
  const at = player.now();
  const near = by > 0 ? turns.findIndex((turn) => turn.start_s >= at - 1e-3) : turns.findLastIndex((turn) => turn.start_s < at);
  const index = selected ? turns.indexOf(selected) + by : near < 0 && by > 0 ? turns.length - 1 : near;
  const turn = turns[Math.min(Math.max(index, 0), turns.length - 1)];
  select(turn);
  player.seek(turn.start_s);
}

export function withTurn(act) {
  if (state.selected) act(state.selected);
  else toast("choose a turn first: . and ,");
}
