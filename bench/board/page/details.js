// What a line opens to: numbers, strata, seeds, curves, settings and example users.
function drawDetails(line, dataset) {
  const parts = [numbersOf(line, dataset), strataOf(line), seedsOf(line, dataset), paperOf(line), curvesOf(line)];
  return el("div", { class: "card" }, [...parts, configOf(line), usersOf(line, dataset)].filter(Boolean));
}

function part(title, ...content) {
  return el("section", {}, el("h3", {}, title), content);
}

function full(title, ...content) {
  const node = part(title, ...content);
  node.classList.add("full");
  return node;
}

function numbersOf(line, dataset) {
  if (!known(line.mean)) return full("Without numbers", el("p", {}, line.status));
  const interval = `${score(line.mean)} [${score(line.low)}, ${score(line.high)}]`;
  const pairs = [["Rank", line.rank], ["NDCG@10 [95 %]", interval], ["Hit@10", score(line.hit)]];
  dataset.heads.forEach((head, place) => {
    if (line.details[place]) pairs.push([head, line.details[place]]);
  });
  if (line.status !== "done") pairs.push(["Status", line.status]);
  return part("Numbers", el("dl", {}, pairs.flatMap(([head, text]) => [el("dt", {}, head), el("dd", {}, text)])));
}

// A table whose first column names its rows.
function small(heads, rows) {
  const numeric = (place) => (place ? "n" : null);
  const head = el("tr", {}, heads.map((text, place) => el("th", { scope: "col", class: numeric(place) }, text)));
  const body = rows.map(([name, ...cells]) =>
    el("tr", {}, el("th", { scope: "row" }, name), cells.map((text) => el("td", { class: "n" }, text))),
  );
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body)));
}

function strataOf(line) {
  if (!line.strata || !line.strata.length) return null;
  const rows = line.strata.map(([name, n, ndcg, hit]) => [
    name.replaceAll("_", " "), n.toLocaleString("en"), score(ndcg), score(hit),
  ]);
  return part("Strata", small(["Test rows", "n", "NDCG@10", "Hit@10"], rows));
}

function seedsOf(line, dataset) {
  const rows = line.runs.map(([seed, key, ndcg, hit, seconds]) => [
    `${seed}`, score(ndcg), score(hit), duration(seconds), key.slice(0, 8),
  ]);
  const made = new Map();
  for (const [seed, , , , , place] of line.runs) made.set(place, [...(made.get(place) || []), seed]);
  const words = (seeds) => (seeds.length === line.runs.length ? "" : `Seed ${seeds.join(", ")}: `);
  const lines = [...made].map(([place, seeds]) => el("li", {}, words(seeds) + dataset.made[place]));
  return part("Seeds", small(["Seed", "NDCG@10", "Hit@10", "Cost", "Key"], rows), el("ul", {}, lines));
}

function paperOf(line) {
  const told = [];
  if (line.paper) {
    told.push(el("p", {}, `The paper prints ${score(line.paper.value)}: ${line.paper.word}.`));
    if (line.paper.differs.length) told.push(el("p", {}, "Departures from its protocol:"), list(line.paper.differs));
  }
  if (line.badges && line.badges.length) told.push(el("p", {}, "Badges:"), list(line.badges));
  return told.length ? part("What to know of it", told) : null;
}

const list = (texts) => el("ul", {}, texts.map((text) => el("li", {}, text)));

function curvesOf(line) {
  const names = Object.keys(line.curves || {});
  if (!names.length) return null;
  const pairs = names.flatMap((name) => {
    const values = line.curves[name][0].map((value) => (known(value) ? `${+value.toPrecision(3)}` : "—")).join(", ");
    return [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, values)];
  });
  return part("By epoch, first seed", el("dl", {}, pairs));
}

// A nested mapping as pairs with dotted names.
function flat(value, prefix = "") {
  return Object.entries(value).flatMap(([key, inner]) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? flat(inner, `${prefix}${key}.`)
      : [[prefix + key, JSON.stringify(inner)]],
  );
}

function configOf(line) {
  const pairs = flat(line.config);
  if (!pairs.length) return null;
  const shown = pairs.map(([name, value]) => el("div", {}, el("span", {}, name), el("span", {}, value)));
  return full("Config", el("div", { class: "config" }, shown));
}

function usersOf(line, dataset) {
  if (!line.examples || !line.examples.length) return null;
  const title = (id) => dataset.titles[id] || `title ${id}`;
  const cards = line.examples.map(([row, listed]) => {
    const { history, target } = dataset.users[row];
    const place = listed.indexOf(target);
    const found = place < 0 ? "not among the ten" : `at place ${place + 1}`;
    return el(
      "article",
      { class: "user" },
      el("h4", {}, `Test row ${row}`),
      "History, oldest first:",
      el("ol", { start: 1 }, history.map((id) => el("li", {}, title(id)))),
      "Then ",
      el("span", { class: "target" }, title(target)),
      `, ${found}:`,
      el("ol", {}, listed.map((id) => el("li", { class: id === target ? "target" : null }, title(id)))),
      listed.length ? null : "nothing certain: this list is drawn by chance",
    );
  });
  const rule = "Test rows spread evenly over the exam, the same for every line, and up to two that this line hits.";
  return full("Example users", el("p", {}, rule), el("div", { class: "users" }, cards));
}
