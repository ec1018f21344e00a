// Questions in a dialog: answered with one key, or with the mouse.
import { by, el } from "./dom.js";

// options: [{key, words, value}]; gives {value, note} or null. `writing`: own words are an answer too.
export function choose(title, options, { writing = null, note = false, hint = "", must = false } = {}) {
  const dialog = by("chooser");
  return new Promise((done) => {
    let answer = null;
    const text = el("input", { type: "text", maxlength: "1000", placeholder: writing || "w: a note first, then Enter and the reason's key", "aria-label": writing || "note", autocomplete: "off" });
    const finish = (value) => {
      answer = value === null ? null : { value, note: note && text.value.trim() ? text.value.trim() : null };
      dialog.close();
    };
    const list = el(
      "div",
      { class: "options" },
      options.map((option) => el("button", { type: "button", onclick: () => finish(option.value) }, el("kbd", {}, option.key), el("span", {}, option.words))),
    );
    const keys = (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && event.target === text && writing) {
        event.preventDefault();
        if (text.value.trim()) finish(text.value.trim());
        return;
      }
      if (event.key === "Enter" && event.target === text && options.length) {
        event.preventDefault();
        list.querySelector("button").focus();
        return;
      }
      if (note && event.key === "w" && event.target !== text) {
        event.preventDefault();
        text.focus();
        return;
      }
      if (event.target === text || event.ctrlKey || event.metaKey || event.altKey) return;
      const found = options.find((option) => option.key === event.key.toLowerCase());
      if (!found) return;
      event.preventDefault();
      finish(found.value);
    };
    dialog.replaceChildren(
      el("h2", {}, title),
      hint ? el("p", { class: "soft small" }, hint) : "",
      list,
      writing || note ? text : "",
      must ? "" : el("p", { class: "soft small" }, el("kbd", {}, "esc"), " leaves it"),
    );
    dialog.addEventListener("keydown", keys);
    dialog.addEventListener(
      "close",
      () => {
        dialog.removeEventListener("keydown", keys);
        done(answer);
      },
      { once: true },
    );
    dialog.showModal();
    if (!options.length) text.focus();
    else if (writing || note) list.querySelector("button").focus();
  });
}

export function help(groups) {
  const dialog = by("chooser");
  if (dialog.open) return;
  const block = ([title, commands]) =>
    el("section", {}, el("h3", {}, title), commands.map((command) => el("div", { class: "help-line" }, el("span", {}, command.keys.map((key) => el("kbd", {}, key))), el("span", {}, command.words))));
  dialog.replaceChildren(
    el("h2", {}, "Keys"),
    el("div", { class: "keys-list" }, groups.map(block)),
    el("p", { class: "soft small" }, "Mouse: drag a turn's edge to move it, drag on empty waveform for a new turn, drag a turn up or down to give it to somebody else. Turns on the mix row belong to nobody."),
  );
  const close = (event) => {
    event.stopPropagation();
    event.preventDefault();
    dialog.close();
  };
  dialog.addEventListener("keydown", close, { once: true });
  dialog.addEventListener("click", () => dialog.close(), { once: true });
  dialog.addEventListener("close", () => dialog.removeEventListener("keydown", close), { once: true });
  dialog.showModal();
}
