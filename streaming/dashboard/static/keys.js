// The list of runs is one tab stop: up and down go through the runs, right to what can be done with one, left back.
"use strict";

const list = document.getElementById("runs");
const MOVES = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

function setTabStop(wanted) {
  const links = [...list.querySelectorAll(".run a")];
  const stop = links.includes(wanted) ? wanted : list.querySelector(".run.shown a") ?? links[0];
  for (const link of links) link.tabIndex = link === stop ? 0 : -1;
}

list.addEventListener("focusin", ({ target }) => setTabStop(target));
list.addEventListener("keydown", (event) => {
  const card = event.target.closest(".run");
  if (!card || event.altKey || event.ctrlKey || event.metaKey) return;
  let to = null;
  if (event.key in MOVES) {
    const cards = [...list.querySelectorAll(".run")];
    const at = Math.min(Math.max(cards.indexOf(card) + MOVES[event.key], 0), cards.length - 1);
    to = cards[at].querySelector("a");
  } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    const links = [...card.querySelectorAll("a")];
    to = links[links.indexOf(event.target) + (event.key === "ArrowRight" ? 1 : -1)];
  }
  if (!to) return;
  event.preventDefault();
  to.focus();
  to.scrollIntoView({ block: "nearest" });
});
