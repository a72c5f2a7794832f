// The choice of adapters: a checkbox for each, with its method and classes.

import { byId, element } from "./dom.js";
import { bytes } from "./words.js";

let models = [];
let limits = {};

export const modelNamed = (name) => models.find((model) => model.name === name);

// Why nothing can be predicted now; null if an adapter is checked.
export function missingModel() {
  if (!models.length) return "No adapter is listed yet. Choose the videos again when the list is there.";
  return checkedModels().length ? null : "Check an adapter first.";
}

export function checkedModels() {
  const boxes = byId("models").querySelectorAll("input[name=model]:checked");
  return [...boxes].map((box) => modelNamed(box.value));
}

// Adapters that stay keep their check mark; at first, the first adapter has it.
export function showModels(answer) {
  const checked = models.length ? checkedModels().map((model) => model.name) : [answer.models[0]?.name];
  models = answer.models;
  limits = answer.limits ?? {};
  const fieldset = byId("models");
  const legend = fieldset.querySelector("legend");
  fieldset.replaceChildren(legend, ...models.map((model, i) => choice(model, i, checked.includes(model.name))));
  if (!models.length) fieldset.append(element("p", { class: "note" }, "This server has no adapters."));
  byId("limits").textContent = limitsText();
}

function choice(model, i, checked) {
  const id = `about-model-${i}`;
  const box = element("input", {
    type: "checkbox", name: "model", value: model.name, checked, "aria-describedby": id,
  });
  const label = element("label", {}, box, element("span", { class: "name" }, model.name));
  // The files on the disk have the error. The server still predicts with the adapter that it loaded before.
  const problem = model.error ? element("span", { class: "problem" }, ` Not reloaded: ${model.error}`) : null;
  const about = element("p", { id, class: "note" }, aboutText(model), problem);
  return element("div", { class: "model" }, label, about);
}

function aboutText(model) {
  const count = model.classes.length;
  return `method ${model.method}, ${count} ${count === 1 ? "class" : "classes"}`;
}

function limitsText() {
  const parts = [];
  if (limits.max_bytes) parts.push(bytes(limits.max_bytes));
  if (limits.max_seconds) parts.push(`${limits.max_seconds} s`);
  return parts.length ? `At most ${parts.join(" and ")} for a video.` : "";
}

// Why a file is too large to be predicted, with what to do; null if it is not.
export function tooLarge(file) {
  const { max_bytes: most, max_job_bytes: longest } = limits;
  if (!most || file.size <= most) return null;
  const fact = `The file has ${bytes(file.size)}, and this server takes ${bytes(most)} for a prediction.`;
  if (!longest || file.size <= longest) return `${fact} Use 'Find segments (long video)' instead.`;
  return `${fact} ${cut(longest)}`;
}

export function tooLargeForJob(file) {
  const { max_job_bytes: longest } = limits;
  if (!longest || file.size <= longest) return null;
  return `The file has ${bytes(file.size)}. ${cut(longest)}`;
}

const cut = (longest) => `Long videos may have ${bytes(longest)}. Cut this one into parts, or encode it at a lower resolution.`;
