// Changes of runs: the dialog that a button with data-edit opens. Loaded only where the server takes changes.
"use strict";

const token = document.querySelector('meta[name="longtail-token"]').content;
const dialog = document.getElementById("edit");
const form = dialog.querySelector("form");
const remove = form.querySelector('[data-act="delete"]');
const hide = form.querySelector('[data-act="hide"]');
let edited = {};    // what the button says of its run

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-edit]");
  if (!button) return;
  edited = { ...button.dataset };
  dialog.querySelector(".run-name").textContent = edited.edit;
  for (const field of form.elements) if (field.name) field.value = edited[field.name] ?? "";
  hide.textContent = edited.hidden ? "Show again" : "Hide";
  remove.textContent = "Delete …";
  tell("");
  dialog.showModal();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const changed = [...form.elements].filter((field) => field.name && field.value !== (edited[field.name] ?? ""));
  change(changed.map((field) => [field.name, field.value]));
});
form.querySelector('[data-act="cancel"]').addEventListener("click", () => dialog.close());
hide.addEventListener("click", () => change([[edited.hidden ? "unhide" : "hide", null]]));
remove.addEventListener("click", () => {
  if (remove.textContent === "Delete now") return change([["delete", null]]);
  remove.textContent = "Delete now";
  tell("The run goes to the trash, from which `longtail runs restore` brings it back.");
});

async function change(actions) {
  for (const [action, value] of actions) {
    try {
      const headers = { "Content-Type": "application/json", "X-Longtail-Token": token };
      const body = JSON.stringify({ action, run: edited.edit, value });
      const reply = await fetch("act", { method: "POST", headers, body });
      if (!reply.ok) return tell((await reply.text()) || reply.statusText);
    } catch {
      return tell("The server does not respond.");
    }
  }
  dialog.close();
}

function tell(text) {
  dialog.querySelector("[role=alert]").textContent = text;
}
