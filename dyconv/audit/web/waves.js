// One row a track: its waveform, the turns of its person over it, and curves of that person's head below.
import { by, colourOf, el, seconds } from "./dom.js";

const PEAK = 127;
const OCHRE = "#a08c00";
const DRAGGED = 12; // pixels up or down that make a press on a turn a move to another row
const nonce = document.getElementById("nonce").content;
const label = { mix: "mix", clean: "cleaned" };
const translucent = (colour, share) => colour + Math.round(255 * share).toString(16).padStart(2, "0");

export class Waves {
  // told: {seek(time), edited(turn, start, end), created(person, start, end), given(turn, person), picked(turn), toggle(id, what)}
  constructor(told) {
    this.told = told;
    this.rows = [];
    this.factor = 1;
    this.held = false; // something is being dragged
    by("tracks").addEventListener("pointerdown", () => (this.held = true), true);
    for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => (this.held = false), true);
    new ResizeObserver(() => this.curves()).observe(by("tracks"));
  }

  // Resolves when turns can be drawn.
  async load(drawn, shots, named) {
    for (const row of this.rows) row.wave.destroy();
    Object.assign(this, { drawn, shots, factor: 1 });
    const known = new Map(drawn.tracks.map((track) => [track.id, track]));
    const ids = ["mix", ...(known.has("clean") ? ["clean"] : []), ...(named("p0") === "p0" ? ["p0", "p1"] : ["p1", "p0"])];
    const loudest = Math.max(8, ...drawn.tracks.map((track) => track.peaks.reduce((most, value) => Math.max(most, value), 0)));
    this.rows = ids.map((id) => this.row(id, known.get(id), loudest, named));
    by("tracks").replaceChildren(...this.rows.map((row) => row.node));
    await Promise.all(this.rows.map((row, index) => this.wire(row, index === 0)));
  }

  row(id, track, loudest, named) {
    const person = id === "p0" || id === "p1" ? id : null;
    const name = person ? named(person) : label[id];
    const colour = person ? colourOf(name) : "#7a7f87";
    const button = (what, key) =>
      el("button", { type: "button", class: "small-button", "aria-pressed": "false", dataset: { what }, title: key, onclick: () => this.told.toggle(id, what) }, what);
    const holder = el("div", { class: "wave" });
    const curve = person ? el("canvas", { class: "curve" }) : null;
    const head = el("div", { class: "track-head" }, el("b", {}, el("i", { style: { background: colour } }), name), track ? [button("solo", "hear only this"), button("mute", "do not hear this")] : el("span", { class: "soft small" }, "no sound"));
    const node = el("div", { class: `track ${id}`, dataset: { row: id } }, head, el("div", { class: "body" }, holder, curve));
    return { id, person, name, colour, track, holder, curve, node, loudest };
  }

  wire(row, first) {
    row.regions = WaveSurfer.Regions.create();
    const plugins = first ? [row.regions, WaveSurfer.Timeline.create({ height: 14, style: { fontSize: "10px" } })] : [row.regions];
    const peaks = row.track && row.track.peaks.length ? row.track.peaks.map((value) => value / PEAK) : [0, 0];
    row.wave = WaveSurfer.create({
      container: row.holder,
      height: Math.round((row.id === "clean" ? 30 : row.person ? 58 : 46) * (window.innerHeight > 950 ? 1.4 : 1)),
      waveColor: translucent(row.colour, 0.75),
      progressColor: row.colour,
      cursorColor: "#d00",
      cursorWidth: 2,
      peaks: [peaks],
      duration: this.drawn.seconds,
      hideScrollbar: true,
      maxPeak: row.loudest / PEAK,
      normalize: true,
      cspNonce: nonce,
      plugins,
    });
    row.wave.on("interaction", (time) => this.told.seek(time));
    row.wave.on("scroll", () => this.together(row));
    const ready = new Promise((done) => row.wave.once("ready", done));
    if (row.id === "clean") return ready;
    ready.then(() => row.regions.enableDragSelection({ color: translucent(row.colour, 0.3) }, 4));
    row.regions.on("region-created", (region) => {
      if (region.ours) return;
      const { start, end } = region;
      region.remove();
      this.told.created(row.person, start, end);
    });
    row.regions.on("region-updated", (region) => region.turn && this.told.edited(region.turn, region.start, region.end));
    row.regions.on("region-clicked", (region) => region.turn && this.told.picked(region.turn));
    return ready;
  }

  together(from) {
    if (this.scrolling) return;
    this.scrolling = true;
    const at = from.wave.getScroll();
    for (const row of this.rows) if (row !== from && Math.abs(row.wave.getScroll() - at) > 1) row.wave.setScroll(at);
    this.scrolling = false;
    this.curves();
  }

  zoom(factor, middle) {
    const wide = this.rows[0].holder.clientWidth;
    this.factor = Math.min(Math.max(factor, 1), Math.max(1, (400 * this.drawn.seconds) / wide));
    for (const row of this.rows) {
      row.wave.zoom(this.factor === 1 ? 0 : (this.factor * wide) / this.drawn.seconds);
      if (this.factor > 1) row.wave.setScroll((middle / this.drawn.seconds) * this.factor * wide - wide / 2);
    }
    this.curves();
    return this.factor;
  }

  // --- turns

  turns(turns, selected, marks, named) {
    for (const row of this.rows) {
      row.regions.clearRegions();
      if (row.id === "clean") continue;
      for (const turn of turns) if (turn.person === row.person) this.region(row, turn, turn === selected, named);
      if (row.person !== null) continue;
      for (const turn of turns) if (turn.person) this.strip(row, turn, named);
      for (const [start] of this.shots.slice(1)) this.pin(row, start, "#7a7f87", "", "a cut");
      for (const mark of marks) if (mark.at_s !== null) this.pin(row, mark.at_s, "#d1242f", `⚑ ${mark.what}`, `marked: ${mark.what}`);
    }
  }

  // A place in time: a line over the mix.
  pin(row, at, colour, words, title) {
    const content = el("span", { style: { font: "600 10px system-ui, sans-serif", color: colour, whiteSpace: "nowrap", pointerEvents: "none", position: "relative", top: "10px" } }, words);
    const region = this.put(row, { start: at, end: at, color: colour, drag: false, resize: false, content });
    Object.assign(region.element.style, { pointerEvents: "none", borderLeft: `1px ${words ? "solid" : "dashed"} ${colour}` });
    region.element.title = title;
  }

  region(row, turn, selected, named) {
    const colour = colourOf(turn.person ? named(turn.person) : null);
    const sure = turn.confidence ?? 1;
    const said = turn.corrected ? "✎" : sure.toFixed(2);
    const words = el("span", { style: { font: "600 10px system-ui, sans-serif", pointerEvents: "none", whiteSpace: "nowrap", opacity: "0.85" } }, said);
    const region = this.put(row, { start: turn.start_s, end: turn.end_s, color: translucent(colour, 0.14 + 0.3 * sure), drag: false, resize: true, minLength: 0.04, content: words });
    region.turn = turn;
    const shape = region.element;
    shape.title = describe(turn, named);
    shape.style.overflow = "hidden";
    shape.style.cursor = "pointer";
    if (!turn.person) shape.style.backgroundImage = "repeating-linear-gradient(45deg, rgba(122,127,136,.45) 0 4px, transparent 4px 8px)";
    if (sure < 0.7 && !turn.corrected) shape.style.borderBottom = `3px dashed ${colour}`;
    if (selected) shape.style.boxShadow = "inset 0 0 0 2px currentColor";
    for (const handle of shape.querySelectorAll('[part*="region-handle"]')) handle.style.width = "7px";
    shape.addEventListener("pointerdown", (event) => this.carry(event, row, turn, shape));
  }

  // Both people's turns as thin lines on the mix: to see at once who has the floor, and where both have it.
  strip(row, turn, named) {
    const name = named(turn.person);
    const region = this.put(row, { start: turn.start_s, end: turn.end_s, color: translucent(colourOf(name), 0.85), drag: false, resize: false });
    Object.assign(region.element.style, { height: "5px", top: name === "p0" ? "0" : "6px", pointerEvents: "none" });
  }

  put(row, options) {
    const add = row.regions.addRegion;
    let made = null;
    const stop = row.regions.on("region-initialized", (region) => (region.ours = true));
    made = add({ ...options, end: Math.min(options.end, this.drawn.seconds) });
    stop();
    return made;
  }

  // A press on a turn's body that goes up or down carries it to another row: to another owner.
  carry(event, row, turn, shape) {
    if (event.button !== 0 || (event.target.getAttribute("part") || "").includes("handle")) return;
    event.stopPropagation(); // no new turn is begun here
    const from = event.clientY;
    let over = null;
    const rowAt = (y) => this.rows.find((other) => other.id !== "clean" && y >= other.node.getBoundingClientRect().top && y < other.node.getBoundingClientRect().bottom);
    const move = (moved) => {
      const far = Math.abs(moved.clientY - from) > DRAGGED;
      const found = far ? rowAt(moved.clientY) : null;
      over = found && found !== row ? found : null;
      for (const other of this.rows) other.node.classList.toggle("target", other === over);
      shape.style.opacity = far ? "0.45" : "";
    };
    const end = () => {
      document.removeEventListener("pointermove", move, true);
      document.removeEventListener("pointerup", end, true);
      document.removeEventListener("pointercancel", end, true);
      for (const other of this.rows) other.node.classList.remove("target");
      shape.style.opacity = "";
      if (over) this.told.given(turn, over.person);
    };
    document.addEventListener("pointermove", move, true);
    document.addEventListener("pointerup", end, true);
    document.addEventListener("pointercancel", end, true);
  }

  // --- at every picture

  at(time) {
    for (const row of this.rows) row.wave.setTime(time);
  }

  heard(player) {
    for (const row of this.rows) {
      const track = player.tracks.get(row.id);
      if (!track) continue;
      row.node.classList.toggle("silent", !player.audible(track));
      for (const button of row.node.querySelectorAll("[data-what]")) button.setAttribute("aria-pressed", String(track[button.dataset.what]));
    }
  }

  // --- curves

  curves() {
    if (!this.drawn) return;
    for (const row of this.rows) if (row.curve && row.wave) this.curve(row);
  }

  curve(row) {
    const canvas = row.curve;
    const ratio = window.devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [Math.max(1, Math.round(wide * ratio)), Math.max(1, Math.round(high * ratio))];
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const all = wide * this.factor;
    const left = this.factor > 1 ? row.wave.getScroll() : 0;
    const place = (frame) => (frame / 25 / this.drawn.seconds) * all - left;
    const chances = this.drawn.chances[row.person];
    if (chances) this.chance(pen, chances, place, high, row.colour);
    const curves = this.drawn.curves[row.person] || [];
    const styles = [{ color: getComputedStyle(canvas).color, width: 1.4 }, { color: OCHRE, width: 1.2 }];
    pen.fillStyle = "#7a7f87";
    for (const [start] of this.shots.slice(1)) pen.fillRect(place(start * 25), 0, 1, high);
    curves.forEach((curve, index) => line(pen, curve.values, place, wide, high, curve.unit === "degrees" ? [-60, 60] : limits(curve.values), styles[index]));
    legend(pen, curves, styles);
    const told = curves.map((curve) => `${curve.name}${curve.unit === "degrees" ? " (-60 to 60 degrees)" : ""}`);
    canvas.title = [...told, chances ? "strip at the foot: chance that this person speaks" : ""].filter(Boolean).join("; ");
  }

  chance(pen, values, place, high, colour) {
    pen.fillStyle = colour;
    values.forEach((percent, frame) => {
      const x = place(frame);
      pen.globalAlpha = percent / 100;
      pen.fillRect(x, high - 5, Math.max(place(frame + 1) - x, 1), 5);
    });
    pen.globalAlpha = 1;
  }
}

function legend(pen, curves, styles) {
  pen.font = "10px system-ui, sans-serif";
  let x = 4;
  curves.forEach((curve, index) => {
    pen.fillStyle = styles[index].color;
    pen.globalAlpha = 0.8;
    pen.fillText(curve.name, x, 9);
    x += pen.measureText(curve.name).width + 12;
  });
  pen.globalAlpha = 1;
}

function limits(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return high > low ? [low, high] : [low - 1, low + 1];
}

function line(pen, values, place, wide, high, [low, top], style) {
  const room = high - 8;
  pen.strokeStyle = style.color;
  pen.lineWidth = style.width;
  pen.beginPath();
  let drawing = false;
  for (let frame = 0; frame < values.length; frame++) {
    const x = place(frame);
    const value = values[frame];
    if (value === null || x < -5 || x > wide + 5) {
      drawing = false;
      continue;
    }
    const y = 1 + room * (1 - Math.min(Math.max((value - low) / (top - low), 0), 1));
    if (drawing) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    drawing = true;
  }
  pen.stroke();
}

export function describe(turn, named) {
  const who = turn.person ? named(turn.person) : turn.unsure ? "unsure: given to nobody" : "somebody else";
  const agree = turn.agreement === null || turn.agreement === undefined ? "" : `, lips and voice agree for ${Math.round(100 * turn.agreement)} %`;
  const sure = turn.corrected ? ", corrected" : `, confidence ${(turn.confidence ?? 1).toFixed(2)}`;
  return `${who}, ${seconds(turn.start_s)} to ${seconds(turn.end_s)} s${sure}${agree}`;
}
