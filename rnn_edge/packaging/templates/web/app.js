// The page: what is typed goes to the model, and its suggestions come back as grey text and as buttons.

import { load } from "./rnn-edge.js";

const find = (selector) => document.querySelector(selector);
const [box, typed, rest, list] = ["textarea", ".typed", ".rest", ".suggestions"].map(find);
const [status, time] = ["[role=status]", ".time"].map(find);
const times = []; // of the last keystrokes, in milliseconds
let model;
let suggestions = [];
let shownFor = null; // the text that the suggestions belong to
let busy = false;
let dismissed = false; // until something is typed, so that Tab goes on to the buttons

async function begin() {
  try {
    model = await load();
    await model.selfTest();
    status.textContent = "Golden vectors verified";
    box.disabled = false;
    box.focus();
    update();
  } catch (error) {
    status.textContent = `This page cannot run the model: ${error.message}`;
    throw error;
  }
}

// Follow the text; while a search runs, whatever else is typed waits, and only the newest of it is searched.
async function update() {
  draw();
  if (busy) return;
  busy = true;
  try {
    while (shownFor !== box.value) {
      const text = box.value;
      const start = performance.now();
      suggestions = await model.suggest(text);
      times.push(performance.now() - start);
      shownFor = text;
      draw();
    }
  } catch (error) {
    [suggestions, shownFor] = [[], box.value];
    status.textContent = error.message;
  } finally {
    busy = false;
  }
}

function draw() {
  const current = shownFor === box.value;
  const atEnd = box.selectionEnd === box.value.length;
  typed.textContent = box.value;
  rest.textContent = current && atEnd && !dismissed ? (suggestions[0]?.text ?? "") : "";
  box.style.height = "auto"; // grow with the text
  box.style.height = `${box.scrollHeight}px`;
  if (!current) return;
  list.replaceChildren(...suggestions.map(button));
  const recent = times.slice(-20).sort((one, other) => one - other);
  if (recent.length) time.textContent = `· ${recent[recent.length >> 1].toFixed(1)} ms a keystroke`;
}

function button({ text }) {
  const element = document.createElement("button");
  const line = box.value.slice(box.value.lastIndexOf("\n") + 1).trimStart().slice(-18);
  const [shown, added] = ["text", "new"].map((name) => {
    const span = document.createElement("span");
    span.className = name;
    return span;
  });
  added.textContent = text || "⏎"; // nothing more on this line
  if (!text) element.setAttribute("aria-label", "New line");
  shown.append(line, added);
  element.append(shown);
  element.addEventListener("pointerdown", (event) => event.preventDefault()); // the keyboard stays open
  element.addEventListener("click", () => accept(text || "\n"));
  return element;
}

function accept(text) {
  box.setRangeText(text, box.value.length, box.value.length, "end");
  box.focus();
  follow();
}

function follow() {
  dismissed = false;
  update();
}

box.addEventListener("input", follow);
document.addEventListener("selectionchange", draw);
box.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    dismissed = true;
    draw();
  } else if (event.key === "Tab" && !event.shiftKey && rest.textContent) {
    event.preventDefault();
    accept(rest.textContent);
  }
});

begin();
navigator.serviceWorker?.register("sw.js"); // on https and localhost only
