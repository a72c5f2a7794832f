// Segments of a long video: starts a job, follows it, shows its segments.

import { deleteAnyway, request, sleep, ServerError } from "./api.js";
import { button, element, table } from "./dom.js";
import { announce, clearErrors, showError } from "./messages.js";
import { checkedModels, tooLargeForJob } from "./models.js";
import { saveCsv } from "./save.js";
import { runTask } from "./task.js";
import { clock, percent } from "./words.js";

const PAUSE = 1000; // milliseconds between two questions
const MOST_MISSED = 5; // questions without an answer, one after the other
const MOST_ROWS = 500;
const running = new Set(); // ids of jobs

// Nobody could read the result of a job of a closed page.
addEventListener("pagehide", (event) => {
  if (!event.persisted) running.forEach(discard);
});

export function segmentFinder(file, player) {
  const number = (placeholder) => element("input", { type: "number", min: 0.1, step: "any", placeholder });
  const inputs = { window: number("automatic"), hop: number("automatic") };
  const options = element("details", {}, element("summary", {}, "Length of the windows"),
    element("div", { class: "row" }, element("label", {}, "Window (s) ", inputs.window),
      element("label", {}, "Hop (s) ", inputs.hop)));
  const work = element("div");
  const found = element("div");
  const start = () => !work.querySelector(".task") && find({ file, player, inputs, options, work, found });
  return element("div", { class: "segments" },
    element("div", { class: "row" }, button("Find segments (long video)", start, { class: "find" }), options), work, found);
}

async function find({ file, player, inputs, options, work, found }) {
  clearErrors();
  const [model, ...others] = checkedModels();
  const problem = problemOf(file, model, inputs);
  if (problem) {
    work.replaceChildren(element("p", { class: "problem" }, problem));
    showError(`${file.name}: ${problem}`);
    if (model && !tooLargeForJob(file)) {
      options.open = true;
      inputs.window.focus();
    }
    return;
  }
  const query = new URLSearchParams({ model: model.name });
  for (const [name, input] of Object.entries(inputs)) if (input.value) query.set(name, input.value);
  const note = others.length ? ", the first one that is checked" : "";
  const show = (job) => showSegments({ found, job, model, note, file, player });
  found.replaceChildren();
  const job = await runTask(work, file.name, (task) => follow(`v1/jobs?${query}`, file, task, show), { next: "Starting" });
  if (job) announce(`${file.name}: ${countText(job.segments)} found by ${model.name}.`);
}

function problemOf(file, model, inputs) {
  if (!model) return "Check an adapter first.";
  if (!inputs.window.validity.valid || !inputs.hop.validity.valid) return "Give the window and the hop as seconds, at least 0.1.";
  if (!model.video_seconds && !inputs.window.value) {
    return `The adapter ${model.name} does not know how long its training videos are. Give the window in seconds.`;
  }
  return tooLargeForJob(file);
}

async function follow(path, file, { signal, onupload, onwait, say }, show) {
  let { data: job } = await request("POST", path, { body: file, signal, onupload, onwait });
  const { id } = job;
  running.add(id);
  signal.addEventListener("abort", () => discard(id));
  try {
    for (let shown = -1; ; job = await ask(id, signal)) {
      if (job.segments.length !== shown || job.status === "done") show(job);
      shown = job.segments.length;
      if (job.status === "done") return job;
      if (job.status === "failed") throw new Error(job.error ?? "The job failed.");
      if (job.status === "cancelled") throw new Error("The job was cancelled.");
      if (job.status === "queued") say("Waiting for other jobs");
      else say(`Finding segments: ${Math.round(100 * job.progress)} %`, job.progress);
    }
  } finally {
    running.delete(id);
  }
}

// A lost answer does not end a job of many minutes.
async function ask(id, signal) {
  for (let missed = 1; ; missed += 1) {
    await sleep(PAUSE, signal);
    try {
      return (await request("GET", jobPath(id), { signal })).data;
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 0 || missed === MOST_MISSED) throw error;
    }
  }
}

const jobPath = (id) => `v1/jobs/${encodeURIComponent(id)}`;

const discard = (id) => deleteAnyway(jobPath(id));

const countText = (segments) => `${segments.length} ${segments.length === 1 ? "segment" : "segments"}`;

function showSegments({ found, job, model, note, file, player }) {
  const { segments } = job;
  if (!segments.length) {
    const empty = job.status === "done" ? [element("p", {}, "No segment was found.")] : [];
    found.replaceChildren(...empty);
    return;
  }
  const colour = (label) => colourOf(Math.max(0, model.classes.indexOf(label)));
  const seek = (seconds) => {
    player.currentTime = seconds;
    player.scrollIntoView({ block: "nearest" });
  };
  const rows = segments.slice(0, MOST_ROWS).map((x) => [
    button(clock(x.start), () => seek(x.start), { class: "link", "aria-label": `Show ${clock(x.start)} in the player` }),
    clock(x.end), named(x.label, colour(x.label)), percent(x.probability)]);
  const listed = table(`Segments of ${file.name}`, ["Start", "End", "Class", "Probability"], rows, [0, 1, 3]);
  const left = segments.length - rows.length;
  const put = keepPlace(found);
  found.replaceChildren(
    element("h4", {}, `${countText(segments)}, adapter ${model.name}${note}`),
    timeline(segments, job.seconds, colour),
    element("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `Segments of ${file.name}` }, listed),
    left > 0 ? element("p", { class: "note" }, `${left} more are in the CSV file.`) : "",
    button("Download segments (CSV)", () => save(file, segments)));
  put();
}

// A running job replaces the table again and again. The focus and the scrolled position stay.
function keepPlace(found) {
  const focused = [...found.querySelectorAll(".link")].indexOf(document.activeElement);
  const top = found.querySelector(".tall")?.scrollTop ?? 0;
  return () => {
    if (focused >= 0) found.querySelectorAll(".link")[focused]?.focus({ preventScroll: true });
    found.querySelector(".tall").scrollTop = top;
  };
}

function save(file, segments) {
  const rows = segments.map((x) => [x.start, x.end, x.label, x.probability]);
  saveCsv(`${file.name}.segments.csv`, ["start", "end", "label", "probability"], rows);
}

// The golden angle keeps neighbouring classes apart.
const colourOf = (i) => `hsl(${(205 + 137.5 * i) % 360} 55% 45%)`;

function named(label, colour) {
  const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = colour;
  return element("span", {}, swatch, label);
}

function timeline(segments, seconds, colour) {
  const length = seconds || segments.at(-1).end;
  const parts = segments.map((x) => {
    const part = element("span", { title: `${clock(x.start)} to ${clock(x.end)}: ${x.label}` });
    part.style.left = `${(100 * x.start) / length}%`;
    part.style.width = `${(100 * (x.end - x.start)) / length}%`;
    part.style.background = colour(x.label);
    return part;
  });
  return element("div", { class: "timeline", "aria-hidden": "true" }, ...parts);
}
