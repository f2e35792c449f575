// Plots of one dataset: Pareto front, warm against cold, learning curves and temperature sweeps.
const HEIGHT = 320;
const PAD = { left: 52, right: 16, top: 12, bottom: 40 };

function roundTicks(low, high) {
  const raw = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-9); i++) ticks.push(+(i * step).toPrecision(6));
  return ticks;
}

// Round durations, in seconds.
const DURATIONS = [[0.001, "1 ms"], [0.01, "10 ms"], [0.1, "0.1 s"], [1, "1 s"], [10, "10 s"], [60, "1 min"],
  [600, "10 min"], [3600, "1 h"], [36000, "10 h"], [360000, "100 h"]];

// Data to pixels, linear or, for seconds, logarithmic, with ticks.
function axis(low, high, start, stop, log = false) {
  const on = (v) => (log ? Math.log10(Math.max(v, low)) : v);
  const span = on(high) - on(low) || 1;
  return {
    at: (v) => start + ((on(v) - on(low)) / span) * (stop - start),
    ticks: log ? DURATIONS.map(([s]) => s).filter((s) => s >= low && s <= high) : roundTicks(low, high),
  };
}

// Axes with grid and names; `write` turns a tick of the lower axis into text.
function frame(width, across, up, names, write = (v) => `${v}`) {
  const [left, right, low, high] = [PAD.left, width - PAD.right, HEIGHT - PAD.bottom, PAD.top];
  const lines = across.ticks.map((tick) => [
    svg("line", { class: "grid", x1: across.at(tick), x2: across.at(tick), y1: low, y2: high }),
    svg("text", { x: across.at(tick), y: low + 16, "text-anchor": "middle" }, write(tick)),
  ]);
  const rows = up.ticks.map((tick) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: up.at(tick), y2: up.at(tick) }),
    svg("text", { x: left - 6, y: up.at(tick) + 4, "text-anchor": "end" }, `${tick}`),
  ]);
  const below = svg("text", { x: right, y: HEIGHT - 6, "text-anchor": "end" }, `${names[0]} →`);
  return [...lines.flat(), ...rows.flat(), below];
}

function figure(title, about, width, content, ...extra) {
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `${title}. ${about}` }, content);
  return el("figure", {}, el("figcaption", {}, title, el("small", {}, about)), ...extra, plot);
}

function mark(line, dataset, x, y, told, kind = "") {
  const path = svg(
    "path",
    { d: markPath(line.family, x, y, 4.5), class: `mark ${kind}`, onclick: () => show(line, dataset) },
    svg("title", {}, `${fullName(line)}: ${told}`),
  );
  return svg("g", { class: familyClass(line.family) }, path);
}

const whisker = (x1, y1, x2, y2) => svg("line", { class: "whisker", x1, y1, x2, y2 });

// A label beside a mark, on the side that has room.
function label(text, x, y, width) {
  const room = x + 7 * text.length < width - PAD.right;
  return svg("text", { class: "label", x: room ? x + 8 : x - 8, y: y - 7, "text-anchor": room ? "start" : "end" }, text);
}

const shownLines = (dataset) => dataset.lines.filter((line) => known(line.mean) && passes(line));

// Accuracy against cost. Full marks are on the front; hollow ones may be; pale ones are certainly off it.
function pareto(dataset, width) {
  const lines = shownLines(dataset).filter((line) => line.cost > 0);
  if (lines.length < 2) return null;
  const costs = lines.flatMap((line) => line.runs.map((run) => run[4] || line.cost));
  const across = axis(Math.min(...costs) / 1.6, Math.max(...costs) * 1.6, PAD.left, width - PAD.right, true);
  const up = axis(0, Math.max(...lines.map((line) => line.high)), HEIGHT - PAD.bottom, PAD.top);
  const front = [];
  for (const line of [...lines].sort((a, b) => a.cost - b.cost || b.mean - a.mean))
    if (!front.length || line.mean > front[front.length - 1].mean) front.push(line);
  const trail = front.map((line) => `${across.at(line.cost)},${up.at(line.mean)}`).join(" ");
  const marks = lines.map((line) => {
    const [x, y] = [across.at(line.cost), up.at(line.mean)];
    const spent = line.runs.map((run) => run[4]).filter((s) => s > 0);
    const kind = front.includes(line) ? "" : line.beaten ? "beaten" : "may";
    const told = `${score(line.mean)} [${score(line.low)}, ${score(line.high)}] for ${duration(line.cost)}`;
    const bars = [whisker(x, up.at(line.low), x, up.at(line.high))];
    if (spent.length > 1) bars.push(whisker(across.at(Math.min(...spent)), y, across.at(Math.max(...spent)), y));
    return svg("g", { class: `${familyClass(line.family)} ${kind === "beaten" ? "beaten" : ""}` }, bars, mark(line, dataset, x, y, told, kind === "may" ? kind : ""));
  });
  const labels = front.map((line) => label(line.name, across.at(line.cost), up.at(line.mean), width));
  return figure(
    "Accuracy against cost",
    "Up: NDCG@10 with its 95 % interval; across: seconds to fit and recommend, needed cells included, with their range " +
      "over seeds. Full marks are on the Pareto front, hollow ones may be, pale ones a cheaper line certainly beats.",
    width,
    [frame(width, across, up, ["cost"], (s) => new Map(DURATIONS).get(s)), svg("polyline", { class: "front", points: trail }), marks, labels],
  );
}

function warmCold(dataset, width) {
  const lines = shownLines(dataset).filter((line) => known(line.warm) && known(line.cold));
  if (lines.length < 2) return null;
  const most = (key) => 1.05 * Math.max(...lines.map((line) => line[key])) || 1;
  const across = axis(0, most("warm"), PAD.left, width - PAD.right);
  const up = axis(0, most("cold"), HEIGHT - PAD.bottom, PAD.top);
  const marks = lines.map((line) => {
    const told = `${score(line.warm)} on warm targets, ${score(line.cold)} on cold ones`;
    return mark(line, dataset, across.at(line.warm), up.at(line.cold), told);
  });
  const best = ["warm", "cold"].map((key) => lines.reduce((a, b) => (b[key] > a[key] ? b : a)));
  const labels = [...new Set(best)].map((line) => label(line.name, across.at(line.warm), up.at(line.cold), width));
  return figure(
    "Warm against cold targets",
    "NDCG@10 on targets seen in training (across) and never seen (up).",
    width,
    [frame(width, across, up, ["warm"]), marks, labels],
  );
}

let curveName = "valid_ndcg@5";

function learningCurves(dataset, width) {
  const lines = shownLines(dataset).filter((line) => Object.keys(line.curves).length);
  const names = [...new Set(lines.flatMap((line) => Object.keys(line.curves)))].sort();
  if (!names.length) return null;
  const name = names.includes(curveName) ? curveName : names[0];
  const points = (values) => values.map((value, place) => [place + 1, value]).filter(([, value]) => known(value));
  const every = lines.flatMap((line) => (line.curves[name] || []).map((values) => [line, points(values)]));
  const curves = every.filter(([, pairs]) => pairs.length);
  if (!curves.length) return null;
  const all = curves.flatMap(([, pairs]) => pairs);
  const heights = all.map(([, value]) => value);
  const across = axis(1, Math.max(2, ...all.map(([epoch]) => epoch)), PAD.left, width - PAD.right);
  across.ticks = across.ticks.filter(Number.isInteger);
  const up = axis(Math.min(0, ...heights), Math.max(...heights), HEIGHT - PAD.bottom, PAD.top);
  const drawn = curves.map(([line, pairs]) => {
    const trail = pairs.map(([epoch, value]) => `${across.at(epoch)},${up.at(value)}`).join(" ");
    const told = svg("title", {}, `${fullName(line)}: ends at ${pairs[pairs.length - 1][1].toPrecision(4)}`);
    return svg("g", { class: familyClass(line.family) }, svg("polyline", { class: "curve", points: trail }, told));
  });
  const ends = curves.map(([line, pairs]) => [...pairs[pairs.length - 1], line]).sort(([, a], [, b]) => a - b);
  const labels = [ends[0], ends[ends.length - 1]].map(([epoch, value, line]) =>
    label(fullName(line), across.at(epoch), up.at(value), width),
  );
  const choose = (event) => {
    curveName = event.target.value;
    drawPlots();
  };
  const options = names.map((n) => el("option", { value: n, selected: n === name ? "" : null }, n.replaceAll("_", " ")));
  const select = el("select", { "aria-label": "Learning curve of", onchange: choose }, options);
  const about = "One line a seed, for lines that keep a number an epoch.";
  return figure("Learning curves", about, width, [frame(width, across, up, ["epoch"]), drawn, labels], select);
}

// Lines that differ in the temperature of their loss alone.
function sweeps(dataset, width) {
  const groups = new Map();
  for (const line of shownLines(dataset))
    if (line.sweep) groups.set(line.sweep.of, [...(groups.get(line.sweep.of) || []), line]);
  const found = [...groups.values()].filter((lines) => lines.length > 1);
  if (!found.length) return null;
  const lines = found.flat();
  const taus = lines.map((line) => line.sweep.tau);
  const across = axis(Math.min(...taus), Math.max(...taus), PAD.left + 8, width - PAD.right - 8);
  const up = axis(0, Math.max(...lines.map((line) => line.high)), HEIGHT - PAD.bottom, PAD.top);
  const drawn = found.map((group) => {
    const ordered = [...group].sort((a, b) => a.sweep.tau - b.sweep.tau);
    const points = ordered.map((line) => `${across.at(line.sweep.tau)},${up.at(line.mean)}`).join(" ");
    const marks = ordered.map((line) => {
      const x = across.at(line.sweep.tau);
      const told = `τ ${line.sweep.tau}, ${score(line.mean)} [${score(line.low)}, ${score(line.high)}]`;
      return [whisker(x, up.at(line.low), x, up.at(line.high)), mark(line, dataset, x, up.at(line.mean), told)];
    });
    const last = ordered[ordered.length - 1];
    const words = [last.name.replace(/ \(.*/, ""), ...last.axes].join(" · ");
    const name = label(words, across.at(last.sweep.tau), up.at(last.mean), width);
    return svg("g", { class: familyClass(last.family) }, svg("polyline", { class: "curve", points }), marks.flat(), name);
  });
  const about = "NDCG@10 with its 95 % interval, by the temperature τ of the loss, all else equal.";
  return figure("Temperature sweep", about, width, [frame(width, across, up, ["τ"]), drawn]);
}

const plotted = () => board().datasets.find((d) => d.name === state.dataset) || board().datasets[board().first];

function drawPlots() {
  const dataset = plotted();
  const room = byId("plots").clientWidth;
  const width = Math.max(280, room >= 992 ? (room - 32) / 2 : room);
  byId("plots-of").textContent = `of ${dataset.name}, the lines that the filters leave`;
  const drawn = [pareto, warmCold, learningCurves, sweeps].map((draw) => draw(dataset, width));
  const found = drawn.filter(Boolean);
  byId("plots").replaceChildren(...(found.length ? found : [el("p", {}, "Too few lines with numbers for a plot.")]));
}
