// What a page does beyond what it shows at once: sorting and themes.

const root = document.documentElement;

// Tables sorted by any column; a second press turns the order round.
const compare = (a, b) => {
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
const valueOf = (row, column) => {
  const value = row.cells[column].dataset.value;
  return { inf: "Infinity", "-inf": "-Infinity" }[value] ?? value;
};
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const body = table.tBodies[0];
      const numbers = head.classList.contains("number");
      const before = head.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : numbers; // numbers begin with the highest
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => compare(valueOf(a, column), valueOf(b, column)));
      if (descending) rows.reverse();
      body.append(...rows);
    });
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
