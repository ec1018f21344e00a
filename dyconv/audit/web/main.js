// The start of the page, and what each command does.
import { get, name, open, playsAtOnce, setName, setPlaysAtOnce } from "./api.js";
import { choose, help } from "./dialogs.js";
import { banner, by, el, seconds, toast } from "./dom.js";
import { create, edit, flush, give, nudge, soloed, step, withTurn } from "./editing.js";
import { COMMANDS, faultKey, listen, shownKey } from "./keys.js";
import { sentence, WORDS } from "./panels.js";
import { decide, duration, fail, others, panels, player, queue, READ_ONLY, show, state, takeBack, verdict, voiceName, waves } from "./review.js";
import * as lists from "./turns.js";

const ASKED_MS = 4000; // how often others' decisions are asked for
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

// --- commands

const faults = () => state.session.faults.map((fault) => ({ key: faultKey(fault), words: WORDS[fault] || fault, value: fault }));

async function reject() {
  const answer = await choose("Reject: what is wrong?", faults(), { note: true });
  if (answer) await verdict("reject", { reason: answer.value, ...(answer.note && { note: answer.note }) }, `rejected: ${WORDS[answer.value]}`);
}

async function takedown() {
  const whys = ["a person does not consent", "a child", "private information", "the source asks for it"];
  const options = whys.map((why, index) => ({ key: String(index + 1), words: why, value: why }));
  const hint = "It is left out of every release from now on, until this is undone.";
  const answer = await choose("Take down this clip: why?", options, { writing: "in your own words, then Enter", hint });
  if (answer) await verdict("takedown", { why: answer.value }, "taken down");
}

async function mark(what) {
  await flush();
  const person = state.selected ? state.selected.person : soloed();
  const at_s = Math.min(Math.round(player.now() * 1000) / 1000, duration());
  if (await decide("mark", { what, person, at_s })) toast(sentence({ kind: "mark", data: { what, person: person && voiceName(person), at_s } }));
}

async function markOther() {
  const answer = await choose(`Mark at ${seconds(player.now())} s`, faults());
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

function speed(by_) {
  const index = SPEEDS.indexOf(player.rate) + by_;
  if (SPEEDS[index]) player.setRate(SPEEDS[index]);
}

function zoom(by_) {
  by("zoom").textContent = `zoom ${Math.round(waves.zoom(waves.factor * by_, player.now()) * 10) / 10}×`;
}

function playAtOnce(value) {
  setPlaysAtOnce(value);
  by("autoplay").setAttribute("aria-pressed", String(value));
}

// Keys name persons as the page does: 1 is always the voice that is called p0 there.
const solo = (shown) => player.only(voiceName(shown));
const nextOwner = (person) => (person === null ? voiceName("p0") : person === voiceName("p0") ? voiceName("p1") : null);
const toSplit = () => ({ ...state.selected, start_s: player.now() });

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
  owner: () => withTurn((turn) => give(turn, nextOwner(turn.person))),
  merge: () => withTurn((turn) => edit(lists.merged(state.turns, turn), turn)),
  split: () => withTurn((turn) => edit(lists.split(state.turns, turn, player.now()), toSplit())),
  create: () => create(soloed() || (state.selected ? state.selected.person : voiceName("p0")), player.now(), player.now() + 0.6),
  remove: () => withTurn((turn) => edit(lists.removed(state.turns, turn), null)),
  loop: () => withTurn((turn) => player.span(turn.start_s, turn.end_s, true)),
  playTurn: () => withTurn((turn) => player.span(turn.start_s, turn.end_s, false)),
  play: () => player.switch(),
  autoplay: () => playAtOnce(!playsAtOnce()),
  back: () => player.seek(player.now() - 1),
  forth: () => player.seek(player.now() + 1),
  frameBack: () => player.seek(player.now() - lists.FRAME),
  frameForth: () => player.seek(player.now() + lists.FRAME),
  start: () => player.seek(0),
  soloP0: () => solo("p0"),
  soloP1: () => solo("p1"),
  apart: () => player.leftAndRight({ [voiceName("p0")]: -1, [voiceName("p1")]: 1 }),
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
const ONCE = new Set(["accept", "reject", "takedown", "undo", "redo", "swapPeople", "swapVoices", "play"]); // not again while a key is held
const ANYTIME = new Set(["help", "search", "filter", "undo", "redo", "nextOpen", "next", "last"]); // also without a clip

const AT_ONCE = new Set(COMMANDS.find(([title]) => title === "Play")[1].map(([command]) => command));
let before = Promise.resolve(); // commands wait for each other: a key pressed while the next clip comes is about that one

function run(command, repeated = false) {
  if (repeated && ONCE.has(command)) return before;
  const act = async () => {
    if (!state.detail && !ANYTIME.has(command)) return;
    try {
      await ACTS[command]();
    } catch (error) {
      fail(error);
    }
  };
  if (AT_ONCE.has(command)) return act();
  before = before.then(act);
  return before;
}

// --- the start

async function askName() {
  if (!state.session.reviewer && state.session.writes && !name()) {
    let answer = null;
    while (!answer) answer = await choose("Who is reviewing?", [], { writing: "your name, then Enter", hint: "It is written beside every decision.", must: true });
    setName(answer.value.slice(0, 80));
  }
  const who = state.session.reviewer || name() || "nobody";
  by("who").textContent = state.session.blind ? `${who} · blind` : who;
}

function buttons() {
  const lines = COMMANDS.flatMap(([, all]) => all).filter(([, , , words]) => words);
  by("actions").replaceChildren(
    ...lines.map(([command, keys, words, short]) =>
      el("button", { type: "button", class: `act ${command === "help" ? "keys" : command}`, title: words, onclick: () => run(command) }, el("kbd", {}, shownKey(keys[0])), short),
    ),
  );
  by("play").addEventListener("click", () => run("play"));
  by("autoplay").addEventListener("click", () => run("autoplay"));
  playAtOnce(playsAtOnce());
  by("apart").addEventListener("click", () => run("apart"));
  by("speed").addEventListener("click", () => player.setRate(SPEEDS[(SPEEDS.indexOf(player.rate) + 1) % SPEEDS.length]));
  by("zoom").addEventListener("click", () => zoom(waves.factor > 8 ? 1 / waves.factor : 1.5));
  by("who").addEventListener("click", rename);
}

async function rename() {
  if (state.session.reviewer || !state.session.writes) return;
  await flush();
  setName(null);
  await askName();
  await fetchQueue();
  await show(state.detail ? state.detail.id : queue.listed[0]);
}

async function fetchQueue() {
  const told = await get("/api/queue");
  state.seq = told.seq;
  queue.load(told.rows);
}

async function begin() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("clip");
  buttons();
  state.session = await open();
  document.title = `${state.session.of} · dyconv audit`;
  by("of").textContent = state.session.of;
  await askName();
  if (!state.session.writes) banner(READ_ONLY);
  await fetchQueue();
  listen(run);
  setInterval(others, ASKED_MS);
  window.addEventListener("pagehide", flush);
  document.documentElement.dataset.ready = "yes";
  const first = wanted && queue.rows.has(wanted) ? wanted : queue.nextOpen() || queue.listed[0] || [...queue.rows.keys()][0];
  if (first) await show(first);
  else by("title").textContent = "Nothing to review here.";
}

window.dyconvAudit = { state, player, queue, waves };
begin().catch((error) => {
  document.documentElement.dataset.ready = "no";
  banner(error.message || String(error));
});
