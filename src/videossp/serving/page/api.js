// Requests to the server: token, upload progress, cancelling, waiting while the server is busy.

import { askToken, currentToken } from "./token.js";

const RETRIES = 3;
const LONGEST_WAIT = 300; // seconds
export const NO_ANSWER = "The server does not answer.";

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status; // 0: no answer
  }
}

// The path is relative, so that the page also works below a path of a proxy.
// Returns { data, timing }. `onupload` gets the sent share, `onwait` the seconds and the number of the retry.
export async function request(method, path, { body, signal, onupload, onwait } = {}) {
  for (let retry = 0; ;) {
    const token = currentToken();
    const answer = await send(method, path, { body, signal, onupload, token });
    if (answer.status === 401) {
      // Another request may have got a new token in the meantime.
      if (token === currentToken()) await unlessAborted(askToken(token !== null), signal);
    } else if (answer.status === 429 && retry < RETRIES) {
      retry += 1;
      const seconds = waitOf(answer);
      onwait?.(seconds, retry, RETRIES);
      await sleep(1000 * seconds, signal);
    } else {
      return { data: contentOf(answer), timing: answer.getResponseHeader("Server-Timing") };
    }
  }
}

// XMLHttpRequest, because fetch does not tell how much of the body is sent.
function send(method, path, { body, signal, onupload, token }) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const xhr = new XMLHttpRequest();
    const abort = () => xhr.abort();
    xhr.open(method, path);
    if (token !== null) xhr.setRequestHeader("Authorization", `Bearer ${token}`);
    if (body) xhr.setRequestHeader("Content-Type", body.type || "application/octet-stream");
    if (onupload && body) {
      onupload(0);
      xhr.upload.onprogress = (event) => onupload(event.total ? event.loaded / event.total : 0);
      xhr.upload.onload = () => onupload(1);
    }
    xhr.onload = () => resolve(xhr);
    xhr.onabort = () => reject(signal.reason);
    xhr.onerror = async () => reject(new ServerError(await reasonOf(body), 0));
    xhr.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    xhr.send(body ?? null);
  });
}

// A DELETE that outlives the page, which XMLHttpRequest cannot send. An error has no consequence: the job
// has ended, or the server ends it later.
export function deleteAnyway(path) {
  const token = currentToken();
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  fetch(path, { method: "DELETE", keepalive: true, headers }).catch(() => {});
}

// A file that was moved or changed looks like a failure of the network to XMLHttpRequest.
async function reasonOf(body) {
  try {
    await body?.slice(0, 1).arrayBuffer();
    return NO_ANSWER;
  } catch {
    return "The browser cannot read the file any more. It was moved, deleted or changed. Choose it again.";
  }
}

function contentOf(answer) {
  let data = null;
  try {
    data = answer.responseText ? JSON.parse(answer.responseText) : null;
  } catch {
    if (answer.status < 400) throw new ServerError("The server sent an answer that is not JSON.", answer.status);
  }
  if (answer.status < 400) return data;
  const detail = typeof data?.detail === "string" ? data.detail : `The server answered with status ${answer.status}.`;
  throw new ServerError(detail, answer.status);
}

function waitOf(answer) {
  const seconds = Number.parseFloat(answer.getResponseHeader("Retry-After"));
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), LONGEST_WAIT) : 5;
}

export function sleep(milliseconds, signal) {
  let timer;
  const slept = new Promise((resolve) => (timer = setTimeout(resolve, milliseconds)));
  return unlessAborted(slept, signal).finally(() => clearTimeout(timer));
}

export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
