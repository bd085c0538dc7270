// -- data, settings, comparison --------------------------------------------------------------------

const strip = (sources, alt) => el("div", { class: "strip" }, sources.map((src) => el("img", { src, alt })));

function dataSection(run) {
  const found = run.data;
  if (!found || !Object.keys(found.sizes).length) return null;
  const { classes } = run;
  const sizes = Object.entries(found.sizes).map(([part, count]) => `${whole(count)} to ${part}`).join(", ");
  const many = classes.length ? `; ${plural(classes.length, "class", "classes")}` : "";
  const augmented = found.augmented.map((row) => [strip([row.before], "before"), strip(row.after, "after")]);
  return [
    el("p", {}, `${sizes}${many}.`),
    Object.keys(found.balance).length ? classCounts(found, run) : null,
    augmented.length ? [el("h3", {}, "Augmentation"), table(
      "Training pictures before, and what the network sees in several epochs", ["before", "after"], augmented)] : null,
  ];
}

/** How many examples of each class there are, and some of them. */
function classCounts(found, run) {
  const { classes } = run;
  const parts = Object.entries(found.balance);
  const pictures = new Map(found.examples.map((row) => [row.class, row.examples.map((one) => one.picture)]));
  const count = (counts, i) => number(whole(counts[i]), { share: counts[i] / Math.max(...counts, 1) });
  const rows = classes.map((name, i) => [className(run, i), ...parts.map(([, counts]) => count(counts, i)),
    pictures.has(i) ? strip(pictures.get(i), name) : ""]);
  const heads = ["class", ...parts.map(([part]) => number(part)), pictures.size ? `from the ${found.from} data` : ""];
  const node = table("Examples of each class", heads, rows, { class: "counts" });
  return rows.length > 30 ? folded("counts", `Examples of each of ${rows.length} classes`, node) : node;
}

function settingsSection(run) {
  return table("Settings and versions", ["setting", "value"], run.settings);
}

const asText = { percent, integer: whole, number: short };

function comparisonSection(run, runs) {
  const found = content.comparison;
  if (!found) return null;
  const names = runs.map((one) => one.name);
  const results = found.results.map(({ name, values, kind, best }) =>
    [name, ...values.map((value, i) => number(asText[kind](value), { best: best.includes(i) }))]);
  const settings = found.settings.map(({ name, values }) => [name, ...values]);
  return [
    table("Results after the last epoch", ["", ...names.map((name) => number(name))], results),
    el("h3", {}, "Settings that differ"),
    settings.length ? table("Settings of each run", ["setting", ...names], settings) : quiet("None."),
    found.difference ? difference(found.difference, run, names) : null,
  ];
}

function difference(matrix, run, names) {
  const most = Math.max(...matrix.flat().map(Math.abs), 1);
  const cell = (count, isRight) => {
    if (!count) return el("span", { class: "cell" }, "·");
    const shade = Math.min(3, Math.ceil(3 * Math.abs(count) / most));
    const tone = count > 0 === isRight ? "right" : "missed";
    return el("span", { class: `cell l${shade} ${tone}` }, count > 0 ? `+${count}` : `−${-count}`);
  };
  const rows = matrix.map((row, actual) => row.map((count, predicted) => cell(count, actual === predicted)));
  const caption = `${names[1]} minus ${names[0]}. Rows: actual class, columns: predicted. Blue: better, red: worse.`;
  return [el("h3", {}, "Difference of the confusion matrices"),
    scrolling("Difference of the confusion matrices", square(caption, run, rows))];
}

// -- the top of the page ---------------------------------------------------------------------------

function themeSwitch() {
  const root = document.documentElement;
  if (saved.theme) root.dataset.theme = saved.theme;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const isDark = () => (root.dataset.theme ?? system) === "dark";
  const button = el("button", {
    class: "screen", "aria-pressed": String(isDark()),
    onclick: () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      save("theme", root.dataset.theme);
      button.setAttribute("aria-pressed", String(isDark()));
    },
  }, "Dark");
  return button;
}

/** Says that the training runs, and loads the page again until nothing new has come for long. */
class Live {
  constructor({ period, until }) {
    this.until = until;
    this.seconds = Math.min(30, Math.max(1, period / 2));
    this.text = el("span", { role: "status" });
    this.button = el("button", { onclick: () => this.pause(!saved.paused) }, "Pause");
    this.node = el("p", { class: "live" }, el("span", { class: "dot", "aria-hidden": "true" }), this.text, this.button);
    this.show();
    this.wait();
  }

  isStale() {
    return Date.now() / 1000 > this.until;
  }

  show() {
    if (this.isStale()) {
      this.node.classList.add("stale");
      this.text.textContent = `No news since ${time(content.written)}: the training has ended, or was stopped.`;
      this.button.remove();
      return;
    }
    const next = saved.paused ? "does not reload" : `reloads every ${plural(Math.round(this.seconds), "second")}`;
    this.text.textContent = `The training runs. Written ${time(content.written)}; ${next}.`;
    this.button.setAttribute("aria-pressed", String(saved.paused === true));
  }

  pause(isPaused) {
    save("paused", isPaused);
    this.show();
  }

  wait() {
    if (!this.isStale()) setTimeout(() => this.again(), 1000 * this.seconds);
  }

  again() {
    this.show();
    if (saved.paused || this.isStale()) {
      this.wait();
      return;
    }
    save("scroll", scrollY);
    location.reload();
  }
}

function subtitle(run) {
  const settings = new Map(run.settings);
  const model = settings.get("model"), data = settings.get("data");
  const what = model && data ? `${model} on ${data}` : model;
  const who = content.runs.length > 1 ? `${content.runs.length} runs` : what;
  return [who, `report of ${time(content.written)}`].filter(Boolean).join(" · ");
}

function chooseRun() {
  if (content.runs.length < 2) return null;
  const options = content.runs.map((run, i) => el("option", { value: i, selected: i === (saved.run ?? 0) }, run.name));
  const select = el("select", {
    id: "run",
    onchange: () => {
      save("run", Number(select.value));
      draw(content.runs[select.value]);
    },
  }, options);
  return el("p", {}, el("label", { for: "run" }, "Show in detail: "), select);
}

function drawTop(run) {
  const title = el("div", {}, el("h1", {}, content.title), quiet(subtitle(run)));
  const parts = [el("div", { class: "bar" }, title, themeSwitch()), content.live ? new Live(content.live).node : null,
    content.note ? note(content.note) : null, chooseRun()];
  fill(document.getElementById("top"), {}, parts);
  fill(document.getElementById("foot"), {}, [el("p", {}, `xcnn ${content.version}`)]);
}

// -- the sections ----------------------------------------------------------------------------------

const SECTIONS = [
  ["comparison", "Comparison", comparisonSection],
  ["training", "Training", trainingSection],
  ["outcomes", "Predictions", outcomesSection],
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

/** What is missing, and the most important numbers. */
function overview(run) {
  const missing = run.missing.map((text) => el("li", {}, text));
  const tiles = run.overview.map((tile) => el("div", {}, el("dt", {}, tile.label),
    el("dd", {}, el("div", { class: "value" }, tile.value), el("div", { class: "small quiet" }, tile.note))));
  return [missing.length ? el("div", { class: "note" }, el("ul", {}, missing)) : null,
    el("dl", { class: "tiles", "--columns": tiles.length > 6 ? Math.ceil(tiles.length / 2) : tiles.length, "aria-label": `Results of ${run.name}` }, tiles)];
}

function draw(run) {
  const made = SECTIONS.map(([id, title, make]) => ({ id, title, nodes: make(run, content.runs) }));
  const found = made.filter(({ nodes }) => nodes);
  const sections = found.map(({ id, title, nodes }) =>
    el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title), nodes));
  const links = found.map(({ id, title }) => el("a", { href: `#${id}` }, title));
  const main = document.getElementById("main"), contents = document.getElementById("contents");
  main.replaceChildren();
  fill(main, {}, [overview(run), sections]);
  contents.replaceChildren(el("ul", {}, links.map((link) => el("li", {}, link))));
  followSections(sections, links);
}

/** Mark the section that is being read. */
function followSections(sections, links) {
  const observer = new IntersectionObserver((entries) => {
    const read = entries.find((entry) => entry.isIntersecting);
    if (!read) return;
    links.forEach((link) => link.removeAttribute("aria-current"));
    links[sections.indexOf(read.target)].setAttribute("aria-current", "location");
  }, { rootMargin: "-20% 0px -70% 0px" });
  sections.forEach((section) => observer.observe(section));
}

/** Unfold everything on paper. */
function printing() {
  let closed = [];
  const open = (isOpen) => closed.forEach((node) => node.toggleAttribute("open", isOpen));
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    open(true);
  });
  addEventListener("afterprint", () => open(false));
}

const shownRun = content.runs[saved.run] ?? content.runs[0];
drawTop(shownRun);
draw(shownRun);
printing();
if (saved.scroll !== undefined) { // loaded again
  history.scrollRestoration = "manual";
  scrollTo({ top: saved.scroll, behavior: "instant" });
  save("scroll", undefined);
}
