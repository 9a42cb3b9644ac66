// Show the image that waits, send what it is, show the next.

const find = (selector) => document.querySelector(selector);
const field = find("#name");
const KEYS = 9; // classes that have one
const SMALL = 128; // pixels of an image whose pixels are to be seen
let state = null;
let busy = false;

function element(tag, content = {}) {
  return Object.assign(document.createElement(tag), content);
}

// Asking the server: one answer after the other.
async function send(said) {
  if (busy) return;
  busy = true;
  try {
    const body = said && { method: "POST", body: JSON.stringify(said), headers: { "Content-Type": "application/json" } };
    const response = await fetch("state", body);
    const answer = await response.json();
    if (response.ok) show(answer);
    fail(answer.error);
  } catch {
    fail("The server does not answer: is it still running?");
  } finally {
    busy = false;
  }
}

function fail(text) {
  find("#error").textContent = text ?? "";
  find("#error").hidden = !text;
}

const label = (name) => { if (state?.current && name) send({ answer: name, number: state.current.number }); };
const skip = () => { if (state?.current) send({ skip: state.current.number }); };
const undo = () => { if (state?.last) send({ undo: true }); };

// Showing.
function show(now) {
  const [before, { classes, counts, skipped, current, last }] = [state, now];
  state = now;
  const [labelled, all] = counts[0];
  const rest = counts.length > 1 ? `, ${counts[1][0]} of ${counts[1][1]} in all` : "";
  find("#progress").textContent = `${labelled} of ${all} labelled${rest}${skipped ? `; ${skipped} skipped, to come again` : ""}`;
  find("#answers").hidden = !current;
  find("#asked").hidden = false;
  if (!current) {
    find("#shown").replaceChildren(element("p", { textContent: "All are labelled." }));
    find("#path").textContent = "";
  } else if (before?.current?.number !== current.number) {
    find("#shown").replaceChildren(current.sound ? sound(current) : image(current));
  }
  if (current) find("#path").textContent = [current.path, current.why, current.again ? "skipped before" : ""].filter(Boolean).join(" · ");
  if (before?.classes.join("\n") !== classes.join("\n")) find("#classes").replaceChildren(...classes.map(choice));
  find("#skip").disabled = !current;
  find("#undo").disabled = !last;
  find("#last").textContent = last ? `${last.path}: ${last.label || "skipped"}` : "";
  if (!current || (before && before.counts[0][0] < all && labelled === all)) find("#next").open = true;
  mean();
}

function image({ number, path }) {
  const picture = element("img", { src: `file/${number}`, alt: path });
  picture.addEventListener("load", () => { picture.classList.toggle("small", picture.naturalWidth < SMALL && picture.naturalHeight < SMALL); });
  picture.addEventListener("error", async () => {
    const { error } = await fetch(picture.src).then((response) => response.json()).catch(() => ({}));
    picture.replaceWith(element("p", { textContent: `${error ?? `${path} cannot be shown: replace it`}, or skip it.` }));
  });
  return picture;
}

function sound({ number, path }) {
  return element("audio", { src: `file/${number}`, controls: true, autoplay: true, ariaLabel: path });
}

function choice(name, index) {
  const button = element("button", { type: "button" });
  if (index < KEYS) button.append(element("kbd", { textContent: index + 1 }), " ");
  button.append(element("bdi", { textContent: name }));
  button.addEventListener("click", () => label(name));
  const item = element("li");
  item.append(button);
  return item;
}

// Typing: Add takes the class of that name, or makes one; Enter, of more classes than keys, the only one that begins so.
function exact() {
  const typed = field.value.trim();
  return state.classes.find((name) => name.toLowerCase() === typed.toLowerCase()) ?? typed;
}

function begun() {
  const name = exact();
  const found = state.classes.filter((each) => each.toLowerCase().startsWith(name.toLowerCase()));
  return state.classes.length > KEYS && found.length === 1 ? found[0] : name;
}

function mean() {
  const told = (name) => (state.classes.includes(name) ? name : `new class ${name}`);
  const [typed, near] = [exact(), begun()];
  find("#meant").textContent = typed && `Enter: ${told(near)}${near === typed ? "" : `. Add: ${told(typed)}`}`;
}

function take(name) {
  field.value = "";
  document.activeElement.blur(); // so that keys are answers again
  label(name);
}

field.addEventListener("input", mean);
find("#naming").addEventListener("submit", (event) => { event.preventDefault(); take(begun()); });
find("#add").addEventListener("click", () => take(exact()));
find("#skip").addEventListener("click", skip);
find("#undo").addEventListener("click", undo);

// Keys, where they are not for what has the focus. A button that was pressed with the mouse lets go of it.
addEventListener("click", (event) => { if (event.detail) event.target.closest("button")?.blur(); });
addEventListener("keydown", (event) => {
  if (event.target === field) { if (event.key === "Escape") field.blur(); return; }
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  const space = event.key === " " && !event.target.closest("button, summary, audio");
  if (digit) label(state?.classes[digit[1] - 1]);
  else if (event.key === "s" || space) skip();
  else if (event.key === "u" || event.key === "Backspace") undo();
  else return;
  event.preventDefault();
});

send();
