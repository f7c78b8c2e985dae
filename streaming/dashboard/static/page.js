// Keeps the page up to date: requests its state from the server once a second and updates the elements that changed.
// The selection is stored in the address only, so that links, the back button and reloads work.
"use strict";

const PERIOD_MS = 1000;
const PRESS_MS = 2000;  // a press that lasts longer is no click

let version = "";   // version of the tables that are shown; empty: show any state
let arrive = "";    // id of the element to bring into view with the next state
let typing = false; // whether the last change of the address was a key in a search field, which makes one step back of all
let requests = 0;   // number of the latest request; replies to earlier ones are dropped
let pressed = -PRESS_MS; // when a button of the mouse or a finger went down, until it goes up: a click needs what it is on

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
  if (state === null || request !== requests || performance.now() - pressed < PRESS_MS) return;
  show(state);
  version = state.version;
}

function show(state) {
  document.title = state.title;
  document.body.dataset.view = state.view;
  const focused = document.activeElement?.getAttribute("href");
  const part = document.activeElement?.closest("[data-part]");
  for (const element of document.querySelectorAll("[data-part]")) {
    const html = state.html[element.id] ?? "";
    if (element.shown === html) continue;
    const open = Boolean(element.querySelector("details[open]"));
    element.innerHTML = element.shown = html;
    if (open) element.querySelector("details")?.setAttribute("open", "");
  }
  // Restore the keyboard focus to a link that was replaced.
  if (focused) part?.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  setTabStop(document.activeElement);
  drawCharts(state.figures);
  for (const panel of document.querySelectorAll(".panel")) {
    panel.hidden = !panel.querySelector(".note").textContent.trim() && !panel.querySelector(".chart:not([hidden])");
  }
  document.getElementById("find").hidden = !state.figures.accuracy_map && !location.search.includes("classes=");
  showAges();
  if (arrive) document.getElementById(arrive)?.scrollIntoView();
  arrive = "";
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

function navigate(search, replace = false) {
  const [here, view] = [location.search + location.hash, new URLSearchParams(location.search).get("view")];
  if (search !== here) history[replace ? "replaceState" : "pushState"](null, "", search || location.pathname);
  if (view !== new URLSearchParams(location.search).get("view")) scrollTo(0, 0);
  applyAddress();
}

function applyAddress() {
  version = "";
  arrive = location.hash.slice(1);
  const query = new URLSearchParams(location.search);
  for (const field of document.querySelectorAll("form[role=search] input")) {
    if (document.activeElement !== field) field.value = query.get(field.name) ?? "";
  }
  return refresh();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="?"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  typing = false;
  navigate(link.getAttribute("href"));
});
for (const form of document.querySelectorAll("form[role=search]")) {
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", ({ target }) => {
    const query = new URLSearchParams(location.search);
    query.delete("page");
    target.value ? query.set(target.name, target.value) : query.delete(target.name);
    navigate(`?${query}`, typing);
    typing = true;
  });
}
// Browsers have a clipboard for pages of this machine and for https; elsewhere, or where the reader refuses, the text is
// selected, so that its keys copy it.
document.addEventListener("click", async ({ target }) => {
  if (!("copy" in target.dataset)) return;
  const text = target.previousElementSibling;
  try {
    await navigator.clipboard.writeText(text.textContent);
    target.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(text);
    target.textContent = "the browser refuses: copy the selected text";
  }
});
for (const kind of ["pointerdown", "pointerup", "pointercancel"]) {
  addEventListener(kind, () => { pressed = kind === "pointerdown" ? performance.now() : -PRESS_MS; }, true);
}
addEventListener("popstate", () => {
  typing = false;
  applyAddress();
});

async function run() {
  await applyAddress();
  for (;;) {
    await new Promise((wake) => setTimeout(wake, PERIOD_MS));
    showAges();
    if (!document.hidden) await refresh();
  }
}
run();
