// Draws the charts, and what stands below each: its numbers as a table, and downloads as PNG and SVG.
"use strict";

const CHART = { responsive: true, displaylogo: false, displayModeBar: false };
const byTouch = matchMedia("(pointer: coarse)").matches;  // dragging on a chart scrolls the page
const MAX_ROWS = 200, MAX_COLUMNS = 60;

let figures = {};     // by name, as they are to be seen
let library = null;   // the promise of Plotly
let saving = Promise.resolve();  // the last picture: Plotly makes one of a chart at a time

// Show the charts of a state. They keep their place until there is something to draw them with.
function drawCharts(wanted) {
  figures = wanted;
  const charts = [...document.querySelectorAll(".chart")];
  for (const chart of charts) {
    const figure = figures[chart.dataset.figure];
    chart.closest("figure").hidden = chart.hidden = !figure;
    if (figure) chart.style.height = `${figure.layout.height}px`;  // otherwise a responsive chart loses its height
  }
  if (window.Plotly) for (const chart of charts) draw(chart, figures[chart.dataset.figure]);
  else if (charts.some((chart) => !chart.hidden)) loadLibrary();
}

// Nearly all of the page's bytes and of its start's work: loaded when there are charts, and after the texts are painted.
function loadLibrary() {
  library ??= new Promise((loaded, failed) => {
    requestAnimationFrame(() => setTimeout(() => {
      document.head.append(Object.assign(document.createElement("script"), { src: "plotly.min.js", onload: loaded, onerror: failed }));
    }));
  }).then(() => drawCharts(figures), () => { library = null; });  // the next state tries again
}

function draw(chart, figure) {
  const box = chart.closest("figure");
  if (!figure) return chart.data && Plotly.purge(chart);
  if (byTouch) figure.layout.dragmode = false;
  Plotly.react(chart, figure.data, figure.layout, CHART);
  chart.dispatchEvent(new CustomEvent("drawn", { bubbles: true }));
  if (box.querySelector("details").open) tabulate(box);
}

// The numbers of a chart as a table: one row per value of the axis that has names, or of the horizontal one.
function tabulate(box) {
  const chart = box.querySelector(".chart");
  const traces = (chart._fullData ?? []).filter((trace) => trace.mode !== "text" && trace.fill !== "toself");
  if (!traces.length) return;
  const { head, rows } = traces[0].type === "heatmap" ? ofHeatmap(chart, traces[0]) : ofTraces(chart, traces);
  const table = document.createElement("table");
  const line = (parent, cells, isHead) => {
    const row = parent.insertRow();
    cells.slice(0, MAX_COLUMNS + 1).forEach((text, index) => {
      const cell = document.createElement(isHead ? "th" : index ? "td" : "th");
      if (cell.tagName === "TH") cell.scope = isHead ? "col" : "row";
      cell.textContent = text;
      row.append(cell);
    });
  };
  line(table.createTHead(), head, true);
  const body = table.createTBody();
  for (const cells of rows.slice(0, MAX_ROWS)) line(body, cells, false);
  const parts = [table];
  if (rows.length > MAX_ROWS || head.length > MAX_COLUMNS + 1) {
    parts.push(Object.assign(document.createElement("p"), { className: "quiet", textContent: `The first ${MAX_ROWS} rows and ${MAX_COLUMNS} columns; the rows as CSV have all.` }));
  }
  box.querySelector("details > div").replaceChildren(...parts);
}

function ofHeatmap(chart, trace) {
  const power = trace.meta?.power ?? 1;
  const [across, down] = [named(chart._fullLayout.xaxis), named(chart._fullLayout.yaxis)];
  const value = (z) => (z === null || Number.isNaN(z) || z === undefined ? "" : percent(z ** power));
  const rows = Array.from(trace.z, (cells, row) => [down(trace.y[row]), ...Array.from(cells, value)]);
  return { head: [title(chart._fullLayout.xaxis), ...Array.from(trace.x, across)], rows };
}

function ofTraces(chart, traces) {
  const layout = chart._fullLayout;
  const lies = Boolean(layout.yaxis.ticktext);
  const axis = lies ? layout.yaxis : layout.xaxis;
  const label = named(axis);
  const rows = new Map();
  traces.forEach((trace, column) => {
    const values = layout[(lies ? trace.xaxis.replace("x", "xaxis") : trace.yaxis.replace("y", "yaxis"))];
    const [keys, numbers] = lies ? [trace.y, trace.x] : [trace.x, trace.y];
    for (let i = 0; i < keys.length; i++) {
      if (!rows.has(keys[i])) rows.set(keys[i], [label(keys[i]), ...traces.map(() => "")]);
      rows.get(keys[i])[column + 1] = shown(numbers[i], values);
    }
  });
  const inOrder = [...rows.keys()].sort((a, b) => (a < b ? -1 : 1)).map((key) => rows.get(key));
  return { head: [title(axis), ...traces.map((trace) => plain(trace.name))], rows: inOrder };
}

const plain = (html) => new DOMParser().parseFromString(String(html ?? ""), "text/html").body.textContent.trim();
const title = (axis) => plain(axis._input.title?.text);  // not Plotly's placeholder
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function named(axis) {
  const names = new Map(axis.ticktext ? Array.from(axis.tickvals, (at, i) => [at, plain(axis.ticktext[i])]) : []);
  return (at) => names.get(at) ?? String(typeof at === "number" ? +at.toPrecision(6) : at);
}

function shown(value, axis) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  return /%|p$/.test(axis.tickformat ?? "") ? percent(value) : String(+Number(value).toPrecision(4));
}

// A chart as a picture of its own, which says what the page says around it: its title, the run, and which line is which.
function alone(chart) {
  const about = [chart.closest("figure").querySelector("figcaption") ?? chart.closest(".panel").querySelector("h2"), document.querySelector("#overview h1")];
  const text = about.map((element) => element?.textContent.trim().replaceAll("&", "&amp;").replaceAll("<", "&lt;")).filter(Boolean).join("<br>");
  const data = chart.data.map((trace) => ({ ...trace, showlegend: Boolean(trace.name) && trace.fill !== "toself" && trace.type !== "heatmap" }));
  const layout = {
    ...chart.layout, title: { text, font: { size: 13 }, x: 0.01, xanchor: "left", yref: "container", y: 0.96, yanchor: "top" },
    showlegend: data.filter((trace) => trace.showlegend).length > 1,
    legend: { orientation: "h", x: 0, y: 0.01, yref: "container", yanchor: "bottom" },  // below, of any number of lines
    margin: { ...chart.layout.margin, t: 56 }, font: { ...chart.layout.font, family: "Arial, sans-serif" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
  };
  return { data, layout };
}

document.addEventListener("toggle", ({ target }) => {
  if (target.matches(".of-chart > details") && target.open) tabulate(target.closest("figure"));
}, true);
document.addEventListener("click", ({ target }) => {
  if (!target.dataset.download) return;
  const chart = target.closest("figure").querySelector(".chart");
  const size = { width: chart.clientWidth, height: chart.layout.height + 110, scale: target.dataset.download === "png" ? 2 : 1 };
  const file = { format: target.dataset.download, filename: chart.dataset.figure, ...size };
  saving = saving.then(() => Plotly.downloadImage(alone(chart), file)).catch(() => {});
});
// A printed page is narrower than the window.
for (const [event, isPrinted] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    document.body.classList.toggle("printed", isPrinted);
    for (const chart of document.querySelectorAll(".chart:not([hidden])")) if (chart.data) Plotly.Plots.resize(chart);
  });
}
