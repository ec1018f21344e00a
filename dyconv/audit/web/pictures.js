// The videos of a clip, with boxes and names of faces drawn over them.
import { mediaPath } from "./api.js";
import { by, colourOf, el } from "./dom.js";

const FPS = 25;

export class Pictures {
  constructor(changed) {
    this.changed = changed; // called when a video shows another frame
    this.shown = [];
  }

  // Boxes belong to the frame that is seen, which may not be the one that is due.
  watch(picture) {
    if (!picture.video.requestVideoFrameCallback) return;
    picture.video.requestVideoFrameCallback((_, told) => {
      if (!this.shown.includes(picture)) return;
      picture.frame = Math.round(told.mediaTime * FPS);
      this.changed();
      this.watch(picture);
    });
  }

  load(id, drawn, sizes) {
    this.shown = drawn.pictures.map((picture) => {
      const [width, height] = picture.size;
      const video = el("video", { playsinline: true, preload: "auto", width, height });
      video.muted = true;
      video.src = mediaPath(id, sizes[picture.key] || "full", picture.key);
      const canvas = el("canvas", { width, height });
      const faces = picture.faces.map((face) => ({ ...face, at: new Map(face.frames.map((frame, index) => [frame, index])) }));
      return { video, canvas, faces, width, height, node: el("div", { class: "picture" }, video, canvas) };
    });
    const empty = el("div", { class: "empty" }, "No picture is stored for this clip.");
    for (const picture of this.shown) this.watch(picture);
    by("pictures").replaceChildren(...(this.shown.length ? this.shown.map((picture) => picture.node) : [empty]));
    by("pictures").classList.toggle("two", this.shown.length > 1);
    this.frames = drawn.frames;
    return this.shown.map((picture) => picture.video);
  }

  // speaking: persons of the record who have a turn now; named: from a person of the record to the name shown
  draw(time, speaking, named) {
    const due = Math.min(Math.floor(time * FPS + 1e-6), this.frames - 1);
    for (const picture of this.shown) {
      const pen = picture.canvas.getContext("2d");
      const ratio = window.devicePixelRatio || 1;
      const wide = Math.max(1, Math.round(picture.canvas.clientWidth * ratio));
      const high = Math.max(1, Math.round(picture.canvas.clientHeight * ratio));
      if (picture.canvas.width !== wide || picture.canvas.height !== high) [picture.canvas.width, picture.canvas.height] = [wide, high];
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, wide, high);
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      const [across, down] = [wide / ratio, high / ratio];
      const scale = Math.min(across / picture.width, down / picture.height); // as `object-fit: contain` has it
      const left = (across - picture.width * scale) / 2;
      const top = (down - picture.height * scale) / 2;
      for (const face of picture.faces) this.face(pen, face, picture.frame ?? due, { scale, left, top, across }, speaking, named);
    }
  }

  face(pen, face, frame, fit, speaking, named) {
    const index = face.at.get(frame);
    if (index === undefined) return;
    const box = face.boxes[index];
    const [left, right] = [box[0], box[2]].map((value) => fit.left + value * fit.scale);
    const [top, bottom] = [box[1], box[3]].map((value) => fit.top + value * fit.scale);
    const name = face.person ? named(face.person) : face.name;
    const speaks = face.person !== null && speaking.has(face.person);
    pen.strokeStyle = pen.fillStyle = face.person ? colourOf(name) : "#8a7a00";
    pen.lineWidth = speaks ? 4 : 1.5;
    pen.strokeRect(left, top, right - left, bottom - top);
    pen.font = "600 13px system-ui, sans-serif";
    const label = speaks ? `${name} speaks` : name;
    const width = pen.measureText(label).width + 10;
    const x = Math.max(0, Math.min(left - 1, fit.across - width));
    const y = Math.max(top - 19, 0);
    pen.fillRect(x, y, width, 18);
    pen.fillStyle = "#fff";
    pen.fillText(label, x + 5, y + 13);
  }
}
