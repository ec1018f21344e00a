// Every command of the page: its keys, its words in the help, and whether it has a button.
const FAULT_KEYS = { speaker: "s", turns: "t", bleed: "b", cut: "c", identity: "i", sync: "y", face: "f", noise: "n", language: "l", not_dyadic: "d", duplicate: "u", other: "o" };
export const faultKey = (fault) => FAULT_KEYS[fault] || fault[0];

// [group, [[name, keys, words, words of its button]]]
export const COMMANDS = [
  ["Decide", [
    ["accept", ["a"], "accept, and on to the next clip", "accept"],
    ["reject", ["r"], "reject: then the reason's key", "reject"],
    ["swapPeople", ["x"], "exchange the names p0 and p1", "names ⇄"],
    ["swapVoices", ["X"], "exchange the voices: each is the other's", "voices ⇄"],
    ["bleed", ["b"], "mark bleed here", "bleed"],
    ["cut", ["c"], "mark a cut error here", "cut error"],
    ["identity", ["i"], "mark a wrong identity here", "identity"],
    ["mark", ["m"], "mark something else here", "mark"],
    ["takedown", ["D"], "take down: somebody does not consent", "take down"],
    ["undo", ["u"], "undo your last decision, wherever it was", "undo"],
    ["redo", ["U"], "redo", null],
  ]],
  ["Turns", [
    ["nextTurn", ["."], "next turn", null],
    ["lastTurn", [","], "previous turn", null],
    ["startEarlier", ["q"], "its start 40 ms earlier", null],
    ["startLater", ["w"], "its start 40 ms later", null],
    ["endEarlier", ["o"], "its end 40 ms earlier", null],
    ["endLater", ["p"], "its end 40 ms later", null],
    ["owner", ["v"], "give it to the next: p0, p1, nobody", null],
    ["merge", ["g"], "merge with the same person's next turn", null],
    ["split", ["s"], "split at the cursor", null],
    ["create", ["t"], "new turn at the cursor, of who is soloed", null],
    ["remove", ["Delete", "Backspace"], "delete the turn", null],
    ["loop", ["l"], "play the turn again and again", null],
    ["playTurn", ["Enter"], "play the turn once", null],
  ]],
  ["Play", [
    ["play", [" "], "play, pause", null],
    ["autoplay", ["y"], "play each clip at once", null],
    ["back", ["ArrowLeft"], "1 s back", null],
    ["forth", ["ArrowRight"], "1 s on", null],
    ["frameBack", ["shift+ArrowLeft"], "one frame back", null],
    ["frameForth", ["shift+ArrowRight"], "one frame on", null],
    ["start", ["Home"], "to the start", null],
    ["soloP0", ["1"], "hear p0 alone", null],
    ["soloP1", ["2"], "hear p1 alone", null],
    ["apart", ["3"], "p0 in the left ear, p1 in the right", null],
    ["mix", ["4"], "hear the mix", null],
    ["slower", ["-"], "slower", null],
    ["faster", ["=", "+"], "faster", null],
    ["zoomIn", ["z"], "zoom in", null],
    ["zoomOut", ["Z"], "zoom out", null],
  ]],
  ["Queue", [
    ["next", ["j", "ArrowDown"], "next clip", null],
    ["last", ["k", "ArrowUp"], "previous clip", null],
    ["nextOpen", ["n"], "next clip to review", null],
    ["filter", ["f"], "next filter", null],
    ["search", ["/"], "find a clip", null],
    ["evidence", ["e"], "evidence, decisions, source", null],
    ["help", ["?", "h"], "these keys", "keys"],
  ]],
];

const NAMES = { " ": "space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Delete: "del", Backspace: "⌫" };
export const shownKey = (key) => (key.startsWith("shift+") ? `⇧${shownKey(key.slice(6))}` : NAMES[key]) || (/^[A-Z]$/.test(key) ? `⇧${key.toLowerCase()}` : key);

const byKey = new Map(COMMANDS.flatMap(([, lines]) => lines.flatMap(([name, keys]) => keys.map((key) => [key, name]))));

export function listen(run) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const typing = event.target.closest("input, textarea, select");
    if (typing) {
      if (event.key === "Escape" || event.key === "Enter") typing.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    const letter = event.key.length === 1;
    const key = letter ? (event.shiftKey ? event.key : event.key.toLowerCase()) : event.shiftKey ? `shift+${event.key}` : event.key; // caps lock is no shift
    const name = byKey.get(key) || byKey.get(event.key);
    if (!name) return;
    if ((event.key === " " || event.key === "Enter") && event.target.closest("a")) return;
    event.preventDefault();
    if (event.target.closest("button")) event.target.blur(); // the space bar plays, whatever was clicked before
    run(name, event.repeat);
  });
}
