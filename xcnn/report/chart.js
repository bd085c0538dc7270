// -- curves ----------------------------------------------------------------------------------------

const MAX_SERIES = 6; // colours

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
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step + 0); // + 0: not -0
}

function axisLabel(value) {
  const size = Math.abs(value);
  const isExtreme = size >= 1e5 || (size > 0 && size < 1e-3);
  if (isExtreme) return value.toExponential(1).replace(".0e", "e");
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

/** A chart of numbers for each epoch: series have a label, a class, x, y, and may be dashed. */
class Chart {
  constructor(name, title, series) {
    Object.assign(this, { name, title, series });
    this.epochs = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
    this.at = this.epochs.length - 1;
    const values = series.flatMap((s) => s.y).filter((y) => y !== null).sort((a, b) => a - b);
    this.low = values[0];
    this.high = values.at(-1);
    this.log = this.low > 0 && (saved[`log-${name}`] ?? false);
    this.output = el("output", { "aria-live": "polite" });
    this.plot = el("div", {
      class: "plot", tabindex: 0, role: "img", "aria-roledescription": "chart",
      "aria-label": `${title} for ${plural(this.epochs.length, "epoch")}. Arrow keys read the numbers.`,
      onpointermove: (event) => this.point(event), onkeydown: (event) => this.key(event),
    });
    const parts = [this.head(), this.legend(), this.plot, this.output, this.numbers()];
    this.node = el("div", { class: "chart" }, parts);
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
    const values = (epoch) => this.series.map((s) => number(short(this.value(s, epoch))));
    const rows = this.epochs.map((epoch) => [whole(epoch), ...values(epoch)]);
    const heads = ["epoch", ...this.series.map((s) => number(s.label))];
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
    const height = 230;
    this.width = Math.max(200, this.plot.clientWidth);
    this.bottom = height - 28;
    this.range = this.limits();
    const marks = ticks(...this.range, this.log);
    this.left = 14 + 7 * Math.max(...marks.map((value) => axisLabel(value).length), 2);
    this.cursor = svg("g", {});
    this.plot.replaceChildren(svg("svg", {
      width: this.width, height, viewBox: `0 0 ${this.width} ${height}`, "aria-hidden": "true",
    }, marks.map((value) => this.line(value)), this.axis(), this.series.map((s) => this.curve(s)), this.cursor));
    this.mark();
  }

  /** The smallest and the largest number that can be drawn. */
  limits() {
    if (this.log) return [this.low * 0.93, this.high * 1.07];
    const margin = (this.high - this.low) * 0.04;
    return [this.low >= 0 ? Math.max(0, this.low - margin) : this.low - margin, this.high + margin];
  }

  line(value) {
    const y = this.y(value);
    return [svg("path", { class: "grid", d: `M${this.left} ${y}H${this.width - 4}` }),
      svg("text", { x: this.left - 6, y: y + 4, "text-anchor": "end" }, axisLabel(value))];
  }

  axis() {
    const wanted = ticks(this.epochs[0], this.epochs.at(-1), false).filter(Number.isInteger);
    const labels = (wanted.length ? wanted : this.epochs).map((epoch) =>
      svg("text", { x: this.x(epoch), y: this.bottom + 19, "text-anchor": "middle" }, String(epoch)));
    return [svg("path", { class: "axis", d: `M${this.left} ${this.bottom}H${this.width - 4}` }), labels];
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
  if (!runs.some((one) => one.history.epochs)) return quiet("No epoch was finished.");
  const named = (one, text) => runs.length > 1 ? `${text} of ${one.name}` : text;
  const bad = runs.flatMap((one) => one.history.bad.map((column) => named(one, column)));
  const thinned = used.map(({ history: { epochs, columns } }) => epochs > columns.epoch.length
    ? quiet(`${whole(columns.epoch.length)} of ${whole(epochs)} epochs are drawn, evenly spaced.`) : null);
  return [
    thinned,
    bad.length ? note(`Infinite numbers or NaN are left out: ${bad.join(", ")}.`) : null,
    used.length ? el("div", { class: "charts" }, charts(used)) : quiet("There is nothing to draw."),
  ];
}
