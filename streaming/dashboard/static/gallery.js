// The gallery: images behind a number. A button with data-images opens it, or a click on a chart of classes.
"use strict";

const KINDS = {
  confusion_matrix: "cell", accuracy_map: "class", class_accuracy: "class", label_bias: "class", accuracy_lines: "class",
  pseudo_labels: "pseudo_labels", pseudo_label_quality: "pseudo_labels", pseudo_label_classes: "pseudo_labels",
};
const gallery = document.getElementById("gallery");
const shownImages = gallery.querySelector("[data-gallery]");
let opener = null;  // what has the focus again when the gallery is closed
let asked = 0;      // number of the latest request; replies to earlier ones are dropped

async function showImages(parameters, from) {
  const { run, split } = document.getElementById("images-of")?.dataset ?? {};
  if (!run) return;
  const request = ++asked;
  opener = from;
  shownImages.textContent = "Reading the images …";
  if (!gallery.open) gallery.showModal();
  let html = null;
  try {
    const reply = await fetch(`images?${new URLSearchParams({ run, split, ...Object.fromEntries(parameters) })}`);
    html = reply.ok ? await reply.text() : null;
    if (request === asked && !reply.ok) shownImages.textContent = await reply.text();
  } catch {
    if (request === asked) shownImages.textContent = "The server does not respond.";
  }
  if (request !== asked || html === null) return;
  shownImages.innerHTML = html;
  gallery.scrollTop = 0;
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-images]");
  if (button) return showImages(new URLSearchParams(button.dataset.images), button);
  if (event.target === gallery || event.target.closest("[data-close-gallery]")) gallery.close();
});

document.addEventListener("drawn", ({ target: chart }) => {
  const kind = KINDS[chart.dataset.figure];
  if (!kind) return;
  chart.removeAllListeners("plotly_click");
  chart.on("plotly_click", ({ points: [point] }) => {
    const { group, classes } = document.getElementById("images-of")?.dataset ?? {};
    const [rows, row, column] = placeOf(chart, point);
    const parameters = { show: kind, rows, truth_row: row, predicted_row: column, group, classes };
    chart.tabIndex = -1;
    showImages(Object.entries(parameters), chart);
  });
});

// Number of the chart's rows of classes, and the row and column of a point: of one class both are its row.
function placeOf(chart, { fullData, curveNumber, pointIndex }) {
  const name = chart.dataset.figure;
  if (name === "confusion_matrix") return [fullData.z.length, ...pointIndex];
  if (fullData.type === "heatmap") return [fullData.z.length, pointIndex[0], pointIndex[0]];
  if (name === "accuracy_lines") return [chart.data.length, curveNumber, curveNumber];
  if (name === "pseudo_label_quality") {
    const rows = chart.data.length / 2;  // the lines of precision, then those of recall
    return [rows, curveNumber % rows, curveNumber % rows];
  }
  return [fullData.y.length, pointIndex, pointIndex];
}

gallery.addEventListener("close", () => {
  asked++;
  shownImages.replaceChildren();
  // An update of the page may have replaced the button.
  const again = opener?.isConnected ? opener : document.querySelector(`[data-images="${CSS.escape(opener?.dataset?.images ?? "")}"]`);
  again?.focus({ preventScroll: true });
  opener = null;
});
