// Keeps the page up to date: asks the server for the page's state once a second and puts in what has changed.
// What is looked at is in the address alone, so links work, the back button works, and a reload shows the same.
"use strict";

const PERIOD_MS = 1000;
const CHART = { responsive: true, displaylogo: false, displayModeBar: false };
const byTouch = matchMedia("(pointer: coarse)").matches;  // a finger that moves over a chart scrolls the page

let version = "";   // of the tables, as shown; empty: show whatever comes
let asked = 0;      // number of the newest question; an older one's answer is dropped

async function refresh() {
  const question = ++asked;
  const query = new URLSearchParams(location.search);
  query.set("version", version);
  let state = null;
  try {
    const reply = await fetch(`state?${query}`);
    if (!reply.ok) throw new Error(reply.statusText);
    state = reply.status === 204 ? null : await reply.json();
    say("");
  } catch {
    say("the server does not answer: this is its last state");
  }
  if (state === null || question !== asked) return;
  show(state);
  version = state.version;
}

function show(state) {
  document.title = state.title;
  const focused = document.activeElement?.getAttribute("href");
  for (const place of document.querySelectorAll("#runs, #overview, .note")) {
    const html = state.html[place.id] ?? "";
    if (place.shown !== html) place.innerHTML = place.shown = html;
  }
  // A link that was replaced keeps the keyboard's focus.
  if (focused) document.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  for (const chart of document.querySelectorAll(".chart")) draw(chart, state.figures[chart.dataset.figure]);
  for (const panel of document.querySelectorAll(".panel")) {
    panel.hidden = !panel.querySelector(".note").textContent.trim() && !panel.querySelector(".chart:not([hidden])");
  }
  document.getElementById("find").hidden = !state.figures.accuracy_map && !location.search.includes("classes=");
  ages();
}

function draw(chart, figure) {
  const box = chart.closest("figure") ?? chart;
  box.hidden = chart.hidden = !figure;
  if (!figure) return chart.data && Plotly.purge(chart);
  if (byTouch) figure.layout.dragmode = false;
  chart.style.height = `${figure.layout.height}px`;  // else a chart that follows the window's width loses its height
  Plotly.react(chart, figure.data, figure.layout, CHART);
}

function say(words) {
  const place = document.getElementById("connection");
  if (place.textContent !== words) place.textContent = words;
}

function ages() {
  for (const time of document.querySelectorAll("time")) {
    const seconds = Math.max(0, Math.round(Date.now() / 1000 - time.dataset.seconds));
    const age = seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
    time.textContent = `${age} ago`;
    time.title = new Date(time.dataset.seconds * 1000).toLocaleString();
  }
}

function go(search) {
  if (search !== location.search) history.pushState(null, "", search || location.pathname);
  arrive();
}

function arrive() {
  version = "";
  const field = document.querySelector("#find input");
  if (document.activeElement !== field) field.value = new URLSearchParams(location.search).get("classes") ?? "";
  return refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="?"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
document.getElementById("find").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("find").addEventListener("input", (event) => {
  const query = new URLSearchParams(location.search);
  event.target.value ? query.set("classes", event.target.value) : query.delete("classes");
  go(`?${query}`);
});
addEventListener("popstate", arrive);

async function forever() {
  await arrive();
  for (;;) {
    await new Promise((wake) => setTimeout(wake, PERIOD_MS));
    ages();
    if (!document.hidden) await refresh();
  }
}
forever();
