// Charts with numbers under the pointer, drawn anew at the width there is. Without this program the pictures stay.
/* global vegaEmbed */

const views = [];
for (const figure of document.querySelectorAll("figure.chart")) {
  const script = figure.querySelector("script");
  if (!script) continue;
  const specifications = JSON.parse(script.textContent);
  figure.querySelectorAll(".panel").forEach(async (panel, i) => {
    const picture = panel.firstElementChild;
    const place = document.createElement("div");
    panel.append(place);
    const drawn = await vegaEmbed(place, specifications[i], { renderer: "svg", actions: false });
    picture.remove();
    views.push(drawn.view);
    document.documentElement.dataset.drawn = views.length;
    show();
  });
}

// Strategies switched on and off.
const boxes = [...document.querySelectorAll("#strategies input")];
document.querySelector("#strategies").hidden = boxes.length < 2;
function show() {
  const shown = boxes.filter((box) => box.checked).map((box) => box.value);
  for (const view of views) {
    if (view.getState().signals.shown === undefined) continue;
    view.signal("shown", shown).run();
  }
  for (const name of document.querySelectorAll(".key [data-strategy]")) {
    name.classList.toggle("off", !shown.includes(name.dataset.strategy));
  }
}
for (const box of boxes) box.addEventListener("change", show);
