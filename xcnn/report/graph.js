// -- architecture ----------------------------------------------------------------------------------

const MAX_ROWS = 40; // before modules are folded
const LANES = 8; // for lines next to each other

/** The layers in the order of their calls; modules can be folded to one row. */
class Graph {
  constructor(found) {
    this.found = found;
    this.groups = this.findGroups();
    this.open = this.unfolded();
    this.body = el("tbody");
    this.lines = svg("svg", { "aria-hidden": "true" });
    this.table = el("table", {}, el("caption", {}, this.caption()), el("thead", {}, this.heads()), this.body);
    this.graph = el("div", { class: "graph" }, this.lines, this.table);
    const buttons = this.groups.size ? el("p", { class: "screen" },
      el("button", { onclick: () => this.show(this.groups) }, "Unfold all"), " ",
      el("button", { onclick: () => this.show([]) }, "Fold all")) : null;
    this.node = el("div", {}, buttons, scrolling("Architecture", this.graph));
    this.fill();
    new ResizeObserver(() => this.draw()).observe(this.table);
  }

  caption() {
    const { model, parameters, multiply_adds: products } = this.found;
    return `${model}: ${whole(parameters)} parameters, ${whole(products)} multiply-adds per example. ` +
      "Lines lead from an output to where it is taken; the shape is (channels, height, width).";
  }

  heads() {
    const [optional, right] = [{ class: "optional" }, { class: "number" }];
    return el("tr", {}, columnHead("layer"), columnHead("kind", optional), columnHead("output"),
      columnHead("parameters", right), columnHead("multiply-adds", right), columnHead("takes", optional));
  }

  // -- modules that are folded or not

  /** Every module with several nodes inside. */
  findGroups() {
    const counts = new Map();
    const paths = this.found.nodes.flatMap((node) => this.above(node));
    paths.forEach((path) => counts.set(path, (counts.get(path) ?? 0) + 1));
    return new Set([...counts.keys()].filter((path) => counts.get(path) > 1));
  }

  isLayer(node) {
    return this.found.kinds[node.path] === node.kind; // else an operation, called by the module at the path
  }

  /** The modules around a node, outermost first. */
  above(node) {
    const parts = node.path === "" ? [] : node.path.split(".");
    const paths = parts.map((_, i) => parts.slice(0, i + 1).join("."));
    return this.isLayer(node) ? paths.slice(0, -1) : paths;
  }

  /** Modules to unfold at first: the outer ones, to a depth at which the table is short. */
  unfolded() {
    const depth = (path) => path.split(".").length;
    const paths = [...this.groups];
    for (let most = Math.max(0, ...paths.map(depth)); most > 0; most--) {
      const open = new Set(paths.filter((path) => depth(path) <= most));
      if (this.rows(open).length <= MAX_ROWS) return open;
    }
    return new Set();
  }

  /** The rows of the table: the path of a folded module, if it is one, and the positions of its nodes. */
  rows(open) {
    const rows = [];
    this.found.nodes.forEach((node, i) => {
      const path = this.above(node).find((one) => this.groups.has(one) && !open.has(one));
      if (path !== undefined && rows.at(-1)?.path === path) rows.at(-1).places.push(i);
      else rows.push({ path, places: [i] });
    });
    return rows;
  }

  show(paths) {
    this.open = new Set(paths);
    this.fill();
  }

  toggle(path, name) {
    if (!this.open.delete(path)) this.open.add(path);
    this.fill();
    [...this.body.querySelectorAll("button")].find((button) => button.ariaLabel === name)?.focus();
  }

  // -- the table

  fill() {
    const rows = this.rows(this.open);
    const rowOf = new Map([[-1, 0]]); // of each node; row 0 is the input
    rows.forEach((row, i) => row.places.forEach((place) => rowOf.set(place, i + 1)));
    const shown = rows.map((row, i) => this.describe(row, i + 1, rowOf));
    this.edges = shown.flatMap((row, i) => row.sources.map((from) => [from, i + 1]));
    const names = ["input", ...shown.map((row) => row.name)];
    const largest = (key) => Math.max(...shown.map((row) => row[key]), 1);
    const most = { parameters: largest("parameters"), multiply_adds: largest("multiply_adds") };
    const input = el("tr", {}, rowHead("input", { class: "path" }), el("td", { class: "optional" }),
      el("td", { colspan: 3 }), el("td", { class: "optional" }));
    this.body.replaceChildren(input, ...shown.map((row, i) => this.row(row, i + 1, names, most)));
    this.draw();
  }

  /** What a row shows: one node, or the sums of a folded module. */
  describe({ path, places }, at, rowOf) {
    const nodes = places.map((place) => this.found.nodes[place]);
    const [first] = nodes, isLayer = this.isLayer(first), isFolded = path !== undefined;
    const sum = (key) => nodes.reduce((total, node) => total + node[key], 0);
    const sources = nodes.flatMap((node) => node.inputs.map((place) => rowOf.get(place)));
    const module = { name: path, kind: `${this.found.kinds[path]}, ${plural(nodes.length, "layer")}` };
    const layer = { name: first.path, kind: first.text };
    const operation = { name: [first.path, first.kind].filter(Boolean).join(": "), kind: "operation" };
    return {
      path, first: places[0], ...(isFolded ? module : isLayer ? layer : operation),
      shape: nodes.at(-1).shape, parameters: sum("parameters"), multiply_adds: sum("multiply_adds"),
      sources: [...new Set(sources)].filter((from) => from !== at),
    };
  }

  row(row, at, names, most) {
    const count = (key) => el("td", { class: "number share", "--v": row[key] / most[key] },
      row[key] ? whole(row[key]) : "–");
    const isNext = row.sources.length === 1 && row.sources[0] === at - 1;
    return el("tr", {},
      rowHead([this.button(row), row.name], { class: "path" }),
      el("td", { class: "optional" }, row.kind),
      el("td", {}, shape(row.shape)),
      count("parameters"), count("multiply_adds"),
      el("td", { class: "optional" }, isNext ? "↑" : row.sources.map((from) => names[from]).join(", ")));
  }

  /** A button that unfolds a module, or folds the one that starts here. */
  button({ path, first }) {
    const { nodes } = this.found;
    const starts = (one) => nodes.findIndex((node) => this.above(node).includes(one)) === first;
    const found = path ?? this.above(nodes[first]).filter((one) => this.open.has(one) && starts(one)).at(-1);
    if (found === undefined) return null;
    const isOpen = this.open.has(found);
    const [name, after] = isOpen ? ["fold", "unfold"] : ["unfold", "fold"];
    return el("button", {
      "aria-expanded": String(isOpen), "aria-label": `${name} ${found}`, title: `${name} ${found}`,
      onclick: () => this.toggle(found, `${after} ${found}`),
    }, isOpen ? "−" : "+");
  }

  // -- the lines on the left: straight ones to the next row, bows around the rows between

  draw() {
    const straight = this.edges.filter(([from, to]) => to - from === 1);
    const { bows, lanes } = this.bows();
    const x = 14 + 10 * lanes;
    this.graph.style.setProperty("padding-left", `${x + 14}px`);
    const top = this.graph.getBoundingClientRect().top;
    const y = [...this.body.rows].map((row) => {
      const box = row.getBoundingClientRect();
      return box.top - top + Math.min(box.height / 2, 16);
    });
    this.lines.setAttribute("width", x + 12);
    this.lines.setAttribute("height", this.graph.clientHeight);
    this.lines.replaceChildren(
      ...straight.map(([from, to]) => svg("path", { class: "edge", d: `M${x} ${y[from]}V${y[to]}` })),
      ...bows.map(([from, to, lane]) => bow(x, x - 10 * (lane + 1), y[from], y[to])),
      ...y.map((at) => svg("circle", { class: "node", cx: x, cy: at, r: 4 })));
  }

  /** A lane for each line that passes other rows: short lines are on the inside. */
  bows() {
    const lanes = [];
    const isFree = (lane, from, to) => lane.every(([start, end]) => to <= start || from >= end);
    const skips = this.edges.filter(([from, to]) => to - from !== 1);
    skips.sort((a, b) => (a[1] - a[0]) - (b[1] - b[0]));
    const bows = skips.map(([from, to]) => {
      let lane = lanes.findIndex((one) => isFree(one, from, to));
      if (lane < 0) lane = lanes.length < LANES ? lanes.push([]) - 1 : LANES - 1;
      lanes[lane].push([from, to]);
      return [from, to, lane];
    });
    return { bows, lanes: lanes.length };
  }
}

function bow(x, left, from, to) {
  const down = `C${left} ${from} ${left} ${from} ${left} ${from + 12}`;
  const back = `C${left} ${to} ${left} ${to} ${x} ${to}`;
  return svg("path", { class: "edge skip-edge", d: `M${x} ${from}${down}V${to - 12}${back}` });
}

function architectureSection(run) {
  const found = run.architecture;
  if (!found) return null;
  const more = found.left_out ? note(`${plural(found.left_out, "further node")} are not drawn.`) : null;
  return [more, new Graph(found).node];
}
