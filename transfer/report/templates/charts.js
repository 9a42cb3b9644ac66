// Charts with numbers under the pointer, drawn anew at the width there is. Without this program the pictures stay.
/* global vegaEmbed */

const views = [];
for (const panels of document.querySelectorAll("figure.chart .panels")) {
  const picture = panels.querySelector("img");
  for (const specification of JSON.parse(panels.parentElement.querySelector("script").textContent)) {
    const panel = document.createElement("div");
    panel.className = "panel";
    panels.append(panel);
    vegaEmbed(panel, specification, { renderer: "svg", actions: false }).then((drawn) => {
      picture.remove();
      views.push(drawn.view);
      document.documentElement.dataset.drawn = views.length;
      show();
    });
  }
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
