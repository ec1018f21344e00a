// The queue: filters, search, and a list that only draws the rows in view.
import { by, el } from "./dom.js";

const HEIGHT = 46; // of a row, pixels; the same in style.css
const SPARE = 6; // rows drawn above and below what is seen

const isOpen = (row) => row.state === "open";
export const FILTERS = [
  { id: "open", label: "to review", test: isOpen },
  { id: "sample", label: "sample", test: (row) => row.place !== null },
  { id: "second", label: "second", test: (row) => row.second },
  { id: "disagree", label: "disagree", test: (row) => row.disagree },
  { id: "stale", label: "changed", test: (row) => row.stale > 0 },
  { id: "done", label: "done", test: (row) => !isOpen(row) },
  { id: "all", label: "all", test: () => true },
];
const ALWAYS = new Set(["open", "done", "all"]);

const SIGNS = { accepted: "✓", rejected: "✕", taken_down: "⊘", open: "" };

export class Queue {
  constructor(chosen) {
    this.chosen = chosen; // called with the id of a clip that was clicked
    this.rows = new Map(); // by id, in the order of review
    this.filter = "open";
    this.listed = [];
    this.current = null;
    this.places = 0; // clips of a sample
    this.drawn = new Map(); // id -> {node, row, index, current} of the rows in view
    by("list").addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(by("list"));
    by("search").addEventListener("input", () => this.list());
    by("list").addEventListener("click", (event) => {
      const row = event.target.closest("[data-id]");
      if (row) this.chosen(row.dataset.id);
    });
  }

  load(rows) {
    this.rows = new Map(rows.map((row) => [row.id, row]));
    this.places = rows.filter((row) => row.place !== null).length;
    if (rows.some((row) => row.place !== null && isOpen(row))) this.filter = "sample";
    this.list();
  }

  update(rows) {
    let other = false;
    for (const row of rows) {
      if (!this.rows.has(row.id)) continue;
      this.rows.set(row.id, row);
      other = true;
    }
    if (other) this.list(true);
  }

  use(filter) {
    this.filter = filter;
    this.list();
    by("list").scrollTop = 0;
    this.reveal();
  }

  cycle() {
    const shown = this.usable();
    this.use(shown[(shown.findIndex((filter) => filter.id === this.filter) + 1) % shown.length].id);
  }

  usable() {
    const rows = [...this.rows.values()];
    return FILTERS.filter((filter) => ALWAYS.has(filter.id) || filter.id === this.filter || rows.some(filter.test));
  }

  // Decided clips stay in view until the filter is chosen again: what was just accepted can be looked at, and undone.
  list(keep = false) {
    const test = FILTERS.find((filter) => filter.id === this.filter).test;
    const wanted = by("search").value.trim().toLowerCase();
    const before = keep ? new Set(this.listed) : null;
    this.listed = [];
    const counted = [...this.rows.values()].filter((row) => this.places === 0 || row.place !== null);
    const done = counted.filter((row) => !isOpen(row)).length;
    for (const row of this.rows.values()) {
      if (!(test(row) || (before && before.has(row.id)))) continue;
      if (wanted && !`${row.id} ${row.title} ${row.layout || ""} ${row.reason || ""}`.toLowerCase().includes(wanted)) continue;
      this.listed.push(row.id);
    }
    this.position = new Map(this.listed.map((id, index) => [id, index]));
    by("spacer").style.height = `${this.listed.length * HEIGHT}px`;
    by("count").textContent = `${done} of ${counted.length}${this.places ? " sampled" : ""} reviewed · ${this.listed.length} shown`;
    by("progress").firstChild.style.width = `${(100 * done) / Math.max(counted.length, 1)}%`;
    by("filters").replaceChildren(...this.usable().map((filter) => this.button(filter)));
    this.draw();
  }

  button(filter) {
    const pressed = filter.id === this.filter;
    return el("button", { type: "button", class: "chip", "aria-pressed": String(pressed), onclick: () => this.use(filter.id) }, filter.label);
  }

  draw() {
    const list = by("list");
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(this.listed.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + SPARE);
    const before = this.drawn;
    this.drawn = new Map();
    const added = [];
    for (let index = first; index < last; index++) {
      const row = this.rows.get(this.listed[index]);
      const old = before.get(row.id);
      const current = row.id === this.current;
      const same = old && old.row === row && old.index === index && old.current === current;
      const kept = same ? old : { row, index, current, node: this.row(row, index) };
      if (same) before.delete(row.id);
      else added.push(kept.node);
      this.drawn.set(row.id, kept);
    }
    for (const { node } of before.values()) node.remove();
    by("spacer").append(...added);
  }

  row(row, index) {
    const confidence = row.confidence === null ? "" : ` · ${row.confidence.toFixed(2)}`;
    const tags = [
      row.place === null ? null : row.second ? "2nd" : "s",
      row.disagree ? "≠" : null,
      row.swapped ? "⇄" : null,
      row.fixed ? "✎" : null,
      row.marks ? `⚑${row.marks > 1 ? row.marks : ""}` : null,
      row.stale ? "changed" : null,
    ].filter(Boolean);
    return el(
      "div",
      {
        class: `clip ${row.state}${row.id === this.current ? " current" : ""}`,
        role: "option",
        "aria-selected": String(row.id === this.current),
        style: { top: `${index * HEIGHT}px` },
        dataset: { id: row.id },
        title: row.id,
      },
      el("span", { class: "sign", title: row.reason || row.state }, SIGNS[row.state]),
      el("span", { class: "name" }, row.title),
      el("span", { class: "tags" }, tags.join(" ")),
      el("span", { class: "line soft" }, `${row.id.slice(-17).replace(/^_/, "")} · ${row.layout || "?"} · ${row.seconds.toFixed(1)} s${confidence}`),
    );
  }

  show(id) {
    this.current = id;
    if (this.rows.has(id) && !this.position.has(id)) {
      by("search").value = "";
      this.filter = "all";
      this.list();
    }
    this.reveal();
  }

  reveal() {
    const index = this.position.get(this.current);
    const list = by("list");
    if (index !== undefined) {
      const top = index * HEIGHT;
      if (top < list.scrollTop) list.scrollTop = Math.max(0, top - HEIGHT);
      else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + 2 * HEIGHT - list.clientHeight;
    }
    this.draw();
  }

  beside(step) {
    const index = this.position.get(this.current);
    if (index === undefined) return this.listed[0] || null;
    return this.listed[index + step] || null;
  }

  // The next clip that nobody has decided on: below, else from the top.
  nextOpen() {
    const start = (this.position.get(this.current) ?? -1) + 1;
    const order = [...this.listed.slice(start), ...this.listed.slice(0, start)];
    return order.find((id) => isOpen(this.rows.get(id)) && id !== this.current) || null;
  }
}
