// Beside the picture: why the clip is here, what was decided, where it comes from.
import { clipPath, get } from "./api.js";
import { by, el, seconds } from "./dom.js";

const TABS = [
  ["evidence", "Evidence"],
  ["decisions", "Decisions"],
  ["source", "Source"],
];
export const WORDS = {
  speaker: "wrong speaker",
  turns: "turns missing or with wrong edges",
  bleed: "the partner bleeds into a voice",
  cut: "cut error",
  identity: "wrong identity",
  sync: "sound and lips are apart",
  face: "box off the face, or no face",
  noise: "music, noise or a broken voice",
  language: "other language, or dubbed",
  not_dyadic: "not two people in conversation",
  duplicate: "duplicate",
  other: "something else",
};
const STATES = { open: "to review", accepted: "accepted", rejected: "rejected", taken_down: "taken down" };

export class Panels {
  constructor(undo) {
    this.undo = undo; // called with the id of a decision
    this.tab = "evidence";
  }

  show(detail, drawn, named) {
    Object.assign(this, { detail, drawn, named });
    this.evidence = null;
    this.draw();
  }

  update(detail, named) {
    Object.assign(this, { detail, named });
    this.draw();
  }

  open(tab) {
    this.tab = tab;
    this.draw();
  }

  draw() {
    const count = this.detail.decisions.filter((decision) => !decision.undone).length;
    by("tabs").replaceChildren(
      ...TABS.map(([id, words]) =>
        el("button", { type: "button", role: "tab", "aria-selected": String(id === this.tab), onclick: () => this.open(id) }, id === "decisions" && count ? `${words} ${count}` : words),
      ),
    );
    by("pane").replaceChildren(...this[this.tab === "evidence" ? "why" : this.tab === "decisions" ? "history" : "origin"]());
    standing(this.detail);
  }

  why() {
    const { measures, turns } = this.detail;
    const people = new Map();
    const whole = [];
    for (const [name, value] of Object.entries(measures)) {
      const person = name.split(".").find((part) => part === "p0" || part === "p1");
      if (!person) {
        if (!name.startsWith("audit.")) whole.push([name, value]);
        continue;
      }
      const rest = name.split(".").filter((part) => part !== person).join(".");
      if (!people.has(rest)) people.set(rest, {});
      people.get(rest)[person] = value;
    }
    for (const [name, values] of people) {
      if (typeof values.p0 !== "string" || values.p0 !== values.p1) continue; // the same words for both: once
      people.delete(name);
      whole.push([name, values.p0]);
    }
    const order = this.named("p0") === "p0" ? ["p0", "p1"] : ["p1", "p0"];
    const agreed = (person) => mean(turns.filter((turn) => turn.person === person), "agreement");
    const sure = (person) => mean(turns.filter((turn) => turn.person === person), "confidence");
    const rows = [["turns: confidence", order.map(sure)], ["turns: lips and voice agree", order.map(agreed)], ...[...people].map(([name, values]) => [name, order.map((person) => values[person])])];
    const parts = [
      ...this.drawn.notes.map((note) => el("p", { class: "wrong" }, `cannot be read: ${note}`)),
      table(["", "p0", "p1"], rows.map(([name, values]) => [name, ...values.map(told)])),
      table(["the clip", ""], [["layout", this.detail.layout || "not known"], ["shots", String(this.detail.shots.length)], ...whole.map(([name, value]) => [name, told(value)])]),
    ];
    if (this.evidence === null) this.ask();
    else parts.push(...this.stages());
    return parts;
  }

  async ask() {
    const id = this.detail.id;
    this.evidence = undefined;
    const found = await get(`${clipPath(id)}/evidence`).catch(() => ({ stages: [], others: [] }));
    if (this.detail.id !== id) return;
    this.evidence = found;
    if (this.tab === "evidence") this.draw();
  }

  stages() {
    if (!this.evidence) return [];
    const { stages, others } = this.evidence;
    const out = [];
    if (stages.length) out.push(table(["stage", "outcome", "s"], stages.map((stage) => [stage.stage, stage.state, stage.seconds.toFixed(1)])));
    if (others.length) out.push(table(["of the same source", "outcome"], others.map((other) => [other.id, [other.state, other.reason].filter(Boolean).join(": ")])));
    return out;
  }

  history() {
    const items = [...this.detail.decisions].reverse().map((decision) => this.decision(decision));
    return items.length ? items : [el("p", { class: "soft" }, "Nothing was decided yet.")];
  }

  decision(decision) {
    const gone = decision.undone || decision.stale;
    const words = [decision.undone ? "undone" : null, decision.stale ? "on an earlier record" : null].filter(Boolean).join(", ");
    return el(
      "div",
      { class: `decision${gone ? " gone" : ""}` },
      el("div", {}, el("b", {}, sentence(decision)), words ? el("span", { class: "soft" }, ` (${words})`) : null),
      decision.data.note ? el("div", { class: "note" }, decision.data.note) : null,
      el("div", { class: "soft small" }, `${decision.reviewer}${decision.round === 2 ? ", blind" : ""} · ${when(decision.time)} `, decision.undone ? null : el("button", { type: "button", class: "link", onclick: () => this.undo(decision.id) }, "undo")),
    );
  }

  origin() {
    const { source, id, start, people, tracks } = this.detail;
    const link = /^https?:\/\//.test(source.url) ? el("a", { href: source.url, target: "_blank", rel: "noopener noreferrer" }, source.url) : source.url;
    const seen = people.map((person) => [`${this.named(person.id)}: ${[person.seen ? "seen" : "not seen", person.heard ? "heard" : "not heard"].join(", ")}`, person.identity || ""]);
    return [
      table(["source", ""], [["clip", id], ["title", source.title || ""], ["id", source.id], ["from", `${seconds(start)} s`], ["licence", source.licence || "not stated"], ["language", source.language || "not stated"], ["channel", source.channel || ""], ["address", link], ["note", source.note || ""]].filter(([, value]) => value)),
      table(["person", "identity"], seen),
      table(["track", "shot", "frames", "width", "found"], tracks.map((track) => [`${track.id}${track.person ? ` = ${this.named(track.person)}` : ""}`, track.shot, `${track.start}-${track.end}`, `${Math.round(track.width)} px`, `${Math.round(100 * track.coverage)} %`])),
    ];
  }
}

export function sentence({ kind, data }) {
  const at = data.at_s === null || data.at_s === undefined ? "" : ` at ${seconds(data.at_s)} s`;
  switch (kind) {
    case "accept":
      return "accepted";
    case "reject":
      return `rejected: ${WORDS[data.reason]}`;
    case "swap":
      return data.what === "voices" ? "voices exchanged" : "names p0 and p1 exchanged";
    case "turns":
      return `turns corrected (${data.count} turns)`;
    case "mark":
      return `marked: ${WORDS[data.what]}${data.person ? `, ${data.person}` : ""}${at}`;
    case "takedown":
      return `taken down: ${data.why}`;
    default:
      return kind;
  }
}

function standing({ verdict, row }) {
  const extra = [
    verdict.reason && (WORDS[verdict.reason] || verdict.reason),
    verdict.swapped && (verdict.swapped === "voices" ? "voices exchanged" : "names exchanged"),
    verdict.turns && "turns corrected",
    verdict.marks.length && `${verdict.marks.length} mark${verdict.marks.length > 1 ? "s" : ""}`,
    verdict.stale && `${verdict.stale} on an earlier record`,
    row.disagree && "reviewers disagree",
  ].filter(Boolean);
  by("standing").replaceChildren(
    el("span", { class: `state ${verdict.state}` }, STATES[verdict.state]),
    el("span", { class: "soft small" }, [extra.join(" · "), verdict.reviewers.length ? `by ${verdict.reviewers.join(", ")}` : ""].filter(Boolean).join(" · ")),
  );
}

function table(heads, rows) {
  return el("table", { class: heads.length === 2 ? "plain" : "" }, el("tr", {}, heads.map((head) => el("th", {}, head))), rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell)))));
}

function mean(turns, what) {
  const known = turns.filter((turn) => turn[what] !== null && turn[what] !== undefined);
  const time = known.reduce((sum, turn) => sum + turn.end_s - turn.start_s, 0);
  return time ? known.reduce((sum, turn) => sum + turn[what] * (turn.end_s - turn.start_s), 0) / time : null;
}

function told(value) {
  if (value === undefined) return "";
  if (value === null) return "–";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value);
}

function when(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
