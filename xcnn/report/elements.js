"use strict";
// Draws the report from the JSON in the page. Text goes into the page as text, never as HTML: names
// of classes and files may hold anything.

// Characters that turn text around, and those that end their effect: nobody needs them in a name.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\u200f\ufb1d-\ufdff\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const MAX_NAME = 40, SHORT_NAME = 12; // characters of any name; of one that fits everywhere

const plain = (key, value) => typeof value === "string" ? value.replace(TURNING, "\ufffd") : value;
const content = JSON.parse(document.getElementById("content").textContent, plain);

/** A name from right to left turns nothing around it: U+2068 isolates it, as <bdi> does. */
const isolated = (name) => RIGHT_TO_LEFT.test(name) ? `\u2068${name}\u2069` : name;
const clipped = (name) => [...name].length > MAX_NAME ? `${[...name].slice(0, MAX_NAME - 1).join("")}…` : name;

for (const run of content.runs) {
  run.names = run.classes;
  run.classes = run.names.map((name) => isolated(clipped(name)));
}

// -- what the page remembers when it loads itself again ------------------------------------------

const saved = { ...history.state };

function save(name, value) {
  saved[name] = value;
  history.replaceState(saved, "");
}

// -- elements ------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const isMissing = (value) => value === undefined || value === null || value === false;

/** Set attributes, listeners (onclick) and CSS variables (--v), and append children. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (isMissing(value)) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => !isMissing(child)));
  return element;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const quiet = (...text) => el("p", { class: "quiet" }, text);
const note = (...text) => el("p", { class: "note" }, text);
const columnHead = (name, attributes = {}) => el("th", { scope: "col", ...attributes }, name);
const rowHead = (name, attributes = {}) => el("th", { scope: "row", ...attributes }, name);

/** A part of the page that may be wider than it; a long one scrolls. */
function scrolling(label, child, rows = 0) {
  const style = rows > 40 ? "wide tall" : "wide";
  return el("div", { class: style, tabindex: 0, role: "region", "aria-label": label }, child);
}

/** A number in a table: `share` of 1 is drawn as a bar, `best` gets a star. */
const number = (text, more = {}) => ({ text, number: true, ...more });

/** A table; cells are texts, elements, or objects as of `number`. The first column has the heads. */
function table(caption, heads, rows, attributes = {}) {
  const parts = (value) => value?.number ? value : { text: value };
  const cell = (value, column) => {
    const { text, number, share, best } = parts(value);
    const style = [number && "number", !isMissing(share) && "share", best && "best"].filter(Boolean).join(" ");
    const star = best ? el("span", { class: "hidden" }, " (best)") : null;
    if (column === 0) return rowHead(text, { class: style || null });
    return el("td", { class: style || null, "--v": share }, text ?? "–", star);
  };
  const head = (value) => columnHead(parts(value).text, { class: parts(value).number ? "number" : null });
  return scrolling(caption, el("table", attributes,
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads.map(head))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))), rows.length);
}

/** Folded contents that stay open when the page loads itself again. */
function folded(key, title, ...children) {
  const node = el("details", { open: saved[key] === true }, el("summary", {}, title), children);
  node.addEventListener("toggle", () => save(key, node.open));
  return node;
}

/** The name of a class; a long one, which may be clipped, is its title too. */
function className(run, label) {
  const [name, whole] = [run.classes[label], run.names[label]];
  return whole.length > SHORT_NAME ? el("span", { title: whole }, name) : name;
}

function picture(source, alt, caption) {
  return el("figure", {}, el("img", { src: source, alt }), el("figcaption", {}, caption));
}

// -- numbers as text -------------------------------------------------------------------------------

const percent = (value) => isMissing(value) ? "–" : `${(100 * value).toFixed(2)}%`;
const whole = (value) => isMissing(value) ? "–" : Math.round(value).toLocaleString("en");
const plural = (count, one, many = `${one}s`) => `${whole(count)} ${count === 1 ? one : many}`;
const shape = (sizes) => sizes.join("×");
const time = (seconds) => new Date(1000 * seconds).toLocaleString();

/** A probability, which is 100% only if nothing is left. */
const probability = (p) => p > 0.9995 && p < 1 ? "> 99.9%" : `${(100 * p).toFixed(1)}%`;

/** Four digits. */
function short(value) {
  if (isMissing(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}
