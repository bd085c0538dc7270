"use strict";
// Draws the report from the JSON in the page. Text goes into the page as text, never as HTML: names
// of classes and files may hold anything.

const content = JSON.parse(document.getElementById("content").textContent);
const SVG = "http://www.w3.org/2000/svg";
const MAX_SERIES = 6; // colours

// -- what the page remembers when it loads itself again ------------------------------------------

const saved = { ...history.state };

function save(name, value) {
  saved[name] = value;
  history.replaceState(saved, "");
}

// -- elements ------------------------------------------------------------------------------------

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A table; rows are lists of cells, each a text, an element or {text, number, share, best, head}. */
function table(caption, heads, rows, attributes = {}) {
  const cell = (value, column) => {
    const { text = value, number, share, ...rest } = isPlain(value) ? value : {};
    const classes = [number && "number", share !== undefined && "share", rest.best && "best"];
    const head = column === 0;
    return el(head ? "th" : "td", {
      class: classes.filter(Boolean).join(" ") || null,
      scope: head ? "row" : null,
      "--v": share,
    }, text ?? "–", rest.best ? el("span", { class: "hidden" }, " (best)") : null);
  };
  return el("div", { class: rows.length > 25 ? "wide tall" : "wide", tabindex: 0, role: "region", "aria-label": caption },
    el("table", attributes,
      el("caption", {}, caption),
      el("thead", {}, el("tr", {}, heads.map((head) => {
        const number = isPlain(head) && head.number;
        return el("th", { scope: "col", class: number ? "number" : null }, isPlain(head) ? head.text : head);
      }))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))));
}

const isPlain = (value) => Object.prototype.toString.call(value) === "[object Object]";

/** Folded contents that stay open when the page loads itself again. */
function folded(key, title, ...children) {
  const node = el("details", { open: saved[key] === true }, el("summary", {}, title), children);
  node.addEventListener("toggle", () => save(key, node.open));
  return node;
}

// -- numbers as text -------------------------------------------------------------------------------

const percent = (value) => value === null ? "–" : `${(100 * value).toFixed(2)}%`;
const whole = (value) => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
const plural = (count, what) => `${whole(count)} ${what}${count === 1 ? "" : "s"}`;

function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return Number(value.toPrecision(4)).toLocaleString("en", { maximumSignificantDigits: 4 });
}

const asText = { percent, integer: whole, number: short };
const shape = (sizes) => sizes.join("×");
const time = (seconds) => new Date(1000 * seconds).toLocaleString();

// -- curves ----------------------------------------------------------------------------------------

/** Round numbers that divide an axis, for powers of ten if it is logarithmic. */
function ticks(low, high, log) {
  if (log) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const factors = last - first > 2 ? [1] : last - first > 1 ? [1, 3] : [1, 2, 5];
    const step = Math.ceil((last - first) / 8) || 1;
    const found = [];
    for (let power = first; power <= last; power += step) found.push(...factors.map((f) => f * 10 ** power));
    return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  }
  const rough = (high - low) / 4 || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((f) => f * size).find((s) => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step + 0); // not -0
  return found;
}

/** A chart of numbers for each epoch: series have a label, a class, x, y, and may be dashed. */
class Chart {
  constructor(name, title, series) {
    Object.assign(this, { name, title, series });
    this.epochs = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
    this.at = this.epochs.length - 1;
    const values = series.flatMap((s) => s.y).filter((y) => y !== null);
    this.low = Math.min(...values);
    this.high = Math.max(...values);
    this.log = this.low > 0 && (saved[`log-${name}`] ?? false);
    this.output = el("output", { "aria-live": "polite" });
    this.plot = el("div", {
      class: "plot", tabindex: 0, role: "img", "aria-roledescription": "chart",
      "aria-label": `${title} for ${plural(this.epochs.length, "epoch")}. Left and right arrow keys read the numbers.`,
      onpointermove: (event) => this.point(event), onkeydown: (event) => this.key(event),
    });
    this.node = el("div", { class: "chart" }, this.head(), this.legend(), this.plot, this.output, this.numbers());
    this.read();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  head() {
    const button = el("button", {
      "aria-pressed": String(this.log), "aria-label": `logarithmic scale: ${this.title}`,
      onclick: () => {
        this.log = !this.log;
        save(`log-${this.name}`, this.log);
        button.setAttribute("aria-pressed", String(this.log));
        this.draw();
      },
    }, "log");
    return el("div", { class: "head" }, el("h3", {}, this.title), this.low > 0 ? button : null);
  }

  legend() {
    const line = (s) => svg("svg", { width: 26, height: 10, "aria-hidden": "true" },
      svg("path", { d: "M1 5H25", class: `curve ${s.style}${s.dashed ? " dashed" : ""}` }));
    return el("ul", { class: "legend" }, this.series.map((s) => el("li", {}, line(s), s.label)));
  }

  numbers() {
    const rows = this.epochs.map((epoch) => [
      { text: whole(epoch) },
      ...this.series.map((s) => ({ text: short(this.value(s, epoch)), number: true })),
    ]);
    const heads = ["epoch", ...this.series.map((s) => ({ text: s.label, number: true }))];
    return folded(`numbers-${this.name}`, "Numbers", table(this.title, heads, rows));
  }

  value(series, epoch) {
    const at = series.x.indexOf(epoch);
    return at < 0 ? null : series.y[at];
  }

  x(epoch) {
    const first = this.epochs[0], last = this.epochs.at(-1);
    return this.left + (this.width - this.left - 10) * (last > first ? (epoch - first) / (last - first) : 0.5);
  }

  y(value) {
    const scale = this.log ? Math.log10 : (v) => v;
    const [low, high] = this.range.map(scale);
    return this.bottom - (this.bottom - 10) * (high > low ? (scale(value) - low) / (high - low) : 0.5);
  }

  draw() {
    this.width = Math.max(200, this.plot.clientWidth);
    const height = 230;
    this.bottom = height - 28;
    const pad = (this.high - this.low) * 0.04;
    this.range = this.log ? [this.low * 0.93, this.high * 1.07] : [this.low - pad, this.high + pad];
    if (this.low >= 0 && this.low - pad < 0 && !this.log) this.range[0] = 0;
    const marks = ticks(...this.range, this.log);
    const label = (value) => value.toLocaleString("en", Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3)
      ? { notation: "scientific", maximumFractionDigits: 1 } : { maximumSignificantDigits: 4 });
    this.left = 14 + 7 * Math.max(...marks.map((value) => label(value).length), 2);
    const picture = svg("svg", { width: this.width, height, viewBox: `0 0 ${this.width} ${height}`, "aria-hidden": "true" });
    for (const value of marks) {
      picture.append(svg("path", { class: "grid", d: `M${this.left} ${this.y(value)}H${this.width - 4}` }),
        svg("text", { x: this.left - 6, y: this.y(value) + 4, "text-anchor": "end" }, label(value)));
    }
    const wanted = ticks(this.epochs[0], this.epochs.at(-1), false).filter(Number.isInteger);
    for (const epoch of new Set(wanted.length ? wanted : this.epochs)) {
      picture.append(svg("text", { x: this.x(epoch), y: height - 9, "text-anchor": "middle" }, String(epoch)));
    }
    picture.append(svg("path", { class: "axis", d: `M${this.left} ${this.bottom}H${this.width - 4}` }));
    for (const s of this.series) picture.append(...this.curve(s));
    this.cursor = svg("g", {});
    picture.append(this.cursor);
    this.plot.replaceChildren(picture);
    this.mark();
  }

  curve(series) {
    let path = "", pen = "M";
    series.x.forEach((epoch, i) => {
      if (series.y[i] === null) pen = "M";
      else {
        path += `${pen}${this.x(epoch).toFixed(1)} ${this.y(series.y[i]).toFixed(1)}`;
        pen = "L";
      }
    });
    const dots = series.x.length > 30 ? [] : series.x.filter((_, i) => series.y[i] !== null);
    const radius = this.epochs.length > 12 ? 2.5 : 3.5;
    return [svg("path", { d: path, class: `curve ${series.style}${series.dashed ? " dashed" : ""}` }),
      ...dots.map((epoch) => svg("circle", {
        cx: this.x(epoch), cy: this.y(this.value(series, epoch)), r: radius, class: `mark ${series.style}`,
      }))];
  }

  mark() {
    const epoch = this.epochs[this.at];
    const known = this.series.filter((s) => this.value(s, epoch) !== null);
    this.cursor.replaceChildren(
      svg("path", { class: "cursor", d: `M${this.x(epoch)} 6V${this.bottom}` }),
      ...known.map((s) => svg("circle", {
        cx: this.x(epoch), cy: this.y(this.value(s, epoch)), r: 5, class: `mark ${s.style}`,
      })));
  }

  read() {
    const epoch = this.epochs[this.at];
    const texts = this.series.map((s) => `${s.label} ${short(this.value(s, epoch))}`);
    this.output.textContent = `epoch ${whole(epoch)}: ${texts.join(", ")}`;
  }

  move(at) {
    this.at = Math.max(0, Math.min(this.epochs.length - 1, at));
    this.read();
    this.mark();
  }

  point(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const distance = this.epochs.map((epoch) => Math.abs(this.x(epoch) - x));
    this.move(distance.indexOf(Math.min(...distance)));
  }

  key(event) {
    const steps = { ArrowLeft: this.at - 1, ArrowRight: this.at + 1, Home: 0, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      this.move(steps[event.key]);
    }
  }
}

/** The charts of one run, or of all runs on top of each other. */
function charts(runs) {
  const names = new Map(runs.flatMap((run) => run.history.charts.map((c) => [c.name, c.title])));
  return [...names].map(([name, title]) => {
    const series = runs.flatMap((run, number) => {
      const found = run.history.charts.find((c) => c.name === name)?.series ?? [];
      return found.map(([part, column], i) => ({
        label: runs.length > 1 ? `${run.name}, ${part}` : part,
        style: `s${(runs.length > 1 ? number : i) % MAX_SERIES}`,
        dashed: part === "train" && found.length > 1,
        x: run.history.columns.epoch,
        y: run.history.columns[column],
      }));
    });
    return new Chart(name, title, series).node;
  });
}

function trainingSection(run, runs) {
  const used = runs.filter((one) => one.history.charts.length);
  if (!used.length) return [el("p", { class: "quiet" }, "No epoch was finished.")];
  const bad = used.flatMap((one) => one.history.bad.map((column) => `${column}${runs.length > 1 ? ` of ${one.name}` : ""}`));
  return [
    used.map((one) => one.history.epochs > one.history.columns.epoch.length ? el("p", { class: "quiet" },
      `${whole(one.history.columns.epoch.length)} of ${plural(one.history.epochs, "epoch")} are drawn, evenly spaced.`) : null),
    bad.length ? el("p", { class: "note" }, `Infinite numbers or NaN are left out: ${bad.join(", ")}.`) : null,
    el("div", { class: "charts" }, charts(used)),
  ];
}

// -- examples --------------------------------------------------------------------------------------

const exact = (p) => p > 0.9995 && p < 1 ? "> 99.9%" : `${(100 * p).toFixed(1)}%`;

/** An example with its largest probabilities. */
function example(run, number) {
  const found = run.predictions.examples[number];
  const name = (label) => run.classes[label];
  const best = found.top[0][0];
  const right = best === found.actual;
  const scores = found.top.map(([label, p]) =>
    el("li", { class: "share", "--v": p }, el("span", {}, name(label)), el("span", {}, exact(p))));
  const verdict = right ? `✓ ${name(best)}` : `✗ ${name(best)}, is ${name(found.actual)}`;
  const own = found.top.some(([label]) => label === found.actual) ? null
    : el("li", {}, el("span", {}, name(found.actual)), el("span", {}, exact(found.own)));
  return el("li", {}, el("figure", { class: "example" },
    found.picture ? el("img", { src: found.picture, alt: `example ${found.index}, ${name(found.actual)}` })
      : el("p", { class: "small quiet" }, found.values ? `(${found.values.join(", ")})` : `example ${found.index}`),
    el("figcaption", {},
      el("div", { class: right ? "verdict" : "verdict wrong" }, verdict),
      el("ul", { class: "scores" }, scores, own),
      found.file ? el("div", { class: "file", title: found.file }, found.file) : null)));
}

const gallery = (run, numbers) => el("ul", { class: "gallery" }, numbers.map((n) => example(run, n)));

function extent(found) {
  const part = found.used + found.invalid < found.total
    ? `${whole(found.used)} of ${whole(found.total)} test examples, evenly spaced` : `all ${plural(found.used, "test example")}`;
  const bad = found.invalid ? `; ${whole(found.invalid)} without a valid prediction are left out` : "";
  return `${whole(found.right)} of ${whole(found.used)} are right, ${percent(found.right / found.used)}: ${part}, ` +
    `${found.epoch ? `after epoch ${found.epoch}` : "untrained"}${bad}.`;
}

// -- confusion matrix ------------------------------------------------------------------------------

function level(count, total, right) {
  const steps = right ? [0, 0.5, 0.75, 0.9, 0.98] : [0, 0.01, 0.04, 0.12, 0.3];
  return count ? steps.filter((step) => count / total > step).length || 1 : 0;
}

function confusionSection(run) {
  const found = run.predictions;
  if (!found) return null;
  const { cells, matrix } = found.confusion;
  const panel = el("div", { class: "panel", "aria-live": "polite" });
  const buttons = [];
  const choose = (cell, button) => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    save("cell", [run.name, cell.actual, cell.predicted]);
    const kept = cell.examples.length < cell.count ? `the ${cell.examples.length} most confident of ` : "";
    panel.replaceChildren(
      el("h3", {}, title(cell)),
      el("p", { class: "quiet" }, `${kept}${plural(cell.count, "example")}`),
      gallery(run, cell.examples));
  };
  const title = (cell) => cell.actual === cell.predicted ? `${run.classes[cell.actual]}, recognised`
    : `${run.classes[cell.actual]}, taken for ${run.classes[cell.predicted]}`;
  const button = (cell, attributes, text) => {
    const node = el("button", {
      "aria-pressed": "false", ...attributes, onclick: () => choose(cell, node),
    }, text);
    buttons.push(node);
    if (String(saved.cell) === String([run.name, cell.actual, cell.predicted])) choose(cell, node);
    return node;
  };
  const body = matrix ? grid(run, matrix, cells, button, title) : confusions(run, cells, button);
  if (!panel.firstChild) {
    const hint = cells.length ? "Choose a number to see the pictures behind it." : "There are no confusions.";
    panel.append(el("p", { class: "quiet" }, hint));
  }
  return [el("p", {}, extent(found)), el("div", { class: "split" }, body, panel)];
}

/** Long names of columns are written upwards. */
const matrixClass = (classes) => classes.some((name) => name.length > 4) ? "matrix long" : "matrix";

function grid(run, matrix, cells, button, title) {
  const known = new Map(cells.map((cell) => [`${cell.actual},${cell.predicted}`, cell]));
  const rows = matrix.map((row, actual) => {
    const total = row.reduce((a, b) => a + b, 0);
    return el("tr", {}, el("th", { scope: "row" }, run.classes[actual]), row.map((count, predicted) => {
      const cell = known.get(`${actual},${predicted}`);
      const style = `cell l${level(count, total, actual === predicted)} ${actual === predicted ? "right" : "missed"}`;
      if (!cell) return el("td", {}, el("span", { class: "cell" }, "·"));
      const label = `${title(cell)}: ${plural(count, "example")}`;
      return el("td", {}, button(cell, {
        class: style, "aria-label": label, title: label, tabindex: -1, "data-at": `${actual},${predicted}`,
      }, whole(count)));
    }));
  });
  const node = el("table", { class: matrixClass(run.classes), onkeydown: (event) => walk(event, matrix.length) },
    el("caption", {}, "Rows: actual class. Columns: predicted class. Arrow keys move between the numbers."),
    el("thead", {}, el("tr", {}, el("td", { class: "axis-name" }, ""), run.classes.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows));
  node.querySelector("button")?.setAttribute("tabindex", "0");
  return el("div", { class: "wide" }, node);
}

/** Move the focus to the next number in the direction of an arrow key. */
function walk(event, size) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const step = steps[event.key], from = event.target.closest("[data-at]");
  if (!step || !from) return;
  event.preventDefault();
  let [y, x] = from.dataset.at.split(",").map(Number);
  for (;;) {
    y += step[0];
    x += step[1];
    if (Math.min(x, y) < 0 || Math.max(x, y) >= size) return;
    const next = event.currentTarget.querySelector(`[data-at="${y},${x}"]`);
    if (next) {
      from.setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
      return;
    }
  }
}

function confusions(run, cells, button) {
  const rows = cells.map((cell) => [
    { text: run.classes[cell.actual] }, run.classes[cell.predicted], { text: whole(cell.count), number: true },
    button(cell, { "aria-label": `show ${run.classes[cell.actual]} taken for ${run.classes[cell.predicted]}` }, "Show"),
  ]);
  const caption = `The ${rows.length} most frequent confusions of ${whole(run.classes.length)} classes`;
  return table(caption, ["actual", "predicted", { text: "examples", number: true }, "pictures"], rows);
}

// -- lists of examples, classes --------------------------------------------------------------------

const LISTS = [
  ["mistakes", "Worst mistakes", "Wrong, and hardly any probability for the actual class.", "There are none: all predictions are right."],
  ["uncertain", "Most uncertain", "The largest entropy of the probabilities.", ""],
  ["confident", "Most confident", "Right, the surest of each class in turn.", "There are none: all predictions are wrong."],
];

function examplesSection(run) {
  if (!run.predictions) return null;
  return LISTS.map(([key, title, text, none]) => {
    const numbers = run.predictions.lists[key];
    return [el("h3", {}, title), el("p", { class: "quiet" }, numbers.length ? text : none), gallery(run, numbers)];
  });
}

function classesSection(run) {
  if (!run.predictions) return null;
  const columns = [
    ["class", (row) => run.classes[row.class]], ["support", (row) => row.support], ["predicted", (row) => row.predicted],
    ["precision", (row) => row.precision], ["recall", (row) => row.recall], ["F1", (row) => row.f1],
  ];
  const rows = run.predictions.per_class;
  const body = el("tbody", {});
  const fillBody = (order) => body.replaceChildren(...order.map((row) => el("tr", {},
    el("th", { scope: "row" }, run.classes[row.class]),
    [row.support, row.predicted].map((n) => el("td", { class: "number" }, whole(n))),
    [row.precision, row.recall, row.f1].map((v) => el("td", { class: "number share", "--v": v }, percent(v))))));
  const heads = columns.map(([name, value], at) => {
    const head = el("th", { scope: "col", class: at ? "number" : null });
    head.append(el("button", { onclick: () => sort(head, value) }, name));
    return head;
  });
  const sort = (head, value) => {
    const down = head.getAttribute("aria-sort") !== "descending" && head !== heads[0]
      || head === heads[0] && head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    fillBody([...rows].sort((a, b) => {
      const [first, second] = [value(a), value(b)];
      return sign * (typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second);
    }));
  };
  fillBody(rows);
  const never = rows.filter((row) => !row.predicted && row.support).map((row) => run.classes[row.class]);
  return [
    never.length ? el("p", { class: "note" }, `Never predicted: ${never.slice(0, 20).join(", ")}${never.length > 20 ? ", ..." : ""}.`) : null,
    el("div", { class: rows.length > 25 ? "wide tall" : "wide", tabindex: 0, role: "region", "aria-label": "Numbers of each class" }, el("table", {},
      el("caption", {}, "Support: examples of the class. Predicted: how often it is predicted. The heads sort."),
      el("thead", {}, el("tr", {}, heads)), body)),
  ];
}

// -- inside the network ----------------------------------------------------------------------------

/** A sheet of maps, as wide as its columns need at a readable size. */
function sheet(found, tile, caption, alt) {
  const width = found.columns * tile;
  return el("figure", {},
    el("img", { src: found.sheet, alt, width }),
    el("figcaption", {}, caption));
}

function explainedSection(run) {
  if (!run.explained?.length) return null;
  const why = { mistake: "Mistake", uncertain: "Uncertain", confident: "Confident" };
  const cards = run.explained.map((found, number) => {
    const [label, p] = found.top[0];
    const name = run.classes[label];
    const said = label === found.actual ? `${name}, ${exact(p)}` : `${run.classes[found.actual]}, taken for ${name}, ${exact(p)}`;
    const picture = (source, caption, alt) => el("figure", {}, el("img", { src: source, alt }), el("figcaption", {}, caption));
    return el("div", { class: number ? "card" : "" },
      el("h3", {}, `${why[found.why]}: ${said}`),
      el("div", { class: "maps" },
        picture(found.picture, "Picture", `example ${found.index}`),
        found.maps.map((map) => picture(map.map, map.name, `${map.name} of ${name} for example ${found.index}`))),
      found.features.length ? folded(`maps-${number}`, `Feature maps of ${plural(found.features.length, "stage")}`,
        el("div", { class: "sheets" }, found.features.map((f) => sheet(f, Math.max(30, Math.min(56, 2 * f.shape[2])),
          `${f.path}: ${shape(f.shape)}${f.maps < f.shape[0] ? `, the first ${f.maps}` : ""}`,
          `${f.maps} feature maps of ${f.path} for example ${found.index}`)))) : null);
  });
  return [el("p", { class: "quiet" },
    `What the score of ${run.has_one_output ? run.classes[1] : "the predicted class"} depends on. ` + "Grad-CAM and occlusion: yellow matters most. Gradients: " +
    "how much the score changes with each pixel, its largest channel. Feature maps are scaled each on its own."), cards];
}

function filtersSection(run) {
  if (!run.filters?.length) return null;
  return [
    el("p", { class: "quiet" }, "Blue: negative, white: 0, red: positive. Filters of colour pictures are shown as colours, 0 in grey."),
    el("div", { class: "sheets" }, run.filters.map((f) => sheet(f, Math.max(27, 6 * f.shape[3]) * (f.is_grid ? 1 : 1.8),
      `${f.path}: ${shape(f.shape)}` + (f.is_grid ? `, a column for each of ${f.filters} filters, a row for each of ${f.channels} channels`
        : f.filters < f.shape[0] ? `, the first ${f.filters}` : "") + `; largest weight ${short(f.largest)}`,
      `filters of ${f.path}`))),
  ];
}

/** A small histogram. */
function histogram(counts) {
  const most = Math.max(...counts, 1), width = 4 * counts.length;
  return svg("svg", { width, height: 28, viewBox: `0 0 ${width} 28`, "aria-hidden": "true" },
    counts.map((count, i) => {
      const height = count ? Math.max(1, 28 * count / most) : 0;
      return svg("rect", { class: "bars", x: 4 * i, y: 28 - height, width: 3.4, height });
    }));
}

function layersSection(run) {
  const found = run.layers;
  if (!found) return null;
  const number = (value) => ({ text: short(value), number: true });
  const row = (one, more) => [{ text: one.path || one.kind }, one.kind, histogram(one.counts),
    number(one.minimum), number(one.mean), number(one.maximum), number(one.std), ...more];
  const heads = ["layer", "kind", "distribution", ...["min", "mean", "max", "std"].map((text) => ({ text, number: true }))];
  const outputs = found.outputs.map((one) => row(one, [
    { text: percent(one.zeros), number: true },
    { text: one.dead === null ? "–" : `${one.dead} of ${one.units}`, number: true },
  ]));
  const dead = found.outputs.reduce((sum, one) => sum + (one.dead ?? 0), 0);
  const weights = found.weights.map((one) => row(one, []));
  return [
    outputs.length ? el("p", {}, `Dead units, 0 for each of ${plural(found.examples, "test example")}: ${dead || "none"}.`) : null,
    outputs.length ? table("Outputs of the layers", [...heads, { text: "zeros", number: true }, { text: "dead units", number: true }], outputs) : null,
    folded("weights", "Weights", table("Parameters of the network", ["parameter", ...heads.slice(1)], weights)),
  ];
}

// -- architecture ----------------------------------------------------------------------------------

const MAX_ROWS = 40; // before modules are folded

/** The layers in the order of their calls; modules can be folded to one row. */
class Graph {
  constructor(found) {
    this.found = found;
    this.open = this.unfolded();
    this.body = el("tbody", {});
    this.lines = svg("svg", { "aria-hidden": "true" });
    const heads = ["layer", "kind", "output", "parameters", "multiply-adds", "takes"];
    this.table = el("table", {},
      el("caption", {}, `${found.model}: ${whole(found.parameters)} parameters, ${whole(found.multiply_adds)} multiply-adds ` +
        "per example. Lines lead from an output to where it is taken; the shape is (channels, height, width)."),
      el("thead", {}, el("tr", {}, heads.map((head, i) =>
        el("th", { scope: "col", class: [3, 4].includes(i) ? "number" : i === 5 || i === 1 ? "optional" : null }, head)))), this.body);
    this.graph = el("div", { class: "graph" }, this.lines, this.table);
    const all = this.groups();
    const buttons = all.length ? el("p", { class: "screen" },
      el("button", { onclick: () => this.show(all) }, "Unfold all"), " ",
      el("button", { onclick: () => this.show([]) }, "Fold all")) : null;
    this.node = el("div", {}, buttons, el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Architecture" }, this.graph));
    this.fill();
    new ResizeObserver(() => this.draw()).observe(this.table);
  }

  /** Every module with several nodes inside. */
  groups() {
    const counts = new Map();
    for (const node of this.found.nodes) for (const path of this.above(node)) counts.set(path, (counts.get(path) ?? 0) + 1);
    return [...counts].filter(([, count]) => count > 1).map(([path]) => path);
  }

  /** The modules around a node, outermost first; an operation is inside the module that called it. */
  above(node) {
    const parts = node.path === "" ? [] : node.path.split(".");
    const paths = parts.map((_, i) => parts.slice(0, i + 1).join("."));
    return this.found.kinds[node.path] === node.kind ? paths.slice(0, -1) : paths;
  }

  /** Modules to unfold at first: the outer ones, to a depth at which the table is short. */
  unfolded() {
    const depth = (path) => path.split(".").length;
    const groups = this.groups(), deepest = Math.max(0, ...groups.map(depth));
    for (let most = deepest; most > 0; most--) {
      const open = new Set(groups.filter((path) => depth(path) <= most));
      if (this.rows(open).length <= MAX_ROWS) return open;
    }
    return new Set();
  }

  /** The rows of the table: nodes, or folded modules with the positions of their nodes. */
  rows(open) {
    const grouped = new Set(this.groups()), rows = [];
    this.found.nodes.forEach((node, i) => {
      const folded = this.above(node).find((path) => grouped.has(path) && !open.has(path));
      const last = rows.at(-1);
      if (folded !== undefined && last?.path === folded) last.nodes.push(i);
      else rows.push({ path: folded, nodes: [i] });
    });
    return rows;
  }

  show(paths) {
    this.open = new Set(paths);
    this.fill();
  }

  fill() {
    const { nodes, kinds } = this.found;
    const rows = this.rows(this.open);
    const place = new Map([[-1, 0]]);
    rows.forEach((row, at) => row.nodes.forEach((i) => place.set(i, at + 1)));
    this.edges = [];
    const shown = rows.map((row, at) => {
      const inside = row.nodes.map((i) => nodes[i]);
      const sources = [...new Set(inside.flatMap((node) => node.inputs.map((i) => place.get(i))))].filter((from) => from !== at + 1);
      sources.forEach((from) => this.edges.push([from, at + 1]));
      const sum = (name) => inside.reduce((total, node) => total + node[name], 0);
      const [one] = inside, isLayer = kinds[one.path] === one.kind;
      const name = row.path ?? (isLayer ? one.path : [one.path, one.kind].filter(Boolean).join(": "));
      const kind = row.path === undefined ? (isLayer ? one.text : "operation") : `${kinds[row.path]}, ${plural(inside.length, "layer")}`;
      return { ...row, name, kind, sources, shape: inside.at(-1).shape, parameters: sum("parameters"), products: sum("multiply_adds") };
    });
    const most = (name) => Math.max(...shown.map((row) => row[name]), 1);
    const largest = [most("parameters"), most("products")];
    const label = (at) => at === 0 ? "input" : shown[at - 1].name;
    const input = el("tr", {}, el("th", { scope: "row", class: "path" }, "input"), el("td", { class: "optional" }), el("td", { colspan: 3 }),
      el("td", { class: "optional" }));
    this.body.replaceChildren(input, ...shown.map((row, at) => el("tr", {},
      el("th", { scope: "row", class: "path" }, this.switches(row), row.name),
      el("td", { class: "optional" }, row.kind),
      el("td", {}, shape(row.shape)),
      [row.parameters, row.products].map((n, i) => el("td", { class: "number share", "--v": n / largest[i] }, n ? whole(n) : "–")),
      el("td", { class: "optional" }, row.sources.length === 1 && row.sources[0] === at ? "↑" : row.sources.map(label).join(", ")))));
    this.draw();
  }

  /** A button that unfolds a module, or folds the one that starts here. */
  switches(row) {
    const starts = this.above(this.found.nodes[row.nodes[0]]);
    const first = (path) => this.found.nodes.findIndex((node) => this.above(node).includes(path)) === row.nodes[0];
    const path = row.path ?? starts.filter((p) => this.open.has(p) && first(p)).at(-1);
    if (path === undefined) return null;
    const opened = this.open.has(path);
    return el("button", {
      "aria-expanded": String(opened), "aria-label": `${opened ? "fold" : "unfold"} ${path}`, title: `${opened ? "fold" : "unfold"} ${path}`,
      onclick: () => {
        if (opened) this.open.delete(path);
        else this.open.add(path);
        this.fill();
        this.body.querySelector(`[aria-label="${CSS.escape(opened ? "unfold" : "fold")} ${CSS.escape(path)}"]`)?.focus();
      },
    }, opened ? "−" : "+");
  }

  /** Lines on the left: straight ones to the next row, bows around the rows between. */
  draw() {
    const rows = [...this.body.rows];
    const skips = this.edges.filter(([from, to]) => to - from !== 1).sort((a, b) => (a[1] - a[0]) - (b[1] - b[0]));
    const lanes = [];
    const placed = skips.map(([from, to]) => {
      let lane = lanes.findIndex((used) => used.every(([a, b]) => to <= a || from >= b));
      if (lane < 0) lane = lanes.length < 8 ? lanes.push([]) - 1 : 7;
      lanes[lane].push([from, to]);
      return [from, to, lane];
    });
    const x = 14 + 10 * lanes.length;
    this.graph.style.setProperty("padding-left", `${x + 14}px`);
    const top = this.graph.getBoundingClientRect().top;
    const y = rows.map((row) => {
      const box = row.getBoundingClientRect();
      return box.top - top + Math.min(box.height / 2, 16);
    });
    const straight = this.edges.filter(([from, to]) => to - from === 1);
    this.lines.setAttribute("width", x + 12);
    this.lines.setAttribute("height", this.graph.clientHeight);
    this.lines.replaceChildren(
      ...straight.map(([from, to]) => svg("path", { class: "edge", d: `M${x} ${y[from]}V${y[to]}` })),
      ...placed.map(([from, to, lane]) => {
        const left = x - 10 * (lane + 1);
        return svg("path", { class: "edge skip-edge", d: `M${x} ${y[from]}C${left} ${y[from]} ${left} ${y[from]} ${left} ${y[from] + 12}V${y[to] - 12}C${left} ${y[to]} ${left} ${y[to]} ${x} ${y[to]}` });
      }),
      ...y.map((at) => svg("circle", { class: "node", cx: x, cy: at, r: 4 })));
  }
}

function architectureSection(run) {
  const found = run.architecture;
  if (!found) return null;
  const more = found.left_out ? el("p", { class: "note" }, `${plural(found.left_out, "further node")} are not drawn.`) : null;
  return [more, new Graph(found).node];
}

// -- data, settings, comparison --------------------------------------------------------------------

function dataSection(run) {
  const found = run.data;
  if (!found || !Object.keys(found.sizes).length) return null;
  const parts = Object.keys(found.balance);
  const sizes = Object.entries(found.sizes).map(([name, count]) => `${whole(count)} to ${name}`).join(", ");
  const result = [el("p", {}, `${sizes}${run.classes.length ? `; ${plural(run.classes.length, "class").replace("classs", "classes")}` : ""}.`)];
  const most = parts.map((part) => Math.max(...found.balance[part], 1));
  const pictures = new Map(found.examples.map((row) => [row.class, row.examples.map((e) => e.picture)]));
  if (parts.length) {
    const rows = run.classes.map((name, i) => [{ text: name },
      ...parts.map((part, p) => ({ text: whole(found.balance[part][i]), number: true, share: found.balance[part][i] / most[p] })),
      pictures.has(i) ? strip(pictures.get(i), name) : ""]);
    const heads = ["class", ...parts.map((text) => ({ text, number: true })), pictures.size ? `from the ${found.from} data` : ""];
    const node = table("Examples of each class", heads, rows, { class: "counts" });
    result.push(rows.length > 30 ? folded("counts", `Examples of each of ${rows.length} classes`, node) : node);
  }
  if (found.augmented.length) {
    const rows = found.augmented.map((row) => [strip([row.before], "before"), strip(row.after, "after augmentation")]);
    result.push(el("h3", {}, "Augmentation"), table("Training pictures before, and what the network sees in several epochs", ["before", "after"], rows));
  }
  return result;
}

const strip = (pictures, alt) => el("div", { class: "strip" }, pictures.map((source) => el("img", { src: source, alt })));

function settingsSection(run) {
  return [table("Settings and versions", ["setting", "value"], run.settings.map(([name, value]) => [{ text: name }, value]))];
}

function comparisonSection(run, runs) {
  const found = content.comparison;
  if (!found) return null;
  const names = runs.map((one) => one.name);
  const results = found.results.map((row) => [{ text: row.name },
    ...row.values.map((value, i) => ({ text: asText[row.kind](value), number: true, best: row.best.includes(i) }))]);
  const rows = found.settings.map((row) => [{ text: row.name }, ...row.values.map((value) => value ?? "–")]);
  const heads = (first) => [first, ...names];
  return [
    table("Results after the last epoch", [heads("")[0], ...names.map((text) => ({ text, number: true }))], results),
    el("h3", {}, "Settings that differ"),
    rows.length ? table("Without those that are the same", heads("setting"), rows) : el("p", { class: "quiet" }, "None."),
    found.difference ? difference(found.difference, run.classes, names) : null,
  ];
}

function difference(matrix, classes, names) {
  const most = Math.max(...matrix.flat().map(Math.abs), 1);
  const rows = matrix.map((row, actual) => el("tr", {}, el("th", { scope: "row" }, classes[actual]), row.map((count, predicted) => {
    const better = (count > 0) === (actual === predicted);
    const style = count ? `cell l${Math.min(3, Math.ceil(3 * Math.abs(count) / most))} ${better ? "right" : "missed"}` : "cell";
    return el("td", {}, el("span", { class: style }, count > 0 ? `+${count}` : count ? `−${-count}` : "·"));
  })));
  return [el("h3", {}, "Difference of the confusion matrices"), el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Difference" },
    el("table", { class: matrixClass(classes) },
      el("caption", {}, `${names[1]} minus ${names[0]}. Rows: actual class, columns: predicted. Blue: better, red: worse.`),
      el("thead", {}, el("tr", {}, el("td"), classes.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows)))];
}

// -- the page --------------------------------------------------------------------------------------

const SECTIONS = [
  ["comparison", "Comparison", comparisonSection],
  ["training", "Training", trainingSection],
  ["confusion", "Confusion", confusionSection],
  ["examples", "Examples", examplesSection],
  ["classes", "Classes", classesSection],
  ["explained", "What it looks at", explainedSection],
  ["filters", "Filters", filtersSection],
  ["layers", "Layers", layersSection],
  ["architecture", "Architecture", architectureSection],
  ["data", "Data", dataSection],
  ["settings", "Settings", settingsSection],
];

function themeSwitch() {
  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = el("button", {
    class: "screen", "aria-pressed": "false",
    onclick: () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      save("theme", root.dataset.theme);
      button.setAttribute("aria-pressed", String(isDark()));
    },
  }, "Dark");
  if (saved.theme) root.dataset.theme = saved.theme;
  button.setAttribute("aria-pressed", String(isDark()));
  return button;
}

/** Says that the training runs, and loads the page again, until it is stale. */
function liveStatus() {
  if (!content.live) return null;
  const wait = 1000 * Math.min(30, Math.max(2, content.live.period / 2));
  const text = el("span", { role: "status" });
  const node = el("p", { class: "live" }, el("span", { class: "dot", "aria-hidden": "true" }), text);
  const stop = el("button", { "aria-pressed": String(saved.paused === true) }, "Pause");
  const show = () => {
    if (Date.now() / 1000 > content.live.until) {
      node.classList.add("stale");
      text.textContent = `No news since ${time(content.written)}: the training has ended, or was stopped.`;
      stop.remove();
      return false;
    }
    text.textContent = `The training runs. Written ${time(content.written)}; ` +
      (saved.paused ? "not loaded again." : `loads itself again every ${Math.round(wait / 1000)} seconds.`);
    return true;
  };
  const again = () => {
    if (!show()) return;
    if (!saved.paused) {
      save("scroll", scrollY);
      location.reload();
    } else setTimeout(again, wait);
  };
  stop.addEventListener("click", () => {
    save("paused", saved.paused !== true);
    stop.setAttribute("aria-pressed", String(saved.paused));
    show();
  });
  node.append(stop);
  if (show()) setTimeout(again, wait);
  return node;
}

function subtitle(run) {
  const settings = new Map(run.settings);
  const what = settings.has("data") ? `${settings.get("model")} on ${settings.get("data")}` : settings.get("model");
  const who = content.runs.length > 1 ? `${content.runs.length} runs` : what;
  return [who, `report of ${time(content.written)}`].filter(Boolean).join(" · ");
}

function drawTop(run, chosen) {
  document.getElementById("top").replaceChildren(
    el("div", { class: "bar" },
      el("div", {}, el("h1", {}, content.title), el("p", { class: "quiet" }, subtitle(run))),
      themeSwitch()),
    liveStatus() ?? "",
    content.note ? el("p", { class: "note" }, content.note) : "",
    chosen ?? "");
  document.getElementById("foot").replaceChildren(el("p", {}, `xcnn ${content.version}`));
}

function overview(run) {
  const missing = run.missing.length ? el("div", { class: "note" }, el("ul", {}, run.missing.map((text) => el("li", {}, text)))) : "";
  const tiles = run.overview.map((tile) => el("div", {}, el("dt", {}, tile.label), el("dd", {},
    el("div", { class: "value" }, tile.value), el("div", { class: "small quiet" }, tile.note))));
  return [missing, tiles.length ? el("dl", { class: "tiles", "aria-label": `Results of ${run.name}` }, tiles) : ""];
}

function draw(number) {
  const { runs } = content;
  const run = runs[number];
  const made = SECTIONS.map(([id, title, make]) => [id, title, make(run, runs)]).filter(([, , nodes]) => nodes);
  document.getElementById("main").replaceChildren(...overview(run).flat(), ...made.map(([id, title, nodes]) =>
    el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), nodes)));
  document.getElementById("contents").replaceChildren(
    el("ul", {}, made.map(([id, title]) => el("li", {}, el("a", { href: `#${id}` }, title)))));
  followSections();
}

/** Mark the section that is being read. */
function followSections() {
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(target.id)?.setAttribute("aria-current", "location");
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

function chooseRun() {
  if (content.runs.length < 2) return null;
  const options = content.runs.map((run, i) => el("option", { value: i, selected: i === (saved.run ?? 0) }, run.name));
  const select = el("select", {
    id: "run",
    onchange: () => {
      save("run", Number(select.value));
      draw(Number(select.value));
    },
  }, options);
  return el("p", {}, el("label", { for: "run" }, "Show in detail: "), select);
}

function printing() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((node) => { node.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((node) => { node.open = false; }));
}

const first = Math.min(saved.run ?? 0, content.runs.length - 1);
drawTop(content.runs[first], chooseRun());
draw(first);
printing();
if (saved.scroll !== undefined) {
  history.scrollRestoration = "manual";
  scrollTo({ top: saved.scroll, behavior: "instant" });
  save("scroll", undefined);
}
