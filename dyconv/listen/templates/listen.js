"use strict";
// One clock for everything: the sounds are started together in one AudioContext, and picture, cursors and names follow it.
const data = JSON.parse(document.getElementById("data").textContent);
const tracks = new Map(data.tracks.map((track) => [track.id, { ...track, solo: false, mute: !track.heard, pan: 0 }]));
const video = document.getElementById("video");
const FPS = 25;
const LOST_S = 0.4; // a picture further off than this jumps; a smaller difference is caught up with by its speed
let context = null; // made with the first press of a key or button: browsers allow no sound before
let started = 0; // the context's time at which the clip's zero was, or would have been, played
let position = 0;
let playing = false;

function bytes(id) {
  const text = atob(document.getElementById(id).textContent.trim());
  const out = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) out[index] = text.charCodeAt(index);
  return out;
}

function fail(error) {
  const line = document.getElementById("error");
  line.textContent = `The player does not work here: ${error.message || error}`;
  line.hidden = false;
}

// --- what is heard

function audible(track) {
  const solo = [...tracks.values()].some((other) => other.solo);
  return solo ? track.solo : !track.mute;
}

function mixed() {
  for (const track of tracks.values()) {
    const on = audible(track);
    if (track.gain) track.gain.gain.setTargetAtTime(on ? 1 : 0, context.currentTime, 0.005);
    if (track.panner) track.panner.pan.setTargetAtTime(track.pan, context.currentTime, 0.005);
    document.querySelector(`[data-row="${track.id}"]`).classList.toggle("silent", !on);
    for (const what of ["solo", "mute"]) {
      document.querySelector(`[data-do="${what}"][data-track="${track.id}"]`).setAttribute("aria-pressed", track[what]);
    }
  }
  const apart = [...tracks.values()].some((track) => track.pan !== 0);
  document.getElementById("apart").setAttribute("aria-pressed", apart);
}

function together() {
  for (const track of tracks.values()) track.pan = 0;
}

function only(id) {
  if (!tracks.has(id)) return;
  const was = tracks.get(id).solo && [...tracks.values()].filter((track) => track.solo).length === 1;
  together();
  for (const track of tracks.values()) track.solo = !was && track.id === id;
  mixed();
}

function leftAndRight() {
  const apart = [...tracks.values()].some((track) => track.pan !== 0);
  for (const track of tracks.values()) {
    track.solo = !apart && track.person !== null;
    track.pan = apart ? 0 : { p0: -1, p1: 1 }[track.person] || 0;
  }
  mixed();
}

function mix() {
  together();
  for (const track of tracks.values()) {
    track.solo = false;
    track.mute = !track.heard;
  }
  mixed();
}

// --- when

function now() {
  if (!playing) return position;
  const heard = context.currentTime - started - (context.outputLatency || 0);
  return Math.min(Math.max(heard, position), data.duration);
}

function halt() {
  for (const track of tracks.values()) {
    if (track.source) track.source.stop();
    track.source = null;
  }
}

function begin() {
  const at = context.currentTime + 0.03;
  started = at - position;
  for (const track of tracks.values()) {
    track.source = context.createBufferSource();
    track.source.buffer = track.buffer;
    track.source.connect(track.gain);
    track.source.start(at, position);
  }
}

function wire() {
  context = new AudioContext();
  for (const track of tracks.values()) {
    track.gain = context.createGain();
    track.gain.gain.value = audible(track) ? 1 : 0;
    track.panner = context.createStereoPanner();
    track.panner.pan.value = track.pan;
    track.gain.connect(track.panner).connect(context.destination);
  }
}

async function play() {
  if (!context) wire();
  await context.resume();
  if (position >= data.duration - 0.01) position = 0;
  playing = true;
  begin();
  if (video) {
    video.currentTime = position;
    video.play().catch(() => {}); // a pause that comes at once ends the promise; that is no fault
  }
  document.getElementById("play").textContent = "Pause";
  requestAnimationFrame(tick);
}

function pause() {
  position = now();
  playing = false;
  halt();
  if (video) video.pause();
  document.getElementById("play").textContent = "Play";
  show();
}

function toggle() {
  if (playing) pause();
  else play().catch(fail);
}

function seek(time) {
  position = Math.min(Math.max(time, 0), data.duration);
  if (playing) {
    halt();
    begin();
  }
  if (video) video.currentTime = position;
  show();
}

function follow() {
  if (!video || video.seeking) return;
  const late = now() - video.currentTime;
  if (Math.abs(late) > LOST_S) video.currentTime = now();
  video.playbackRate = 1 + Math.min(Math.max(late, -0.2), 0.2);
}

function tick() {
  if (!playing) return;
  if (now() >= data.duration) {
    position = data.duration;
    playing = false;
    halt();
    if (video) video.pause();
    document.getElementById("play").textContent = "Play";
  } else {
    requestAnimationFrame(tick);
    follow();
  }
  show();
}

// --- what is seen

function show() {
  const time = now();
  document.getElementById("clock").textContent = `${time.toFixed(2)} / ${data.duration.toFixed(2)} s`;
  for (const track of tracks.values()) if (track.wave) track.wave.setTime(time);
  for (const row of document.querySelectorAll("tr[data-at]")) {
    row.classList.toggle("now", Number(row.dataset.at) <= time && time < Number(row.dataset.end));
  }
  names(time);
}

function names(time) {
  const canvas = document.getElementById("names");
  if (!canvas) return;
  [canvas.width, canvas.height] = data.size;
  const pen = canvas.getContext("2d");
  const frame = Math.min(Math.floor(time * FPS + 1e-6), Math.ceil(data.duration * FPS) - 1);
  const speaking = new Set(data.turns.filter((turn) => turn.start <= time && time < turn.end).map((turn) => turn.person));
  pen.font = "600 13px system-ui, sans-serif";
  for (const face of data.faces) {
    const index = face.at.get(frame);
    if (index === undefined) continue;
    const [left, top, right, bottom] = face.boxes[index];
    pen.strokeStyle = pen.fillStyle = face.colour;
    pen.lineWidth = face.person && speaking.has(face.person) ? 4 : 1.5;
    pen.strokeRect(left, top, right - left, bottom - top);
    const label = face.person && speaking.has(face.person) ? `${face.name} speaks` : face.name;
    const width = pen.measureText(label).width + 10;
    const up = Math.max(top - 19, 0);
    pen.fillRect(left - 1, up, width, 18);
    pen.fillStyle = "#fff";
    pen.fillText(label, left + 4, up + 13);
  }
}

function said(turn) {
  const who = turn.person || (turn.unsure ? "unsure: given to nobody" : "somebody else");
  const agree = turn.agreement === null ? "" : `, lips and voice agree for ${Math.round(100 * turn.agreement)} %`;
  return `${who}, ${turn.start.toFixed(2)} to ${turn.end.toFixed(2)} s, confidence ${turn.confidence.toFixed(2)}${agree}`;
}

function drawTurns(track, regions) {
  for (const turn of data.turns) {
    if (track.person && turn.person && turn.person !== track.person) continue;
    const alpha = Math.round(255 * (0.12 + 0.33 * turn.confidence)).toString(16).padStart(2, "0");
    const region = regions.addRegion({
      start: turn.start,
      end: Math.min(turn.end, data.duration),
      color: turn.person ? turn.colour + alpha : "transparent",
      drag: false,
      resize: false,
    });
    const shape = region.element;
    shape.title = said(turn);
    if (!turn.person) {
      shape.style.backgroundImage = "repeating-linear-gradient(45deg, rgba(122,127,136,.55) 0 4px, transparent 4px 8px)";
    } else if (!track.person) {
      shape.style.height = "50%"; // both at once show above one another
      shape.style.top = turn.person === "p0" ? "0" : "50%";
    }
    if (turn.person && turn.confidence < 0.7) shape.style.borderBottom = `3px dashed ${turn.colour}`;
  }
}

function drawChance(track) {
  const values = data.chances[track.id];
  if (!values) return;
  const canvas = document.createElement("canvas");
  canvas.className = "chance";
  canvas.title = `probability that ${track.label} speaks`;
  [canvas.width, canvas.height] = [values.length, 16];
  const pen = canvas.getContext("2d");
  pen.fillStyle = track.colour;
  values.forEach((percent, index) => pen.fillRect(index, 16 - (16 * percent) / 100, 1, 16));
  document.getElementById(`wave-${track.id}`).append(canvas);
}

async function draw(track, first) {
  const regions = WaveSurfer.Regions.create();
  const plugins = first ? [regions, WaveSurfer.Timeline.create({ height: 14, style: { fontSize: "11px" } })] : [regions];
  track.wave = WaveSurfer.create({
    container: `#wave-${track.id}`,
    height: 64,
    waveColor: track.colour,
    progressColor: track.colour,
    cursorColor: "#d00",
    cursorWidth: 2,
    peaks: [track.buffer.getChannelData(0)],
    duration: data.duration,
    hideScrollbar: true,
    maxPeak: data.loudest,
    normalize: true,
    plugins,
  });
  await new Promise((done) => track.wave.once("ready", done));
  drawTurns(track, regions);
  drawChance(track);
  track.wave.on("interaction", seek);
  track.regions = regions;
}

// --- buttons and keys

const KEYS = {
  " ": toggle,
  ArrowLeft: () => seek(now() - 2),
  ArrowRight: () => seek(now() + 2),
  Home: () => seek(0),
  1: () => only("p0"),
  2: () => only("p1"),
  3: leftAndRight,
  m: mix,
};

function listenTo() {
  document.getElementById("play").addEventListener("click", toggle);
  document.getElementById("apart").addEventListener("click", leftAndRight);
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => {
      const track = tracks.get(button.dataset.track);
      track[button.dataset.do] = !track[button.dataset.do];
      if (button.dataset.do === "solo") together();
      mixed();
    });
  }
  for (const row of document.querySelectorAll("tr[data-at]")) row.addEventListener("click", () => seek(Number(row.dataset.at)));
  document.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && event.target.closest("button, summary")) return; // it presses that button
    event.preventDefault();
    act();
  });
}

async function prepare() {
  for (const face of data.faces) face.at = new Map(face.frames.map((frame, index) => [frame, index]));
  if (video) video.src = URL.createObjectURL(new Blob([bytes("film")], { type: "video/mp4" }));
  if (!tracks.size) return;
  const decoder = new OfflineAudioContext(1, 1, 48000); // decodes without leave to play
  for (const track of tracks.values()) track.buffer = await decoder.decodeAudioData(bytes(`sound-${track.id}`).buffer);
  data.loudest = 1e-3;
  for (const track of tracks.values()) for (const value of track.buffer.getChannelData(0)) data.loudest = Math.max(data.loudest, Math.abs(value));
  let first = true;
  for (const track of tracks.values()) {
    await draw(track, first);
    first = false;
  }
  listenTo();
  mixed();
  show();
  document.getElementById("play").disabled = false;
}

window.dyconvListen = { tracks, play, pause, seek, now, only, mix, leftAndRight, data };
prepare()
  .then(() => (document.documentElement.dataset.ready = "yes"))
  .catch((error) => {
    document.documentElement.dataset.ready = "no";
    fail(error);
  });
