"use strict";

const WAIT = 60; // milliseconds after a change, before the picture is sent
const SHOWN = 10; // classes in the table
const TILE = 56; // pixels of a feature map on the page, and between two of them
const GAP = 4;

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
const pen = picture.getContext("2d", { willReadFrequently: true });

let network = null; // what the server says of it
let token = "";
let content = null; // a file, or "drawing"
let timer = 0;
let sending = false;
let changedMeanwhile = false;
let asked = 0; // numbers of the last change, and of the last that was answered
let answered = 0;

// -- the server ------------------------------------------------------------------------------

/** The token after # in the address, which does not stay there; a reload keeps it. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") || "";
}

async function ask(path, settings = {}) {
  const headers = token ? { "X-Token": token } : {};
  let answer;
  try {
    answer = await fetch(path, { ...settings, headers });
  } catch {
    throw new Error("The server does not answer: is xcnn demo still running?");
  }
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

/** Send the picture soon, and once more if it changes while the answer is awaited. */
function changed() {
  asked++;
  clearTimeout(timer);
  timer = setTimeout(send, WAIT);
}

async function send() {
  if (content === null || network === null) return;
  if (sending) {
    changedMeanwhile = true;
    return;
  }
  sending = true;
  changedMeanwhile = false;
  const sent = content;
  const number = asked;
  try {
    const isDrawing = sent === "drawing";
    const settings = new URLSearchParams();
    if (!isDrawing && byId("invert").checked) settings.set("invert", "1");
    if (byId("cam").checked) {
      settings.set("cam", "1");
      if (byId("class").value) settings.set("class", byId("class").value);
    }
    const body = isDrawing ? drawing() : sent;
    const found = await ask(`predict?${settings}`, { method: "POST", body });
    if (content === sent) show(found);
  } catch (error) {
    if (content === sent) tell(error.message, true);
  } finally {
    sending = false;
    answered = number;
    if (changedMeanwhile) send();
  }
}

/** The drawing as a PNG file; toBlob would wait until the browser is idle. */
function drawing() {
  return decoded(picture.toDataURL("image/png").split(",")[1]);
}

const decoded = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// -- the answer ------------------------------------------------------------------------------

function tell(text, isError = false) {
  const result = byId("result");
  if (result.textContent !== text) result.textContent = text;
  result.classList.toggle("error", isError);
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;

function show(found) {
  const order = found.probabilities.map((p, n) => [p, n]).sort((a, b) => b[0] - a[0]);
  const [p, best] = order[0];
  tell(`${network.classes[best]} (${percent(p)})`);
  // ten classes in their own order, so that rows do not jump; of more, the most probable
  const rows = order.slice(0, SHOWN);
  if (order.length <= SHOWN) rows.sort((a, b) => a[1] - b[1]);
  byId("probabilities").tBodies[0].replaceChildren(...rows.map((row) => bar(...row, best)));
  showInput(found);
  byId("no-features").hidden = found.maps.length > 0;
  byId("stages").replaceChildren(...found.maps.map(stage));
  picture.setAttribute("aria-label", content === "drawing" ? "Your drawing" : "Your picture");
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function bar(p, n, best) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS(svg.namespaceURI, "rect");
  rect.setAttribute("width", `${100 * p}%`);
  rect.setAttribute("height", "100%");
  svg.append(rect);
  const number = make("span", { className: "number", textContent: percent(p) });
  const cell = make("td", {}, make("div", { className: "row" }, svg, number));
  const name = network.classes[n];
  const label = make("div", { className: "class", title: name, textContent: name });
  const head = make("th", { scope: "row" }, label);
  return make("tr", { className: n === best ? "first" : "" }, head, cell);
}

/** Colours of matplotlib's viridis and inferno, to interpolate between. */
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const INFERNO = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

function colour(scale, value) {
  const place = (value / 255) * (scale.length - 1);
  const low = Math.min(Math.floor(place), scale.length - 2);
  return scale[low].map((c, i) => c + (scale[low + 1][i] - c) * (place - low));
}

/** The picture as the network gets it, and Grad-CAM over it. */
function showInput(found) {
  const canvas = byId("input");
  const [channels, height, width] = found.input.shape;
  const pixels = decoded(found.input.data);
  const heat = found.cam ? decoded(found.cam.data) : null;
  canvas.width = width;
  canvas.height = height;
  const paint = canvas.getContext("2d");
  const image = paint.createImageData(width, height);
  const size = width * height;
  for (let i = 0; i < size; i++) {
    let rgb = [0, 1, 2].map((c) => pixels[(channels === 1 ? 0 : c) * size + i]);
    if (heat) {
      const grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
      const share = (0.85 * heat[i]) / 255;
      rgb = colour(INFERNO, heat[i]).map((c) => c * share + grey * (1 - share));
    }
    image.data.set([...rgb, 255], 4 * i);
  }
  paint.putImageData(image, 0, 0);
  const map = found.cam ? `, with Grad-CAM of ${network.classes[found.cam.class]}` : "";
  canvas.setAttribute("aria-label", `Input of ${width} by ${height} pixels${map}`);
}

/** The feature maps of a stage, side by side. */
function stage(maps) {
  const [count, height, width] = maps.shape;
  const data = decoded(maps.data);
  const tall = Math.round((TILE * height) / width);
  const columns = Math.min(count, Math.floor((byId("stages").clientWidth + GAP) / (TILE + GAP)));
  const canvas = make("canvas", {
    width: columns * (TILE + GAP) - GAP,
    height: Math.ceil(count / columns) * (tall + GAP) - GAP,
  });
  const paint = canvas.getContext("2d");
  paint.imageSmoothingEnabled = false;
  const tile = make("canvas", { width, height });
  for (let n = 0; n < count; n++) {
    const image = tile.getContext("2d").createImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      image.data.set([...colour(VIRIDIS, data[n * width * height + i]), 255], 4 * i);
    }
    tile.getContext("2d").putImageData(image, 0, 0);
    const [column, row] = [n % columns, Math.floor(n / columns)];
    paint.drawImage(tile, column * (TILE + GAP), row * (tall + GAP), TILE, tall);
  }
  const size = `${maps.channels} maps of ${maps.size.join("×")}`;
  const text = count < maps.channels ? `${size}, the first ${count}` : size;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${maps.path}: ${text}`);
  const title = make("h3", { textContent: `${maps.path} ` }, make("span", { textContent: text }));
  return make("div", {}, title, canvas);
}

// -- the picture -----------------------------------------------------------------------------

function clear() {
  content = null;
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, picture.width, picture.height);
  byId("hint").hidden = false;
  byId("file").value = "";
  byId("probabilities").tBodies[0].replaceChildren();
  byId("stages").replaceChildren();
  byId("no-features").hidden = false;
  byId("input").width = byId("input").height = 1;
  byId("input").setAttribute("aria-label", "Nothing yet");
  picture.setAttribute("aria-label", "Empty picture");
  tell("No picture yet.");
}

/** Show a file as the network will get it, stretched or cropped, and send it as it is. */
async function take(file) {
  if (!file || network === null) return;
  clear();
  content = file;
  byId("hint").hidden = true;
  changed();
  try {
    const image = await createImageBitmap(file);
    if (content !== file) return;
    const fit = network.crop
      ? Math.max(picture.width / image.width, picture.height / image.height)
      : 0;
    const width = fit ? image.width * fit : picture.width;
    const height = fit ? image.height * fit : picture.height;
    const place = [(picture.width - width) / 2, (picture.height - height) / 2];
    pen.drawImage(image, ...place, width, height);
  } catch {
    // the server says what is wrong with it
  }
}

function draw() {
  let last = null;
  const place = (event) => {
    const box = picture.getBoundingClientRect();
    const scale = picture.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const line = (from, to) => {
    pen.strokeStyle = "#fff";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = (byId("stroke").value / 100) * picture.width;
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
    changed();
  };
  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (content !== "drawing") clear();
    content = "drawing";
    byId("hint").hidden = true;
    picture.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
  });
  picture.addEventListener("pointermove", (event) => {
    if (last === null) return;
    for (const step of event.getCoalescedEvents?.() || [event]) {
      const next = place(step);
      line(last, next);
      last = next;
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    picture.addEventListener(end, () => { last = null; });
  }
}

function dropAndPaste() {
  const over = (isOver) => document.body.classList.toggle("dropping", isOver);
  addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(false); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => take(event.clipboardData.files[0]));
}

async function start() {
  takeToken();
  try {
    network = await ask("network");
  } catch (error) {
    byId("about").textContent = "";
    tell(error.message, true);
    return;
  }
  const [channels, height, width] = network.shape;
  const isDrawable = channels === 1;
  document.title = `${network.name}: xcnn demo`;
  byId("name").textContent = network.name;
  const kind = isDrawable ? "grey" : "colour";
  byId("about").textContent =
    `${network.classes.length} classes, ${kind} pictures of ${width}×${height}`;
  picture.height = Math.round((picture.width * height) / width);
  byId("hint").textContent = isDrawable ? "Draw here, or drop a picture" : "Drop a picture here";
  byId("invert").checked = network.invert;
  byId("class").append(
    ...network.classes.map((name, n) => make("option", { value: n, textContent: name })),
  );
  if (isDrawable) {
    document.body.classList.add("drawable");
    byId("pen").hidden = false;
    byId("stroke").value = Math.round(100 * network.stroke);
    byId("guide").hidden = network.margin === 0;
    byId("guide").style.inset = `${100 * network.margin}%`;
    draw();
  }
  dropAndPaste();
  clear();
  byId("clear").addEventListener("click", clear);
  byId("predict").addEventListener("click", () => {
    if (content === null) tell("Draw something first, or choose a file.", true);
    changed();
  });
  byId("file").addEventListener("change", (event) => take(event.target.files[0]));
  for (const id of ["invert", "cam", "class"]) byId(id).addEventListener("change", changed);
}

start();
