// Draw, drop, choose or paste an image; send it; show what the models see and what each says.

const find = (selector) => document.querySelector(selector);
const main = find("#main");
const canvas = find("#drawing");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const LONG = 280; // pixels of the canvas's longer side
const PEN = 0.08; // of that side: about two pixels of MNIST's 28
const THIN = 0.02; // likewise, the least
const STROKE = 0.13; // of a drawing that is to be centred: as wide as in MNIST, whatever its size
const TOP = 3; // classes that are shown
const largest = Number(main.dataset.largest);
const unit = LONG / Math.max(main.dataset.width, main.dataset.height);
canvas.width = Math.round(main.dataset.width * unit);
canvas.height = Math.round(main.dataset.height * unit);

// Drawing: strokes are kept, so that the last one can be taken back. White on black, whatever is shown.
const strokes = [];

function paint(brush = pen, width = LONG * PEN, margin = 0) {
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, brush.canvas.width, brush.canvas.height);
  brush.strokeStyle = "#fff";
  brush.lineWidth = width;
  brush.lineCap = brush.lineJoin = "round";
  for (const [first, ...rest] of strokes) {
    brush.beginPath();
    brush.moveTo(first[0] + margin, first[1] + margin);
    for (const [x, y] of rest.length ? rest : [first]) brush.lineTo(x + margin, y + margin);
    brush.stroke();
  }
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

let drawing = false;
canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  drawing = true;
  strokes.push([pointOf(event)]);
  paint();
});
canvas.addEventListener("pointermove", (event) => {
  if (!drawing || !event.isPrimary) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) strokes.at(-1).push(pointOf(each));
  paint();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    if (!drawing || !event.isPrimary) return;
    drawing = false;
    askOfDrawing();
  });
}
find("#clear").addEventListener("click", () => { strokes.length = 0; paint(); reset(); });
find("#undo").addEventListener("click", () => {
  strokes.pop();
  paint();
  if (strokes.length) askOfDrawing();
  else if (!file) reset();
});
for (const option of document.querySelectorAll(".options input")) {
  option.addEventListener("change", () => { if (strokes.length) askOfDrawing(); else if (file) askOfFile(file); });
}

// The drawing as models see it, light and dark turned round where they turn files round. To be centred, it gets a margin,
// and strokes as wide as its size asks for: else a small drawing would become thick, and a large one thin.
function prepared() {
  const image = document.createElement("canvas");
  const brush = image.getContext("2d");
  const spare = find("#centre")?.checked ? LONG * PEN * 2 : 0;
  [image.width, image.height] = [canvas.width + 2 * spare, canvas.height + 2 * spare];
  const sides = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const side = Math.max(...sides.map((each) => Math.max(...each) - Math.min(...each)));
  const fitting = Math.min(Math.max((side * STROKE) / (1 - STROKE), LONG * THIN), LONG * PEN * 2);
  paint(brush, spare && side > LONG * PEN ? fitting : LONG * PEN, spare);
  if ((main.dataset.background === "light") !== (main.dataset.polarity === "inverted")) {
    brush.globalCompositeOperation = "difference";
    brush.fillStyle = "#fff";
    brush.fillRect(0, 0, image.width, image.height);
  }
  return new Promise((resolve) => { image.toBlob(resolve, "image/png"); });
}

// Asking: of several questions, the last one counts.
let asked = new AbortController();
let file = null; // that was asked about last

async function askOfDrawing() {
  asked.abort();
  const mine = asked = new AbortController();
  file = null;
  const image = await prepared();
  if (!mine.signal.aborted) await ask(image, "your drawing", mine);
}

async function askOfFile(chosen) {
  asked.abort();
  asked = new AbortController();
  file = chosen;
  strokes.length = 0;
  paint();
  await ask(file, file.name || "what you pasted", asked);
}

async function ask(content, name, controller) {
  if (content.size > largest) return fail(`${name} is larger than ${largest / 2 ** 20} MB`);
  const type = /^(image|audio)\//.test(content.type) ? content.type : "application/octet-stream";
  const options = ["invert", "centre"].filter((option) => find(`#${option}`)?.checked).map((option) => `${option}=1`);
  try {
    const request = { method: "POST", body: content, headers: { "Content-Type": type }, signal: controller.signal };
    const response = await fetch(`predict?${options.join("&")}`, request);
    const answer = await response.json();
    if (response.ok) tell(answer, name);
    else fail(answer.error);
  } catch (error) {
    if (error.name !== "AbortError") fail("The server does not answer: is it still running?");
  }
}

// Showing.
function tell({ answers, warnings, unfamiliar, seen }, name) {
  find("#error").hidden = true;
  find("#sent img").src = seen;
  find("#sent figcaption").textContent = `${name}, as the models see it`;
  find("#sent").hidden = false;
  const votes = new Map();
  for (const [strategy, classes] of Object.entries(answers)) {
    votes.set(classes[0].class, [...(votes.get(classes[0].class) ?? []), strategy]);
    find(`[data-strategy="${CSS.escape(strategy)}"] ol`).replaceChildren(...classes.slice(0, TOP).map(line));
  }
  const sorted = [...votes].sort((a, b) => b[1].length - a[1].length);
  const models = Object.keys(answers).length;
  const one = sorted.length === 1;
  const differing = sorted.map(([each, strategies]) => `${each} (${strategies.join(", ")})`).join(" or ");
  find("#summary").textContent = unfamiliar
    ? `This looks unlike everything that the models were trained on. The nearest is ${sorted.map(([each]) => each).join(" or ")}`
    : one ? `${models > 1 ? `All ${models} models say` : "The model says"} ${sorted[0][0]}` : `They differ: ${differing}`;
  warn(warnings.map((each) => `The image is ${each}.`));
}

function warn(lines) {
  find("#warnings").hidden = !lines.length;
  find("#warnings").replaceChildren(...lines.map((each) => {
    const item = document.createElement("li");
    item.textContent = each;
    return item;
  }));
}

function line({ class: name, probability }) {
  const item = document.createElement("li");
  const [label, number, bar, fill] = ["span", "span", "span", "i"].map((tag) => document.createElement(tag));
  label.className = "class";
  label.textContent = label.title = name;
  label.dir = "auto";
  number.textContent = `${(100 * probability).toFixed(1)} %`;
  bar.className = "bar";
  bar.ariaHidden = "true";
  fill.style.width = `${100 * probability}%`;
  bar.append(fill);
  item.append(label, number, bar);
  return item;
}

function reset() {
  asked.abort();
  file = null;
  forget("No image yet.");
  find("#error").hidden = true;
}

function fail(text) {
  forget("No answer.");
  find("#error").textContent = text;
  find("#error").hidden = false;
}

function forget(text) {
  for (const list of document.querySelectorAll("#answers ol")) list.replaceChildren();
  warn([]);
  find("#sent").hidden = true;
  find("#summary").textContent = text;
}

// Files: chosen, dropped anywhere, or pasted.
find("#file").addEventListener("change", (event) => {
  if (event.target.files.length) askOfFile(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (event.dataTransfer.files.length) askOfFile(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) askOfFile(event.clipboardData.files[0]);
});

paint();
