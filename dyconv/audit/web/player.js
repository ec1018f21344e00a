// One clock for everything: the sounds start together in one AudioContext; pictures and cursors follow it.
const INSIDE_S = 0.01; // a picture is asked for a little after its start: rounding must not show the one before
const LOST_S = 0.35; // a picture further off than this jumps; a smaller difference is caught up with by its speed
export const RATE = 16000; // sounds are decoded at the rate they are stored in: an hour of tracks stays small

export class Player {
  constructor(moved, changed) {
    this.moved = moved; // called with the time at every picture
    this.changed = changed; // called when playing, solo or mute changed
    this.context = null;
    this.tracks = new Map();
    this.videos = [];
    this.duration = 0;
    this.position = 0;
    this.rate = 1;
    this.playing = false;
    this.stopAt = null;
    this.loopFrom = null;
  }

  load(tracks, videos, duration) {
    this.unload();
    this.duration = duration;
    this.videos = videos;
    for (const track of tracks) this.tracks.set(track.id, { ...track, solo: false, mute: false, pan: 0, buffer: null });
    this.mix();
  }

  unload() {
    if (this.playing) this.pause();
    for (const track of this.tracks.values()) {
      if (track.gain) track.gain.disconnect();
      if (track.panner) track.panner.disconnect();
    }
    for (const video of this.videos) {
      video.removeAttribute("src");
      video.load(); // frees what it had decoded
    }
    this.tracks = new Map();
    this.videos = [];
    this.position = 0;
    this.loopFrom = this.stopAt = null;
  }

  async decode(id, bytes) {
    const track = this.tracks.get(id);
    const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
    if (track && this.tracks.get(id) === track) track.buffer = buffer;
  }

  ready() {
    return [...this.tracks.values()].every((track) => track.buffer);
  }

  // --- what is heard

  audible(track) {
    const solo = [...this.tracks.values()].some((other) => other.solo);
    return solo ? track.solo : !track.mute;
  }

  mixed() {
    for (const track of this.tracks.values()) {
      if (!track.gain) continue;
      track.gain.gain.setTargetAtTime(this.audible(track) ? 1 : 0, this.context.currentTime, 0.005);
      track.panner.pan.setTargetAtTime(track.pan, this.context.currentTime, 0.005);
    }
    this.changed();
  }

  mix() {
    const first = this.tracks.keys().next().value;
    for (const track of this.tracks.values()) Object.assign(track, { solo: false, pan: 0, mute: track.id !== first });
    this.mixed();
  }

  only(id) {
    if (!this.tracks.has(id)) return;
    const alone = [...this.tracks.values()].filter((track) => track.solo).map((track) => track.id);
    const was = alone.length === 1 && alone[0] === id;
    for (const track of this.tracks.values()) Object.assign(track, { pan: 0, solo: !was && track.id === id });
    this.mixed();
  }

  toggle(id, what) {
    const track = this.tracks.get(id);
    track[what] = !track[what];
    if (what === "solo") for (const other of this.tracks.values()) other.pan = 0;
    this.mixed();
  }

  apart() {
    return [...this.tracks.values()].some((track) => track.pan !== 0);
  }

  leftAndRight(sides) {
    const was = this.apart();
    for (const track of this.tracks.values()) {
      track.solo = !was && Boolean(sides[track.id]);
      track.pan = was ? 0 : sides[track.id] || 0;
    }
    this.mixed();
  }

  // --- when

  now() {
    if (!this.playing) return this.position;
    const heard = this.position + (this.context.currentTime - this.since - (this.context.outputLatency || 0)) * this.rate;
    return Math.min(Math.max(heard, this.position), this.duration);
  }

  wire() {
    this.context = this.context || new AudioContext();
    for (const track of this.tracks.values()) {
      if (track.gain) continue;
      track.gain = this.context.createGain();
      track.gain.gain.value = this.audible(track) ? 1 : 0;
      track.panner = this.context.createStereoPanner();
      track.panner.pan.value = track.pan;
      track.gain.connect(track.panner).connect(this.context.destination);
    }
  }

  begin() {
    const at = this.context.currentTime + 0.03;
    this.since = at;
    for (const track of this.tracks.values()) {
      if (!track.buffer || this.position >= track.buffer.duration) continue;
      track.source = this.context.createBufferSource();
      track.source.buffer = track.buffer;
      track.source.playbackRate.value = this.rate;
      track.source.connect(track.gain);
      track.source.start(at, this.position);
    }
  }

  halt() {
    for (const track of this.tracks.values()) {
      if (track.source) track.source.stop();
      track.source = null;
    }
  }

  async play() {
    this.wire();
    await this.context.resume();
    if (this.position >= this.duration - 0.01) this.position = 0;
    this.playing = true;
    this.begin();
    for (const video of this.videos) {
      video.currentTime = this.position + INSIDE_S;
      video.playbackRate = this.rate;
      video.play().catch(() => {}); // a pause that comes at once ends the promise; that is no fault
    }
    this.changed();
    requestAnimationFrame(() => this.tick());
  }

  pause() {
    this.position = this.now();
    this.playing = false;
    this.stopAt = this.loopFrom = null;
    this.halt();
    for (const video of this.videos) {
      video.pause();
      video.currentTime = this.position + INSIDE_S;
    }
    this.changed();
    this.moved(this.position);
  }

  switch() {
    return this.playing ? this.pause() : this.play();
  }

  seek(time) {
    this.position = Math.min(Math.max(time, 0), this.duration);
    if (this.playing) {
      this.halt();
      this.begin();
    }
    for (const video of this.videos) video.currentTime = this.position + INSIDE_S;
    this.moved(this.position);
  }

  // Plays a span once, or again and again.
  async span(start, end, again) {
    if (this.playing) this.pause();
    this.seek(start);
    this.stopAt = end;
    this.loopFrom = again ? start : null;
    await this.play();
  }

  setRate(rate) {
    const at = this.now();
    this.rate = rate;
    for (const video of this.videos) video.playbackRate = rate;
    if (this.playing) this.seek(at);
    this.changed();
  }

  follow(time) {
    for (const video of this.videos) {
      if (video.seeking || video.readyState < 2) continue;
      const late = time - video.currentTime;
      if (Math.abs(late) > LOST_S) video.currentTime = time;
      else video.playbackRate = this.rate * Math.min(Math.max(1 + late, 0.75), 1.25);
    }
  }

  tick() {
    if (!this.playing) return;
    const time = this.now();
    if (this.stopAt !== null && time >= this.stopAt) {
      if (this.loopFrom === null) return this.pause();
      this.seek(this.loopFrom);
    } else if (time >= this.duration) {
      return this.pause();
    }
    this.follow(time);
    this.moved(time);
    requestAnimationFrame(() => this.tick());
  }
}
