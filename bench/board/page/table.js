// The board: six columns, sorted and filtered; a line opens to its details.
const state = { board: 0, dataset: "", families: new Set(), seeds: 0, text: "", key: "mean", down: true, open: new Set() };

const COLUMNS = [
  { key: "rank", head: "Rank", value: (line) => (line.first + line.last) / 2, number: false, down: false },
  { key: "name", head: "Method", value: (line) => fullName(line).toLowerCase(), number: false, down: false },
  { key: "mean", head: "NDCG@10, 95 %", value: (line) => line.mean, number: false, down: true },
  { key: "hit", head: "Hit@10", value: (line) => line.hit, number: true, down: true },
  { key: "cold", head: "Cold NDCG@10", value: (line) => line.cold, number: true, down: true },
  { key: "cost", head: "Cost", value: (line) => line.cost, number: true, down: false },
];

const board = () => DATA.boards[state.board];
const datasets = () => board().datasets.filter((d) => state.dataset === "" || d.name === state.dataset);

// What a search looks through: names, badges, verdicts, details and status.
function haystack(line) {
  if (!line.haystack) {
    const words = [fullName(line), line.family, line.status, ...(line.badges || []), ...(line.details || [])];
    if (line.paper) words.push(line.paper.word, ...line.paper.differs);
    line.haystack = words.join(" ").toLowerCase();
  }
  return line.haystack;
}

function passes(line) {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return (
    state.families.has(familyClass(line.family)) &&
    line.seeds >= state.seeds &&
    words.every((word) => haystack(line).includes(word))
  );
}

// Lines without a value stand last, whichever way the others go.
function sorted(lines) {
  const { value } = COLUMNS.find((column) => column.key === state.key);
  const sign = state.down ? -1 : 1;
  const numbered = lines.map((line, place) => [value(line), place, line]);
  const absent = (v) => !known(v) || Number.isNaN(v);
  numbered.sort(([a, i], [b, j]) => {
    if (absent(a) || absent(b)) return absent(a) - absent(b) || i - j;
    return a < b ? -sign : a > b ? sign : i - j;
  });
  return numbered.map(([, , line]) => line);
}

function drawHead() {
  const cells = COLUMNS.map((column, place) => {
    const on = column.key === state.key;
    const sort = on ? (state.down ? "descending" : "ascending") : "none";
    const press = () => {
      state.down = on ? !state.down : column.down;
      state.key = column.key;
      drawTable();
      document.querySelector(`#lines [data-key=${column.key}]`).focus();
    };
    const button = el("button", { type: "button", "data-key": column.key, onclick: press }, column.head);
    const classes = [place === 1 ? "fixed who" : "", column.number ? "n" : ""].join(" ");
    return el("th", { scope: "col", "aria-sort": sort, class: classes }, button);
  });
  return el("thead", {}, el("tr", {}, cells));
}

function bar(line, top) {
  const band = el("i");
  band.style.left = `${(100 * line.low) / top}%`;
  band.style.width = `${(100 * (line.high - line.low)) / top}%`;
  const dot = el("b");
  dot.style.left = `calc(${(100 * line.mean) / top}% - 1.5px)`;
  return el("span", { class: "bar", "aria-hidden": "true" }, band, dot);
}

function drawScore(line, top) {
  const told = `95 % interval ${score(line.low)} to ${score(line.high)}`;
  const number = el("span", {}, score(line.mean), el("span", { class: "sr" }, `, ${told}`));
  return el("td", { title: told }, el("div", { class: "score" }, number, bar(line, top)));
}

function drawName(line, id) {
  const badges = (line.badges || []).length;
  const open = state.open.has(id);
  const button = el(
    "button",
    { type: "button", class: "name", "aria-expanded": `${open}`, "aria-controls": `more-${id}`, title: fullName(line) },
    glyph(line.family),
    el("b", {}, line.name),
    el("i", {}, line.axes.join(" · ")),
    el("span", { class: "sr" }, `, family ${line.family}`),
    badges ? el("span", { class: "pill" }, badges === 1 ? "1 badge" : `${badges} badges`) : null,
  );
  return el("th", { scope: "row", class: "fixed who" }, button);
}

function drawLine(line, dataset, top) {
  const id = `${dataset.name}-${line.id}`.replace(/[^\w-]/g, "_");
  const scored = known(line.mean);
  const cells = scored
    ? [
        drawScore(line, top),
        el("td", { class: "n" }, score(line.hit)),
        el("td", { class: "n" }, score(line.cold)),
        el("td", { class: "n" }, duration(line.cost)),
      ]
    : [el("td", { class: "off", colspan: 4, title: line.status }, line.status)];
  const rank = scored ? rankText(line) : "—";
  const tied = scored && line.first !== line.last ? el("span", { class: "sr" }, " tied") : null;
  const row = el(
    "tr",
    { class: `line ${familyClass(line.family)}${state.open.has(id) ? " open" : ""}`, id: `line-${id}` },
    el("td", { class: "rank", title: scored ? line.rank : null }, rank, tied),
    drawName(line, id),
    cells,
  );
  row.addEventListener("click", () => {
    if (!getSelection().toString()) toggle(row, line, dataset, id);
  });
  return state.open.has(id) ? [row, drawMore(line, dataset, id)] : [row];
}

function drawMore(line, dataset, id) {
  const cell = el("td", { colspan: COLUMNS.length }, drawDetails(line, dataset));
  return el("tr", { class: `more ${familyClass(line.family)}`, id: `more-${id}` }, cell);
}

function toggle(row, line, dataset, id) {
  const open = !state.open.has(id);
  if (open) {
    state.open.add(id);
    row.after(drawMore(line, dataset, id));
  } else {
    state.open.delete(id);
    byId(`more-${id}`).remove();
  }
  row.classList.toggle("open", open);
  row.querySelector(".name").setAttribute("aria-expanded", `${open}`);
}

// Opens a line from elsewhere, such as its mark in a plot.
function show(line, dataset) {
  const id = `${dataset.name}-${line.id}`.replace(/[^\w-]/g, "_");
  const row = byId(`line-${id}`);
  if (!row) return;
  if (!state.open.has(id)) toggle(row, line, dataset, id);
  row.scrollIntoView({ block: "center" });
  row.querySelector(".name").focus({ preventScroll: true });
}

function drawTable() {
  const several = datasets().length > 1;
  const bodies = datasets().map((dataset) => {
    const lines = sorted(dataset.lines.filter(passes));
    const top = Math.max(...dataset.lines.map((line) => line.high || 0), 1e-9);
    const head = el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: 6 }, el("span", {}, about(dataset))));
    return [lines.length, el("tbody", {}, several ? head : null, lines.flatMap((line) => drawLine(line, dataset, top)))];
  });
  const caption = el("caption", { class: "sr" }, "Lines of the board; column heads sort, names open a line");
  byId("lines").replaceChildren(caption, drawHead(), ...bodies.map(([, body]) => body));
  const all = datasets().reduce((sum, dataset) => sum + dataset.lines.length, 0);
  const shown = bodies.reduce((sum, [n]) => sum + n, 0);
  byId("count").textContent = shown === all ? `${all} lines` : `${shown} of ${all} lines`;
}

function about(dataset) {
  const cold = known(dataset.cold) ? `, ${Math.round(100 * dataset.cold)} % of the targets never seen in training` : "";
  return `${dataset.name}: ${dataset.n.toLocaleString("en")} test rows${cold}`;
}

// Up and down move between the names of lines.
byId("lines").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.classList.contains("name")) return;
  const names = [...byId("lines").querySelectorAll(".name")];
  const next = names[names.indexOf(event.target) + step];
  if (next) next.focus();
  event.preventDefault();
});
