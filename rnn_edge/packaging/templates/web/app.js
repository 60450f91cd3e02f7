// The page: what is typed goes to the model, and its suggestions come back as grey text and as buttons.

import { load } from "./rnn-edge.js";

const find = (selector) => document.querySelector(selector);
const [box, typed, rest, list, status] = ["textarea", ".typed", ".rest", ".suggestions", ".status"].map(find);
const times = []; // of the last keystrokes, in milliseconds
let model;
let suggestions = [];
let shownFor = null; // the text that the suggestions belong to
let busy = false;
let verified = false;

async function begin() {
  try {
    model = await load();
    await model.selfTest();
    verified = true;
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
  rest.textContent = current && atEnd ? (suggestions[0]?.text ?? "") : "";
  box.style.height = "auto"; // grow with the text
  box.style.height = `${box.scrollHeight}px`;
  if (!current) return;
  list.replaceChildren(...suggestions.map(button));
  const recent = times.slice(-20).sort((one, other) => one - other);
  const spent = recent.length ? ` · ${recent[recent.length >> 1].toFixed(1)} ms a keystroke` : "";
  if (verified) status.textContent = `Golden vectors verified${spent}`;
}

function button({ text }) {
  const element = document.createElement("button");
  const line = box.value.slice(box.value.lastIndexOf("\n") + 1).trimStart().slice(-18);
  const [shown, added] = ["text", "new"].map((name) => {
    const span = document.createElement("span");
    span.className = name;
    return span;
  });
  added.textContent = text || "⏎";
  shown.append(line, added);
  element.append(shown);
  element.addEventListener("pointerdown", (event) => event.preventDefault()); // the keyboard stays open
  element.addEventListener("click", () => accept(text));
  return element;
}

function accept(text) {
  box.setRangeText(text, box.value.length, box.value.length, "end");
  box.focus();
  update();
}

box.addEventListener("input", update);
document.addEventListener("selectionchange", draw);
box.addEventListener("keydown", (event) => {
  if (event.key !== "Tab" || event.shiftKey || !rest.textContent) return;
  event.preventDefault();
  accept(rest.textContent);
});

begin();
