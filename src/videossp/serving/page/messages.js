// The two places for messages: the status, which is announced politely, and errors.

import { byId, button, element } from "./dom.js";

const MOST = 5; // errors shown together

export function announce(text) {
  byId("status").textContent = text;
}

export function showError(text) {
  const box = byId("error");
  if (!box.hasChildNodes()) box.append(element("div"), button("Close message", closeErrors));
  const list = box.firstChild;
  list.append(element("p", {}, text));
  if (list.children.length > MOST) list.firstChild.remove();
}

function closeErrors() {
  clearErrors();
  byId("file").focus(); // what to do next
}

export function clearErrors() {
  byId("error").replaceChildren();
}
