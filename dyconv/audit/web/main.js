// The page as a whole: which clip is shown, what was decided on it, and what each command does.
import { clipPath, get, name, open, post, setName, sound } from "./api.js";
import { choose, help } from "./dialogs.js";
import { banner, by, el, seconds, toast } from "./dom.js";
import { COMMANDS, faultKey, listen, shownKey } from "./keys.js";
import { Panels, sentence, WORDS } from "./panels.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Queue } from "./queue.js";
import * as lists from "./turns.js";
import { describe, Waves } from "./waves.js";

const NUDGED_MS = 350; // edges moved by keys are written once they rest for so long
const ASKED_MS = 4000; // how often others' decisions are asked for
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];
const OTHER = { p0: "p1", p1: "p0" };

const state = { session: null, detail: null, drawn: null, turns: [], selected: null, seq: 0, loading: 0, nudged: null };
const drawings = new Map(); // what is drawn of the last few clips, and of the next one
let writing = Promise.resolve(); // decisions are written one after the other

const player = new Player(moved, playing);
const pictures = new Pictures();
const queue = new Queue((id) => show(id));
const panels = new Panels((id) => decide("undo", { decision: id }));
const waves = new Waves({
  seek: (time) => player.seek(time),
  toggle: (id, what) => player.toggle(id, what),
  picked: (turn) => select(turn),
  edited: (turn, start, end) => edit(lists.resized(state.turns, turn, tenth(start, turn.start_s), tenth(end, turn.end_s), duration()), turn),
  created: (person, start, end) => create(person, tenth(start), tenth(end)),
  given: (turn, person) => give(turn, person),
});

// A dragged edge falls on 10 ms; one that was not dragged stays exactly where it was.
const tenth = (value, before = null) => (before !== null && Math.abs(value - before) < 0.0011 ? before : Math.round(value * 100) / 100);
const duration = () => (state.detail ? state.detail.seconds : 0);

// --- names: the record's own persons inside, those after an exchange on the page

const faceName = (person) => (state.detail.verdict.swapped === "people" ? OTHER[person] : person);
const voiceName = (person) => (state.detail.verdict.swapped ? OTHER[person] : person);

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

async function show(id) {
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
    await hear(id, drawn, turn);
    if (turn !== state.loading) return;
    document.documentElement.dataset.heard = id;
    ahead();
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
  location.replace(`#clip=${encodeURIComponent(detail.id)}`);
  await waved();
  player.seek(0);
}

// Rows anew: for another clip, or because voices and names were exchanged.
async function waved() {
  const { id } = state.detail;
  await waves.load(state.drawn, voiceName);
  if (state.detail.id !== id) return;
  settle();
  waves.curves();
  waves.heard(player);
}

async function hear(id, drawn, turn) {
  by("play").disabled = !drawn.tracks.length && !drawn.pictures.length;
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
function ahead() {
  const next = queue.nextOpen() || queue.beside(1);
  if (!next) return;
  drawnOf(next).catch(() => {});
  get(clipPath(next)).catch(() => {});
}

// Turns as they should be by now: corrected ones, else the record's.
function settle() {
  const { verdict, turns } = state.detail;
  state.turns = lists.withEvidence(verdict.turns || turns, turns);
  state.selected = lists.matching(state.turns, state.selected);
  redraw();
}

function redraw() {
  waves.turns(state.turns, state.selected, voiceName);
  by("selected").textContent = state.selected ? describe(state.selected, voiceName) : "";
  moved(player.now());
}

function select(turn) {
  state.selected = turn;
  redraw();
}

// --- decisions

function decide(kind, data) {
  if (!state.session.writes) return Promise.resolve(toast("read only: open the address that the server showed at its start", true));
  const { id, base } = state.detail;
  writing = writing.then(async () => {
    try {
      await took(await post(`${clipPath(id)}/decisions`, { kind, data, base }));
      return true;
    } catch (error) {
      fail(error);
      if (state.detail.id === id) settle(); // back to what is written
      return false;
    }
  });
  return writing;
}

// The server's word on a clip after a decision.
async function took(told) {
  queue.update([told.row]);
  banner("");
  if (!state.detail || told.row.id !== state.detail.id) return;
  const swapped = state.detail.verdict.swapped !== told.verdict.swapped;
  Object.assign(state.detail, told);
  panels.update(state.detail, voiceName);
  if (swapped) await waved();
  else settle();
}

async function verdict(kind, data, words) {
  await flush();
  if (!(await decide(kind, data))) return;
  toast(words);
  const next = queue.nextOpen();
  if (next) await show(next);
  else toast(`${words}; nothing is left to review in this list`);
}

async function reject() {
  const options = state.session.faults.map((fault) => ({ key: faultKey(fault), words: WORDS[fault] || fault, value: fault }));
  const answer = await choose("Reject: what is wrong?", options, { note: true });
  if (answer) await verdict("reject", { reason: answer.value, ...(answer.note && { note: answer.note }) }, `rejected: ${WORDS[answer.value]}`);
}

async function takedown() {
  const whys = ["a person does not consent", "a child", "private information", "the source asks for it"];
  const options = whys.map((why, index) => ({ key: String(index + 1), words: why, value: why }));
  const answer = await choose("Take down this clip: why?", options, { writing: "in your own words, then Enter", hint: "It is left out of every release from now on, until this is undone." });
  if (answer) await verdict("takedown", { why: answer.value }, "taken down");
}

async function mark(what) {
  await flush();
  const person = state.selected ? state.selected.person : soloed();
  const done = await decide("mark", { what, person, at_s: Math.min(Math.round(player.now() * 1000) / 1000, duration()) });
  if (done) toast(sentence({ kind: "mark", data: { what, person: person && voiceName(person), at_s: player.now() } }));
}

async function markOther() {
  const at = player.now();
  const options = state.session.faults.map((fault) => ({ key: faultKey(fault), words: WORDS[fault] || fault, value: fault }));
  const answer = await choose(`Mark at ${seconds(at)} s`, options);
  if (answer) await mark(answer.value);
}

async function swap(what) {
  await flush();
  if (state.detail.verdict.swapped === what) {
    const last = state.detail.decisions.findLast((decision) => decision.kind === "swap" && !decision.undone && !decision.stale);
    if (await decide("undo", { decision: last.id })) toast("no longer exchanged");
  } else if (await decide("swap", { what })) {
    toast(what === "people" ? "names exchanged" : "voices exchanged");
  }
}

async function takeBack(path, words) {
  await flush();
  if (!state.session.writes) return;
  try {
    const told = await post(path);
    if (!told.clip) return toast(`nothing to ${words}`);
    await took(told);
    toast(`${words === "undo" ? "undone" : "done again"}: ${told.kind}`);
    if (told.clip !== state.detail.id) await show(told.clip);
  } catch (error) {
    fail(error);
  }
}

// --- turns

// Shows a new list at once, and writes it; with `later` only when the keys rest.
function edit(turns, turn, later = false) {
  if (!turns) return redraw();
  state.turns = turns;
  state.selected = lists.matching(turns, turn);
  redraw();
  if (state.nudged) clearTimeout(state.nudged.timer);
  state.nudged = { timer: setTimeout(flush, NUDGED_MS) };
  if (!later) flush();
}

function flush() {
  if (!state.nudged) return writing;
  clearTimeout(state.nudged.timer);
  state.nudged = null;
  return decide("turns", { turns: lists.plain(state.turns) });
}

function soloed() {
  const alone = [...player.tracks.values()].filter((track) => track.solo && track.person);
  return alone.length === 1 ? alone[0].person : null;
}

function nudge(edge, step) {
  const turn = state.selected;
  if (!turn) return toast("choose a turn first: . and ,");
  const [start, end] = edge === "start" ? [turn.start_s + step, turn.end_s] : [turn.start_s, turn.end_s + step];
  if (end - start < lists.FRAME - 1e-6) return;
  const turns = lists.resized(state.turns, turn, start, end, duration());
  edit(turns, turns ? { ...turn, start_s: start, end_s: end } : turn, true);
}

function create(person, start, end) {
  const turns = lists.added(state.turns, person, Math.max(start, 0), Math.min(end, duration()), duration());
  if (!turns) {
    toast(person ? `${voiceName(person)} speaks there already` : "too short");
    return redraw();
  }
  edit(turns, { person, start_s: start, end_s: end });
}

function give(turn, person) {
  edit(lists.given(state.turns, turn, person), { ...turn, person });
}

function step(by_) {
  const { turns, selected } = state;
  if (!turns.length) return;
  const at = player.now();
  let index = selected ? turns.indexOf(selected) + by_ : by_ > 0 ? turns.findIndex((turn) => turn.start_s >= at - 1e-3) : turns.findLastIndex((turn) => turn.start_s < at);
  index = Math.min(Math.max(index, 0), turns.length - 1);
  select(turns[index]);
  player.seek(turns[index].start_s);
}

function withTurn(act) {
  if (state.selected) act(state.selected);
  else toast("choose a turn first: . and ,");
}

// --- what the player says

function moved(time) {
  if (!state.detail) return;
  by("clock").textContent = `${seconds(time)} / ${seconds(duration())} s`;
  waves.at(time);
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

function speed(by_) {
  const index = SPEEDS.indexOf(player.rate) + by_;
  if (SPEEDS[index]) player.setRate(SPEEDS[index]);
}

function zoom(by_) {
  by("zoom").textContent = `zoom ${Math.round(waves.zoom(waves.factor * by_) * 10) / 10}×`;
}

// Persons as they are named on the page: key 1 is always the voice that is called p0 there.
const solo = (shown) => player.only(voiceName(shown));
const sides = () => ({ [voiceName("p0")]: -1, [voiceName("p1")]: 1 });

const ACTS = {
  accept: () => verdict("accept", {}, "accepted"),
  reject,
  swapPeople: () => swap("people"),
  swapVoices: () => swap("voices"),
  bleed: () => mark("bleed"),
  cut: () => mark("cut"),
  identity: () => mark("identity"),
  mark: markOther,
  takedown,
  undo: () => takeBack("/api/undo", "undo"),
  redo: () => takeBack("/api/redo", "redo"),
  nextTurn: () => step(1),
  lastTurn: () => step(-1),
  startEarlier: () => nudge("start", -lists.FRAME),
  startLater: () => nudge("start", lists.FRAME),
  endEarlier: () => nudge("end", -lists.FRAME),
  endLater: () => nudge("end", lists.FRAME),
  owner: () => withTurn((turn) => give(turn, { [voiceName("p0")]: voiceName("p1"), [voiceName("p1")]: null, null: voiceName("p0") }[turn.person])),
  merge: () => withTurn((turn) => edit(lists.merged(state.turns, turn), turn)),
  split: () => withTurn((turn) => edit(lists.split(state.turns, turn, player.now()), { ...turn, start_s: player.now() })),
  create: () => create(soloed() || (state.selected ? state.selected.person : voiceName("p0")), player.now(), player.now() + 0.6),
  remove: () => withTurn((turn) => edit(lists.removed(state.turns, turn), null)),
  loop: () => withTurn((turn) => player.span(turn.start_s, turn.end_s, true)),
  playTurn: () => withTurn((turn) => player.span(turn.start_s, turn.end_s, false)),
  play: () => player.switch(),
  back: () => player.seek(player.now() - 1),
  forth: () => player.seek(player.now() + 1),
  start: () => player.seek(0),
  soloP0: () => solo("p0"),
  soloP1: () => solo("p1"),
  apart: () => player.leftAndRight(sides()),
  mix: () => player.mix(),
  slower: () => speed(-1),
  faster: () => speed(1),
  zoomIn: () => zoom(1.5),
  zoomOut: () => zoom(1 / 1.5),
  next: () => show(queue.beside(1)),
  last: () => show(queue.beside(-1)),
  nextOpen: () => show(queue.nextOpen()),
  filter: () => queue.cycle(),
  search: () => by("search").focus(),
  evidence: () => panels.open({ evidence: "decisions", decisions: "source", source: "evidence" }[panels.tab]),
  help: () => help(COMMANDS.map(([title, lines]) => [title, lines.map(([, keys, words]) => ({ keys: keys.map(shownKey), words }))])),
};
const ONCE = new Set(["accept", "reject", "takedown", "undo", "redo", "swapPeople", "swapVoices"]); // not again while a key is held
const ANYTIME = new Set(["help", "search", "filter", "undo", "redo", "nextOpen", "next", "last"]);

async function run(command, repeated = false) {
  if ((repeated && ONCE.has(command)) || (!state.detail && !ANYTIME.has(command))) return;
  try {
    await ACTS[command]();
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  const told = error.message || String(error);
  if (error.status === 0 || error.status === 507) banner(told);
  else toast(told, true);
}

// --- the start

async function askName() {
  if (!state.session.reviewer && state.session.writes && !name()) {
    let answer = null;
    while (!answer) answer = await choose("Who is reviewing?", [], { writing: "your name, then Enter", hint: "It is written beside every decision." });
    setName(answer.value.slice(0, 80));
  }
  const who = state.session.reviewer || name() || "nobody";
  by("who").textContent = state.session.blind ? `${who} · blind` : who;
}

function buttons() {
  const lines = COMMANDS.flatMap(([, all]) => all).filter(([, , , words]) => words);
  by("actions").replaceChildren(
    ...lines.map(([command, keys, words, short]) => el("button", { type: "button", class: `act ${command === "help" ? "keys" : command}`, title: words, onclick: () => run(command) }, el("kbd", {}, shownKey(keys[0])), short)),
  );
  by("play").addEventListener("click", () => run("play"));
  by("apart").addEventListener("click", () => run("apart"));
  by("speed").addEventListener("click", () => player.setRate(SPEEDS[(SPEEDS.indexOf(player.rate) + 1) % SPEEDS.length]));
  by("zoom").addEventListener("click", () => zoom(waves.factor > 8 ? 1 / waves.factor : 1.5));
  by("who").addEventListener("click", async () => {
    if (state.session.reviewer) return;
    setName(null);
    await askName();
    await fetchQueue();
    await show(state.detail ? state.detail.id : queue.listed[0]);
  });
}

async function fetchQueue() {
  const told = await get("/api/queue");
  state.seq = told.seq;
  queue.load(told.rows);
}

async function others() {
  if (document.hidden) return;
  try {
    const told = await get(`/api/changes?after=${state.seq}`);
    state.seq = told.seq;
    queue.update(told.rows);
    if (state.detail && !state.nudged && told.rows.some((row) => row.id === state.detail.id)) {
      const detail = await get(clipPath(state.detail.id));
      if (detail.id === state.detail.id && !state.nudged) await took(detail);
    }
    banner("");
  } catch (error) {
    fail(error);
  }
}

async function begin() {
  buttons();
  state.session = await open();
  document.title = `${state.session.of} · dyconv audit`;
  by("of").textContent = state.session.of;
  await askName();
  if (!state.session.writes) banner("Read only: open the address that the server showed at its start, with its token.");
  const wanted = new URLSearchParams(location.hash.slice(1)).get("clip");
  await fetchQueue();
  listen(run);
  setInterval(others, ASKED_MS);
  window.addEventListener("pagehide", flush);
  const first = wanted && queue.rows.has(wanted) ? wanted : queue.listed[0] || [...queue.rows.keys()][0];
  document.documentElement.dataset.ready = "yes";
  if (first) await show(first);
  else by("title").textContent = "Nothing to review here.";
}

window.dyconvAudit = { state, player, queue, waves };
begin().catch((error) => {
  document.documentElement.dataset.ready = "no";
  banner(error.message || String(error));
});
