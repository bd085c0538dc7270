// -- what the network looks at, and what is inside -------------------------------------------------

/** A sheet of maps, as wide as its columns need at a readable size. */
function sheet(found, tile, alt, caption) {
  const figure = picture(found.sheet, alt, caption);
  figure.firstChild.setAttribute("width", found.columns * tile);
  return figure;
}

function featureMaps(found, key) {
  if (!found.features.length) return null;
  const sheets = found.features.map((stage) => {
    const part = stage.maps < stage.shape[0] ? `, the first ${stage.maps}` : "";
    const tile = Math.max(30, Math.min(56, 2 * stage.shape[2]));
    return sheet(stage, tile, `${stage.maps} feature maps of ${stage.path} for example ${found.index}`,
      `${stage.path}: ${shape(stage.shape)}${part}`);
  });
  return folded(key, `Feature maps of ${plural(sheets.length, "stage")}`, el("div", { class: "sheets" }, sheets));
}

function explainedSection(run) {
  if (!run.explained?.length) return null;
  const cards = run.explained.map((found, at) => {
    const [label, p] = found.top[0];
    const name = run.classes[label];
    const taken = label === found.actual ? name : `${run.classes[found.actual]}, taken for ${name}`;
    const maps = found.maps.map((map) =>
      picture(map.map, `${map.name} of ${name} for example ${found.index}`, map.name));
    return el("div", { class: at ? "card" : null },
      el("h3", {}, `${found.why}: ${taken}, ${probability(p)}`),
      el("div", { class: "maps" }, picture(found.picture, `example ${found.index}`, "Picture"), maps),
      featureMaps(found, `maps-${at}`));
  });
  const what = run.has_one_output ? run.classes[1] : "the predicted class";
  return [quiet(`What the score of ${what} depends on. Grad-CAM and occlusion: yellow matters most. `,
    "Gradients: how much the score changes with each pixel, its largest channel. ",
    "Feature maps are scaled each on its own."), cards];
}

function filtersSection(run) {
  if (!run.filters?.length) return null;
  const sheets = run.filters.map((layer) => {
    const grid = `, a column for each of ${layer.filters} filters, a row for each of ${layer.channels} channels`;
    const part = layer.is_grid ? grid : layer.filters < layer.shape[0] ? `, the first ${layer.filters}` : "";
    const tile = Math.max(27, 6 * layer.shape[3]) * (layer.is_grid ? 1 : 1.8);
    return sheet(layer, tile, `filters of ${layer.path}`,
      `${layer.path}: ${shape(layer.shape)}${part}; largest weight ${short(layer.largest)}`);
  });
  return [quiet("Blue: negative, white: 0, red: positive. Filters of colour pictures are shown as colours, 0 in grey."),
    el("div", { class: "sheets" }, sheets)];
}

/** A small histogram. */
function histogram(counts) {
  const most = Math.max(...counts, 1), width = 4 * counts.length;
  const bar = (count, i) => {
    const height = count ? Math.max(1, 28 * count / most) : 0;
    return svg("rect", { class: "bars", x: 4 * i, y: 28 - height, width: 3.4, height });
  };
  return svg("svg", { width, height: 28, viewBox: `0 0 ${width} 28`, "aria-hidden": "true" }, counts.map(bar));
}

function layersSection(run) {
  if (!run.layers) return null;
  const { outputs, weights, examples } = run.layers;
  const row = (one) => [one.path || one.kind, one.kind, histogram(one.counts),
    ...[one.minimum, one.mean, one.maximum, one.std].map((value) => number(short(value)))];
  const more = (one) => [number(percent(one.zeros)), number(one.dead === null ? "–" : `${one.dead} of ${one.units}`)];
  const heads = (name) => [name, "kind", "distribution", ...["min", "mean", "max", "std"].map((text) => number(text))];
  const dead = outputs.reduce((sum, one) => sum + (one.dead ?? 0), 0);
  const said = `${plural(dead, "unit")} that ${dead === 1 ? "is" : "are"} 0 for ${examples === 1 ? "the test example" : `all of ${plural(examples, "test example")}`}.`;
  return [
    outputs.length ? el("p", {}, said) : null,
    outputs.length ? table("Outputs of the layers", [...heads("layer"), number("zeros"), number("dead units")],
      outputs.map((one) => [...row(one), ...more(one)])) : null,
    folded("weights", "Weights", table("Parameters of the network", heads("parameter"), weights.map(row))),
  ];
}
