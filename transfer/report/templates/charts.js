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

// Strategies switched on and off, in all charts at once.
const boxes = [...document.querySelectorAll("fieldset input")];
function show() {
  const shown = boxes.filter((box) => box.checked).map((box) => box.value);
  for (const view of views) {
    if (view.getState().signals.shown === undefined) continue;
    view.signal("shown", shown).run();
  }
}
for (const box of boxes) {
  box.hidden = false;
  box.addEventListener("change", () => {
    for (const other of boxes) if (other.value === box.value) other.checked = box.checked;
    show();
  });
}
