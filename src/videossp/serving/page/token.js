// The bearer token: asked for when the server wants one, kept until the tab is closed.

import { byId } from "./dom.js";

const KEY = "videossp-token";
let kept = readStorage();
let asked = null; // the open question, shared by all requests that wait for it

// Storage throws where the browser blocks site data; the token is then kept by the page alone.
function readStorage() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function keep(token) {
  kept = token;
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // Kept in memory.
  }
}

export const currentToken = () => kept;

export function askToken(rejected) {
  asked ??= new Promise((resolve) => open(rejected, resolve)).finally(() => (asked = null));
  return asked;
}

function open(rejected, resolve) {
  const form = byId("token-form");
  const input = byId("token");
  const note = rejected
    ? "The server did not accept this token."
    : "The server asks for a token. The browser forgets it when you close this tab.";
  byId("token-note").textContent = note;
  form.hidden = false;
  input.value = "";
  input.focus(); // a screen reader also reads the note, which describes the field
  form.onsubmit = (event) => {
    event.preventDefault();
    const token = input.value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) { // other characters cannot be sent in a header
      byId("token-note").textContent = "A token has only ASCII letters, digits and signs, and no spaces.";
      return;
    }
    keep(token);
    form.hidden = true;
    resolve();
  };
}
