// Keeps the page up to date: requests its state from the server once a second and updates the elements that changed.
// The selection is stored in the address only, so that links, the back button and reloads work.
"use strict";

const PERIOD_MS = 1000;
const CHART = { responsive: true, displaylogo: false, displayModeBar: false };
const byTouch = matchMedia("(pointer: coarse)").matches;  // dragging on a chart scrolls the page

let version = "";   // version of the tables that are shown; empty: show any state
let requests = 0;   // number of the latest request; replies to earlier ones are dropped

async function refresh() {
  const request = ++requests;
  const query = new URLSearchParams(location.search);
  query.set("version", version);
  let state = null;
  try {
    const reply = await fetch(`state?${query}`);
    if (!reply.ok) throw new Error(reply.statusText);
    state = reply.status === 204 ? null : await reply.json();
    showStatus("");
  } catch {
    showStatus("The server does not respond; this is its last state.");
  }
  if (state === null || request !== requests) return;
  show(state);
  version = state.version;
}

function show(state) {
  document.title = state.title;
  const focused = document.activeElement?.getAttribute("href");
  for (const element of document.querySelectorAll("#runs, #overview, .note")) {
    const html = state.html[element.id] ?? "";
    if (element.shown !== html) element.innerHTML = element.shown = html;
  }
  // Restore the keyboard focus to a link that was replaced.
  if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  for (const chart of document.querySelectorAll(".chart")) draw(chart, state.figures[chart.dataset.figure]);
  for (const panel of document.querySelectorAll(".panel")) {
    panel.hidden = !panel.querySelector(".note").textContent.trim() && !panel.querySelector(".chart:not([hidden])");
  }
  document.getElementById("find").hidden = !state.figures.accuracy_map && !location.search.includes("classes=");
  showAges();
}

function draw(chart, figure) {
  const box = chart.closest("figure") ?? chart;
  box.hidden = chart.hidden = !figure;
  if (!figure) return chart.data && Plotly.purge(chart);
  if (byTouch) figure.layout.dragmode = false;
  chart.style.height = `${figure.layout.height}px`;  // otherwise a responsive chart loses its height
  Plotly.react(chart, figure.data, figure.layout, CHART);
}

function showStatus(text) {
  const element = document.getElementById("connection");
  if (element.textContent !== text) element.textContent = text;
}

function showAges() {
  for (const time of document.querySelectorAll("time")) {
    const seconds = Math.max(0, Math.round(Date.now() / 1000 - time.dataset.seconds));
    const age = seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
    time.textContent = `${age} ago`;
    time.title = new Date(time.dataset.seconds * 1000).toLocaleString();
  }
}

function navigate(search) {
  if (search !== location.search) history.pushState(null, "", search || location.pathname);
  applyAddress();
}

function applyAddress() {
  version = "";
  const field = document.querySelector("#find input");
  if (document.activeElement !== field) field.value = new URLSearchParams(location.search).get("classes") ?? "";
  return refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="?"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  navigate(link.getAttribute("href"));
});
document.getElementById("find").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("find").addEventListener("input", (event) => {
  const query = new URLSearchParams(location.search);
  event.target.value ? query.set("classes", event.target.value) : query.delete("classes");
  navigate(`?${query}`);
});
addEventListener("popstate", applyAddress);

async function run() {
  await applyAddress();
  for (;;) {
    await new Promise((wake) => setTimeout(wake, PERIOD_MS));
    showAges();
    if (!document.hidden) await refresh();
  }
}
run();
