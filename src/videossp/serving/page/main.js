// Connects the parts of the page: videos come in, predictions go to results and to the table.

import { request } from "./api.js";
import { button, byId, element } from "./dom.js";
import { setUpIntake } from "./intake.js";
import { announce, clearErrors, showError } from "./messages.js";
import { checkedModels, missingModel, showModels, tooLarge } from "./models.js";
import { addPast, forget, setUpPast } from "./past.js";
import { setUpCamera } from "./record.js";
import { Result } from "./result.js";
import { runTask } from "./task.js";
import { percent } from "./words.js";

const MOST_HELD = 20; // videos
const TOP = 5; // classes
const held = []; // results with their videos, oldest first
let turn = Promise.resolve();

async function loadModels() {
  try {
    showModels((await request("GET", "v1/models")).data);
    const refresh = button("Refresh list", async () => {
      await loadModels();
      byId("models").querySelector("button").focus();
      announce("The list of adapters is new.");
    });
    byId("models").append(refresh);
  } catch (error) {
    showError(error.message);
    const again = button("Try again", () => {
      clearErrors();
      loadModels();
    });
    byId("models").querySelectorAll(":scope > :not(legend)").forEach((x) => x.remove());
    byId("models").append(element("p", { class: "problem" }, "The adapters could not be listed."), again);
  }
}

function add(files) {
  clearErrors();
  const missing = missingModel();
  if (missing) {
    showError(missing);
    return;
  }
  const results = files.map((file) => new Result(file, { again, close: hide }));
  held.push(...results);
  byId("results").prepend(...results.map((result) => result.article));
  byId("shown").hidden = false;
  results.forEach(predict);
}

function again(result) {
  clearErrors();
  predict(result);
}

async function predict(result) {
  const models = checkedModels();
  const problem = missingModel() ?? tooLarge(result.file);
  if (problem) {
    result.problem(problem);
    showError(`${result.name}: ${problem}`);
  } else {
    const query = new URLSearchParams([...models.map((model) => ["model", model.name]), ["top_k", TOP]]);
    const send = (task) => request("POST", `v1/predict?${query}`, { ...task, body: result.file });
    const answer = await runTask(result.work, result.name, (task) => inTurn(task, send));
    if (answer) finish(result, answer);
  }
  releaseOldest();
}

// One video after the other: the server has a limited queue, and the first result comes sooner.
function inTurn(task, send) {
  const sent = turn.then(() => {
    task.signal.throwIfAborted();
    return send(task);
  });
  turn = sent.catch(() => {});
  return sent;
}

function finish(result, { data: answers, timing }) {
  result.show(answers, timing);
  const time = new Date();
  for (const { model, predictions } of [...answers].reverse()) {
    addPast({ result, time, model, predictions }, () => bringBack(result, model));
  }
  const tops = answers.map(({ model, predictions: [top] }) => (top ? `${model}: ${top.label}, ${percent(top.score)}` : model));
  announce(`${result.name}: ${tops.join("; ")}.`);
}

function bringBack(result, model) {
  if (!held.includes(result)) return;
  if (!result.article.isConnected) byId("results").prepend(result.article);
  byId("shown").hidden = false;
  const heading = result.columnOf(model)?.querySelector("h4") ?? result.heading;
  result.article.scrollIntoView();
  heading.focus({ preventScroll: true });
}

function hide(result) {
  result.cancel();
  const next = result.article.nextElementSibling?.querySelector("h3") ?? byId("file");
  result.article.remove();
  byId("shown").hidden = !byId("results").hasChildNodes();
  next.focus();
}

function releaseOldest() {
  for (const result of held.filter((x) => !x.busy)) {
    if (held.length <= MOST_HELD) return;
    held.splice(held.indexOf(result), 1);
    result.release();
    forget(result);
  }
}

setUpIntake(add);
setUpCamera((file) => add([file]));
setUpPast();
loadModels();
