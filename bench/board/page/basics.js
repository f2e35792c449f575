// Small helpers: elements, numbers as text, and the families' marks.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const FAMILIES = ["floor", "traditional", "enhanced", "llm"];
const byId = (id) => document.getElementById(id);

// An element with attributes and children; text of strangers only ever becomes a text node.
function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const familyClass = (family) => (FAMILIES.includes(family) ? family : "unknown");
const known = (value) => value !== null && value !== undefined;
const score = (value) => (known(value) ? value.toFixed(4) : "—");

// Seconds in the largest unit that leaves a number above one.
function duration(seconds) {
  if (!known(seconds)) return "—";
  if (seconds < 0.1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 100) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${(seconds / 60).toFixed(seconds < 600 ? 1 : 0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// Rank bounds: "2" or "1–28".
const rankText = (line) => (line.first === line.last ? `${line.first}` : `${line.first}–${line.last}`);

const fullName = (line) => [line.name, ...line.axes].join(" · ");

// Square, circle, diamond, triangle: families are told apart without colour.
function markPath(family, x, y, r) {
  const shapes = {
    floor: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    traditional: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
    enhanced: `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  };
  return shapes[family] || `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`;
}

function glyph(family) {
  const path = svg("path", { d: markPath(family, 6, 6, 4.2), class: "glyph" });
  return svg("svg", { width: 12, height: 12, class: familyClass(family), "aria-hidden": "true" }, path);
}
