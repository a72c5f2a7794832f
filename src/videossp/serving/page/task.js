// A running request: its state, its progress, and a button that cancels it.

import { unlessAborted } from "./api.js";
import { button, element } from "./dom.js";
import { announce, showError } from "./messages.js";

// Runs `work({ signal, onupload, onwait, say })` with a row in `box`. Returns its result, or null after an error or Cancel.
export async function runTask(box, name, work, { start = "Waiting", next = "Computing" } = {}) {
  const controller = new AbortController();
  const text = element("span", {}, start);
  const bar = element("progress", { max: 1, "aria-label": `Progress of ${name}` });
  const cancel = button("Cancel", () => controller.abort(), { class: "cancel", "aria-label": `Cancel: ${name}` });
  const row = element("div", { class: "task row" }, text, bar, cancel);
  const say = (words, share = null) => {
    text.textContent = words;
    if (share === null) bar.removeAttribute("value");
    else bar.value = share;
  };
  const onupload = (share) => {
    if (share < 1) say(`Uploading ${Math.round(100 * share)} %`, share);
    else say(next);
    if (share === 0 || share === 1) announce(`${name}: ${share ? next.toLowerCase() : "uploading"}.`);
  };
  const onwait = (seconds, retry, most) => {
    const words = `The server is busy. Trying again in ${seconds} s (${retry} of ${most}).`;
    say(words);
    announce(`${name}: ${words}`);
  };
  box.replaceChildren(row);
  try {
    const { signal } = controller;
    return await unlessAborted(work({ signal, onupload, onwait, say }), signal);
  } catch (error) {
    if (controller.signal.aborted) leave(box, row, name, "Cancelled.");
    else fail(box, row, name, error);
    return null;
  } finally {
    if (row.contains(document.activeElement)) box.closest("section, article")?.querySelector("h3, h4")?.focus();
    row.remove();
  }
}

function replace(box, row, kind, words) {
  const focused = row.contains(document.activeElement);
  const note = element("p", { class: kind, tabindex: -1 }, words);
  box.replaceChildren(note);
  if (focused) note.focus(); // the focus must not fall back to the top of the page
}

function leave(box, row, name, words) {
  replace(box, row, "note", words);
  announce(`${name}: ${words}`);
}

function fail(box, row, name, error) {
  replace(box, row, "problem", error.message);
  showError(`${name}: ${error.message}`);
  announce("");
}
