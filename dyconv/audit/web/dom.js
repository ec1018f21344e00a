// Makes elements. Text is always set as text: a title with markup in it shows as it is written.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") Object.assign(made.style, value);
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "dataset") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const by = (id) => document.getElementById(id);

let fading = null;
export function toast(text, wrong = false) {
  const line = by("toast");
  line.textContent = text;
  line.className = wrong ? "shown wrong" : "shown";
  clearTimeout(fading);
  fading = setTimeout(() => (line.className = ""), wrong ? 8000 : 2600);
}

export function banner(text) {
  by("banner").textContent = text || "";
  by("banner").hidden = !text;
}

export const seconds = (value) => value.toFixed(2);
export const COLOURS = { p0: "#0072B2", p1: "#D55E00" }; // Okabe and Ito: told apart with every kind of colour blindness
export const NOBODY = "#7a7f87";
export const colourOf = (person) => COLOURS[person] || NOBODY;
