// The log of a run: a button with data-log opens it. While it is open, it is read again every few seconds.
"use strict";

const LOG_PERIOD_MS = 3000;
const logDialog = document.getElementById("log");
const shownLog = logDialog.querySelector("[data-log-text]");
let opened = 0;  // number of the latest opening; what was read for earlier ones is dropped

async function readLog(run, opening) {
  let html = null;
  try {
    const reply = await fetch(`log?${new URLSearchParams({ run })}`);
    const text = await reply.text();
    if (reply.ok) html = text;
    else if (opening === opened) shownLog.textContent = text;
  } catch {
    if (opening === opened) shownLog.textContent = "The server does not respond.";
  }
  if (html === null || opening !== opened || html === shownLog.last) return;
  const before = shownLog.querySelector("pre");
  const atEnd = !before || before.scrollTop + before.clientHeight >= before.scrollHeight - 4;
  const place = before?.scrollTop;
  shownLog.innerHTML = shownLog.last = html;
  const text = shownLog.querySelector("pre");
  if (text) text.scrollTop = atEnd ? text.scrollHeight : place;
}

document.addEventListener("click", async ({ target }) => {
  if (target === logDialog || target.closest("[data-close-log]")) return logDialog.close();
  const button = target.closest("[data-log]");
  if (!button) return;
  const { log: run } = button.dataset;
  const opening = ++opened;
  shownLog.textContent = shownLog.last = "Reading the log …";
  logDialog.showModal();
  while (opening === opened) {
    if (!document.hidden) await readLog(run, opening);
    await new Promise((wake) => setTimeout(wake, LOG_PERIOD_MS));
  }
});
logDialog.addEventListener("close", () => {
  opened++;
  // An update of the page may have replaced the button.
  document.querySelector("[data-log]")?.focus({ preventScroll: true });
});
