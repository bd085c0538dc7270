// -- examples --------------------------------------------------------------------------------------

/** An example with its largest probabilities. */
function example(run, at) {
  const found = run.predictions.examples[at];
  const { classes } = run;
  const [taken] = found.top[0];
  const isRight = taken === found.actual;
  const isListed = found.top.some(([label]) => label === found.actual);
  const score = ([label, p]) => el("li", { class: "share", "--v": p },
    el("span", { title: run.names[label] }, classes[label]), el("span", {}, probability(p)));
  const verdict = isRight ? `✓ ${classes[taken]}` : `✗ ${classes[taken]}, is ${classes[found.actual]}`;
  return el("li", {}, el("figure", { class: "example" },
    looks(found, classes[found.actual]),
    el("figcaption", {},
      el("div", { class: isRight ? "verdict" : "verdict wrong" }, verdict),
      el("ul", { class: "scores" }, found.top.map(score), isListed ? null : score([found.actual, found.own])),
      found.file ? el("div", { class: "file", title: found.file }, found.file) : null)));
}

/** The picture of an example, or its first numbers. */
function looks(found, name) {
  if (found.picture) return el("img", { src: found.picture, alt: `example ${found.index}, ${name}` });
  const text = found.values ? `(${found.values.join(", ")})` : `example ${found.index}`;
  return el("p", { class: "small quiet" }, text);
}

const gallery = (run, places) => el("ul", { class: "gallery" }, places.map((at) => example(run, at)));

/** How many predictions are right, and of how many. */
function extent({ right, used, total, invalid, epoch }) {
  const part = used + invalid < total ? `${whole(used)} of ${whole(total)} test examples, evenly spaced`
    : `all ${plural(used, "test example")}`;
  const bad = invalid ? `; ${whole(invalid)} without a valid prediction are left out` : "";
  const when = epoch ? `after epoch ${epoch}` : "untrained";
  return `${whole(right)} of ${whole(used)} are right, ${percent(right / used)}: ${part}, ${when}${bad}.`;
}

/** What the network makes of some examples, if that is not one class for each. */
function outcomesSection(run) {
  const found = run.outcomes;
  if (!found) return null;
  const one = ({ index, text, pictures, file }) => el("li", {}, el("figure", { class: "outcome" },
    el("div", { class: "beside" }, pictures.map(([title, src]) => picture(src, `${title}, example ${index}`, pictures.length > 1 ? title : ""))),
    el("figcaption", {}, text ? el("div", { class: text.startsWith("✗") ? "verdict wrong" : "verdict" }, text) : null,
      file ? el("div", { class: "file", title: file }, file) : null)));
  const part = found.used < found.total ? `${whole(found.used)} of ${whole(found.total)} test examples, evenly spaced`
    : `all ${plural(found.used, "test example")}`;
  return [
    quiet(`${part[0].toUpperCase()}${part.slice(1)}, after epoch ${found.epoch}.`),
    found.samples ? picture(found.samples, "new examples", "New examples that the network draws") : null,
    found.legend.length ? el("ul", { class: "legend" }, found.legend.map(([name, colour]) =>
      el("li", {}, el("span", { class: "swatch", "--own": colour }), isolated(clipped(name))))) : null,
    el("ul", { class: "outcomes", "--n": Math.max(1, ...found.examples.map((one) => one.pictures.length)) },
      found.examples.map(one)),
  ];
}

const LISTS = [
  ["mistakes", "Worst mistakes", "Wrong, the least probability for the actual class first.",
    "There are none: all predictions are right."],
  ["uncertain", "Most uncertain", "The largest entropy of the probabilities.", ""],
  ["confident", "Most confident", "Right, the surest of each class in turn.",
    "There are none: all predictions are wrong."],
];

function examplesSection(run) {
  if (!run.predictions) return null;
  return LISTS.map(([key, title, text, none]) => {
    const places = run.predictions.lists[key];
    return [el("h3", {}, title), quiet(places.length ? text : none), gallery(run, places)];
  });
}

// -- confusion matrix ------------------------------------------------------------------------------

/** The shade of a cell, 0 to 5: the share of the actual class's examples that are in it. */
function level(count, total, isRight) {
  const steps = isRight ? [0, 0.5, 0.75, 0.9, 0.98] : [0, 0.01, 0.04, 0.12, 0.3];
  return count ? steps.filter((step) => count / total > step).length || 1 : 0;
}

/** A matrix or a list of confusions, whose numbers show the pictures behind them in a panel. */
class Confusion {
  constructor(run) {
    this.run = run;
    this.buttons = [];
    this.panel = el("div", { class: "panel", "aria-live": "polite" });
    const { cells, matrix } = run.predictions.confusion;
    const body = matrix ? this.matrix(matrix, cells) : this.list(cells);
    if (!this.panel.firstChild) {
      const hint = cells.length ? "Choose a number to see the pictures behind it." : "There are no confusions.";
      this.panel.append(quiet(hint));
    }
    this.node = el("div", { class: "split" }, body, this.panel);
  }

  title({ actual, predicted }) {
    const { classes } = this.run;
    return `${classes[actual]}, ${actual === predicted ? "recognised" : `taken for ${classes[predicted]}`}`;
  }

  button(cell, text, attributes) {
    const label = `${this.title(cell)}: ${plural(cell.count, "example")}`;
    const node = el("button", {
      "aria-pressed": "false", "aria-label": label, title: label, ...attributes,
      onclick: () => this.choose(cell, node),
    }, text);
    this.buttons.push(node);
    if (String(saved.cell) === String(this.key(cell))) this.choose(cell, node);
    return node;
  }

  key(cell) {
    return [this.run.name, cell.actual, cell.predicted];
  }

  choose(cell, button) {
    this.buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    save("cell", this.key(cell));
    const kept = cell.examples.length < cell.count ? `the ${cell.examples.length} most confident of ` : "";
    this.panel.replaceChildren(el("h3", {}, this.title(cell)),
      quiet(`${kept}${plural(cell.count, "example")}`), gallery(this.run, cell.examples));
  }

  matrix(counts, cells) {
    const known = new Map(cells.map((cell) => [`${cell.actual},${cell.predicted}`, cell]));
    const cellOf = (count, actual, predicted, total) => {
      const at = `${actual},${predicted}`, isRight = actual === predicted;
      const style = `cell l${level(count, total, isRight)} ${isRight ? "right" : "missed"}`;
      return count ? this.button(known.get(at), whole(count), { class: style, tabindex: -1, "data-at": at })
        : el("span", { class: "cell" }, "·");
    };
    const rows = counts.map((row, actual) => {
      const total = row.reduce((a, b) => a + b, 0);
      return row.map((count, predicted) => cellOf(count, actual, predicted, total));
    });
    const caption = "Rows: actual class. Columns: predicted class. Arrow keys move between the numbers.";
    const node = square(caption, this.run, rows);
    node.addEventListener("keydown", (event) => walk(event, counts.length));
    node.querySelector("button")?.setAttribute("tabindex", "0");
    return el("div", { class: "wide" }, node);
  }

  list(cells) {
    const { classes } = this.run;
    const name = (label) => className(this.run, label);
    const rows = cells.map((cell) => [name(cell.actual), name(cell.predicted), number(whole(cell.count)),
      this.button(cell, "Show", {})]);
    const caption = `The ${rows.length} most frequent confusions of ${whole(classes.length)} classes`;
    return table(caption, ["actual", "predicted", number("examples"), "pictures"], rows);
  }
}

/** A table with a row and a column for each class; long names of columns are written upwards. */
function square(caption, run, rows) {
  const { classes } = run;
  const names = classes.map((_, label) => className(run, label));
  return el("table", { class: classes.some((name) => name.length > 4) ? "matrix long" : "matrix" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, el("td"), names.map((name) => columnHead(name)))),
    el("tbody", {}, rows.map((row, i) => el("tr", {}, rowHead(className(run, i)), row.map((cell) => el("td", {}, cell))))));
}

/** Move the focus to the next number in the direction of an arrow key. */
function walk(event, size) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const step = steps[event.key], from = event.target.closest("[data-at]");
  if (!step || !from) return;
  event.preventDefault();
  let [y, x] = from.dataset.at.split(",").map(Number);
  const isInside = () => Math.min(x, y) >= 0 && Math.max(x, y) < size;
  let next = null;
  do {
    y += step[0];
    x += step[1];
    next = event.currentTarget.querySelector(`[data-at="${y},${x}"]`);
  } while (!next && isInside());
  if (!next) return;
  from.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
}

function confusionSection(run) {
  if (!run.predictions) return null;
  return [el("p", {}, extent(run.predictions)), new Confusion(run).node];
}

// -- classes ---------------------------------------------------------------------------------------

/** A table of the classes that its heads sort. */
class Classes {
  constructor(run) {
    this.columns = [
      { name: "class", value: (row) => run.classes[row.class], shown: (row) => className(run, row.class) },
      { name: "support", value: (row) => row.support, text: whole },
      { name: "predicted", value: (row) => row.predicted, text: whole },
      { name: "precision", value: (row) => row.precision, text: percent, isShare: true },
      { name: "recall", value: (row) => row.recall, text: percent, isShare: true },
      { name: "F1", value: (row) => row.f1, text: percent, isShare: true },
    ];
    this.rows = run.predictions.per_class;
    this.heads = this.columns.map((column) => columnHead(
      el("button", { onclick: () => this.sort(column) }, column.name), { class: column.text ? "number" : null }));
    this.body = el("tbody");
    this.fill(this.rows);
    this.node = scrolling("Numbers of each class", el("table", {},
      el("caption", {}, "Support: examples of the class. Predicted: how often it is predicted. Choose a heading to sort."),
      el("thead", {}, el("tr", {}, this.heads)), this.body), this.rows.length);
  }

  fill(rows) {
    const cell = (row, { value, shown, text, isShare }) => text
      ? el("td", { class: isShare ? "number share" : "number", "--v": isShare ? value(row) : null }, text(value(row)))
      : rowHead(shown(row));
    this.body.replaceChildren(...rows.map((row) => el("tr", {}, this.columns.map((column) => cell(row, column)))));
  }

  /** Sort by a column: numbers from the largest, names from the first; the other way round if it was. */
  sort(column) {
    const head = this.heads[this.columns.indexOf(column)];
    const [first, second] = column.text ? ["descending", "ascending"] : ["ascending", "descending"];
    const order = head.getAttribute("aria-sort") === first ? second : first;
    this.heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const compare = (a, b) => column.text ? a - b : a.localeCompare(b, "en", { numeric: true });
    const sign = order === "ascending" ? 1 : -1;
    this.fill([...this.rows].sort((a, b) => sign * compare(column.value(a), column.value(b))));
  }
}

function classesSection(run) {
  if (!run.predictions) return null;
  const unused = run.predictions.per_class.filter((row) => !row.predicted && row.support);
  const names = unused.slice(0, 20).map((row) => run.classes[row.class]).join(", ");
  return [
    unused.length ? note(`Never predicted: ${names}${unused.length > 20 ? ", ..." : ""}.`) : null,
    new Classes(run).node,
  ];
}
