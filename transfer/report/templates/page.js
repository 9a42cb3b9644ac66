// What a page does beyond what it shows at once: seconds, sorting and themes.

const root = document.documentElement;

// Seconds of one run, where the pipeline measured them: a file beside the page, which may be absent.
const seconds = window.SECONDS ?? {};
const budgets = Object.keys(Object.assign({}, ...Object.values(seconds))); // numbers, so in their order
const spelled = (number, digits) => Number(number).toLocaleString("en", { maximumSignificantDigits: digits });
function addSeconds(table, title, budget, shown) {
  table.tHead.rows[0].insertAdjacentHTML("beforeend", `<th scope="col" class="number"><button type="button">${title}</button></th>`);
  for (const row of table.tBodies[0].rows) {
    const taken = seconds[row.cells[0].dataset.value]?.[budget];
    const cell = row.insertCell();
    cell.className = "number";
    cell.dataset.value = taken?.[0] ?? "-inf";
    cell.textContent = taken?.slice(0, shown).map((each) => spelled(each, 2)).join("\u00a0/ ") ?? "–";
  }
}
const timed = document.querySelector("#seconds");
if (timed && budgets.length) {
  const most = budgets.at(-1);
  addSeconds(document.querySelector("#which table"), `seconds to\u00a0train, ${spelled(most)}\u00a0labels per\u00a0class`, most, 1);
  for (const budget of budgets) addSeconds(timed.querySelector("table"), spelled(budget), budget, 2);
  timed.hidden = false;
}

// Tables sorted by any column; a second press turns the order round.
const compare = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
const valueOf = (row, column) => {
  const value = row.cells[column].dataset.value;
  return { inf: "Infinity", "-inf": "-Infinity" }[value] ?? value;
};
for (const head of document.querySelectorAll("thead th")) {
  head.querySelector("button").addEventListener("click", () => {
    const [body] = head.closest("table").tBodies;
    const before = head.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : head.classList.contains("number"); // the highest number first
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => compare(valueOf(a, head.cellIndex), valueOf(b, head.cellIndex)));
    if (descending) rows.reverse();
    body.append(...rows);
  });
}

// Light, dark, or as the system is.
const button = document.querySelector("#theme");
const names = { auto: "as the system", light: "light", dark: "dark" };
const remember = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* kept from storing: no matter */ } };
const remembered = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  button.textContent = `Theme: ${names[theme]}`;
  button.dataset.value = theme;
}
button.hidden = false;
setTheme(remembered() in names ? remembered() : "auto");
button.addEventListener("click", () => {
  const order = Object.keys(names);
  const next = order[(order.indexOf(button.dataset.value) + 1) % order.length];
  setTheme(next);
  remember(next);
});

// Paper shows what is folded away.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
