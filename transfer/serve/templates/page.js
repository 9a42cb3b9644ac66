// Draw, drop, choose or paste an image; send it; show what every model says.

const find = (selector) => document.querySelector(selector);
const main = find("#main");
const canvas = find("#drawing");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const LONG = 280; // pixels of the canvas's longer side
const PEN = 0.08; // of that side: about two pixels of MNIST's 28
const FILLED = 20 / 28; // of the side, by the ink
const FAINT = 16; // of 255: what is no more is not ink
const TOP = 3; // classes that are shown
const largest = Number(main.dataset.largest);
const unit = LONG / Math.max(main.dataset.width, main.dataset.height);
canvas.width = Math.round(main.dataset.width * unit);
canvas.height = Math.round(main.dataset.height * unit);

// Drawing: strokes are kept, so that the last one can be taken back. White on black, whatever is shown.
const strokes = [];

function paint() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = "#fff";
  pen.lineWidth = LONG * PEN;
  pen.lineCap = pen.lineJoin = "round";
  for (const [first, ...rest] of strokes) {
    pen.beginPath();
    pen.moveTo(...first);
    for (const point of rest.length ? rest : [first]) pen.lineTo(...point);
    pen.stroke();
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
find("#undo").addEventListener("click", () => { strokes.pop(); redraw(); });
find("#centre")?.addEventListener("change", redraw);
find("#dark").addEventListener("change", (event) => { canvas.classList.toggle("dark", event.target.checked); redraw(); });

function redraw() {
  paint();
  if (strokes.length) askOfDrawing();
  else if (shown === "drawing") reset();
}

// As MNIST was made (LeCun et al. 1998): the ink scaled into a box, its centre of mass in the middle.
function centred() {
  const { width, height } = canvas;
  const pixels = pen.getImageData(0, 0, width, height).data;
  let [left, top, right, bottom, mass, x, y] = [width, height, -1, -1, 0, 0, 0];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const ink = pixels[4 * (row * width + column)];
      if (ink <= FAINT) continue;
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
      mass += ink;
      x += ink * (column + 0.5);
      y += ink * (row + 0.5);
    }
  }
  if (!mass) return null;
  const scale = FILLED * Math.min(width / (right - left + 1), height / (bottom - top + 1));
  return { scale, x: width / 2 - (scale * x) / mass, y: height / 2 - (scale * y) / mass };
}

// What is shown, or that in light and dark turned round where the models turn their files round.
function prepared() {
  const image = document.createElement("canvas");
  [image.width, image.height] = [canvas.width, canvas.height];
  const brush = image.getContext("2d");
  brush.fillRect(0, 0, image.width, image.height);
  brush.imageSmoothingQuality = "high";
  const place = (find("#centre")?.checked && centred()) || { scale: 1, x: 0, y: 0 };
  brush.drawImage(canvas, place.x, place.y, canvas.width * place.scale, canvas.height * place.scale);
  if (find("#dark").checked !== (main.dataset.polarity === "inverted")) {
    brush.globalCompositeOperation = "difference";
    brush.fillStyle = "#fff";
    brush.fillRect(0, 0, image.width, image.height);
  }
  return new Promise((resolve) => { image.toBlob(resolve, "image/png"); });
}

// Asking: of several questions, the last one counts.
let asked = new AbortController();
let shown = "";

async function askOfDrawing() {
  asked.abort();
  const mine = asked = new AbortController();
  const image = await prepared();
  if (!mine.signal.aborted) await ask(image, "drawing", "your drawing, as it was sent", mine);
}

async function askOfFile(file) {
  asked.abort();
  asked = new AbortController();
  strokes.length = 0;
  paint();
  await ask(file, "file", file.name || "what you pasted", asked);
}

async function ask(content, kind, caption, controller) {
  shown = kind;
  show(content, caption);
  if (content.size > largest) return fail(`${caption} is larger than ${largest / 2 ** 20} MB`);
  const type = /^(image|audio)\//.test(content.type) ? content.type : "application/octet-stream";
  try {
    const request = { method: "POST", body: content, headers: { "Content-Type": type }, signal: controller.signal };
    const response = await fetch("predict", request);
    const answer = await response.json();
    if (response.ok) tell(answer);
    else fail(answer.error);
  } catch (error) {
    if (error.name !== "AbortError") fail("The server does not answer: is it still running?");
  }
}

// Showing.
let address = "";
const image = find("#sent img");
image.addEventListener("error", () => { image.hidden = true; }); // a kind that browsers do not show

function show(content, caption) {
  URL.revokeObjectURL(address);
  image.hidden = content.type.startsWith("audio/") || /\.(wav|flac|ogg|mp3)$/i.test(content.name ?? "");
  if (!image.hidden) image.src = address = URL.createObjectURL(content);
  find("#sent figcaption").textContent = caption;
  find("#sent").hidden = false;
}

function tell(answer) {
  find("#error").hidden = true;
  const votes = new Map();
  for (const [strategy, classes] of Object.entries(answer)) {
    votes.set(classes[0].class, [...(votes.get(classes[0].class) ?? []), strategy]);
    find(`[data-strategy="${CSS.escape(strategy)}"] ol`).replaceChildren(...classes.slice(0, TOP).map(line));
  }
  const sorted = [...votes].sort((a, b) => b[1].length - a[1].length);
  const models = Object.keys(answer).length;
  find("#summary").textContent = sorted.length === 1
    ? `${models > 1 ? `All ${models} models say` : "The model says"} ${sorted[0][0]}`
    : `They differ: ${sorted.map(([name, strategies]) => `${name} (${strategies.join(", ")})`).join(" or ")}`;
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
  shown = "";
  for (const list of document.querySelectorAll("#answers ol")) list.replaceChildren();
  find("#summary").textContent = "No image yet.";
  find("#sent").hidden = find("#error").hidden = true;
}

function fail(text) {
  for (const list of document.querySelectorAll("#answers ol")) list.replaceChildren();
  find("#summary").textContent = "No answer.";
  find("#error").textContent = text;
  find("#error").hidden = false;
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
