// Controls: which board and dataset, which lines, and the theme.
function chip(type, group, value, text, checked, family = null) {
  const input = el("input", { type, name: group, value, checked: checked ? "" : null });
  return el("label", { class: family ? familyClass(family) : null }, input, family ? glyph(family) : null, text);
}

function drawControls() {
  const names = board().datasets.map((dataset) => dataset.name);
  const chips = names.map((name) => chip("radio", "dataset", name, name, name === state.dataset));
  if (names.length > 1) chips.push(chip("radio", "dataset", "", "all", state.dataset === ""));
  byId("datasets").replaceChildren(...chips);
  const present = new Set(board().datasets.flatMap((d) => d.lines.map((line) => familyClass(line.family))));
  const families = [...FAMILIES, "unknown"].filter((family) => present.has(family));
  state.families = new Set(families);
  byId("families").replaceChildren(...families.map((f) => chip("checkbox", "family", f, f, true, f)));
}

function drawAbout() {
  byId("about").textContent = state.dataset === "" ? "" : `${about(plotted())}.`;
  const notes = datasets().flatMap((dataset) => dataset.notes.map((note) => `${datasets().length > 1 ? `${dataset.name}: ` : ""}${note}`));
  byId("notes").lastElementChild.replaceChildren(list(notes));
}

function drawOverall() {
  const { note, heads, groups } = board().overall;
  const classes = ([, number]) => (number ? "n" : null);
  const head = el("tr", {}, heads.map((h) => el("th", { scope: "col", class: classes(h) }, h[0])));
  const bodies = groups.map(([name, lines]) => {
    const rows = lines.map((cells) => el("tr", {}, cells.map((text, place) => {
      const attributes = { class: `${place === 1 ? "fixed" : ""} ${classes(heads[place]) || ""}` };
      return place === 1 ? el("th", { scope: "row", ...attributes }, text) : el("td", attributes, text);
    })));
    const group = el("tr", { class: "group" }, el("th", { colspan: heads.length, scope: "rowgroup" }, el("span", {}, name)));
    return el("tbody", {}, group, rows);
  });
  byId("overall").hidden = board().datasets.length < 2;
  byId("overall").querySelector("p").textContent = note;
  byId("overall").querySelector("table").replaceChildren(el("thead", {}, head), ...bodies);
}

function drawAll() {
  drawTable();
  drawAbout();
  drawPlots();
}

function chooseBoard(number) {
  state.board = number;
  state.dataset = board().datasets[board().first].name;
  drawControls();
  drawOverall();
  drawAll();
}

const form = byId("controls");
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", ({ target }) => {
  if (target.id !== "text") return;
  state.text = target.value;
  drawAll();
});
form.addEventListener("change", (event) => {
  const { name, id, value } = event.target;
  // when the search loses its focus nothing may be drawn anew: a press that took the focus would be lost
  if (id === "text") return null;
  if (id === "boards") return chooseBoard(+value);
  if (name === "dataset") state.dataset = value;
  if (name === "family") state.families = new Set([...form.querySelectorAll("[name=family]:checked")].map((i) => i.value));
  if (id === "seeds") state.seeds = +value;
  return drawAll();
});

// A choice of theme outlives the visit where the browser keeps anything for a local file.
const stored = (action) => {
  try {
    return action(localStorage);
  } catch {
    return null;
  }
};
const chosen = stored((storage) => storage.getItem("theme"));
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
byId("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  stored((storage) => storage.setItem("theme", dark ? "light" : "dark"));
});

if (DATA.boards.length) {
  const options = DATA.boards.map(({ name }, place) => el("option", { value: place, selected: place === DATA.first ? "" : null }, name));
  byId("boards").append(...options);
  chooseBoard(DATA.first);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) drawPlots();
    width = innerWidth;
  });
} else {
  for (const section of document.querySelectorAll("main > section:not(:first-child)")) section.hidden = true;
}
