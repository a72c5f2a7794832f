// The result of one video: its player, a column for each adapter, and its buttons.

import { column } from "./column.js";
import { button, element } from "./dom.js";
import { segmentFinder } from "./jobs.js";
import { modelNamed } from "./models.js";
import { bytes } from "./words.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const watcher = new IntersectionObserver((seen) => seen.forEach(playIfSeen)); // many players at once would be slow

function playIfSeen({ target, isIntersecting }) {
  if (!isIntersecting) target.pause();
  else if (!still.matches && !target.error) target.play().catch(() => {}); // a refusal leaves it at its first frame
}

export class Result {
  constructor(file, { again, close }) {
    this.file = file;
    this.name = file.name;
    this.url = URL.createObjectURL(file);
    this.work = element("div");
    this.columns = element("div", { class: "columns" });
    this.timing = element("p", { class: "note" });
    this.heading = element("h3", { tabindex: -1 }, file.name, element("span", { class: "note" }, ` ${bytes(file.size)}`));
    const { box, video } = player(this.url, file.name);
    this.video = video;
    const tools = element("div", { class: "row tools" },
      button("Predict again", () => this.busy || again(this), { "aria-label": `Predict again: ${file.name}` }),
      button("Close", () => close(this), { "aria-label": `Close: ${file.name}` }));
    this.article = element("article", { "data-file": file.name, class: "panel", "aria-label": file.name },
      element("div", { class: "head" }, this.heading, tools),
      element("div", { class: "body" }, box, element("div", { class: "answers" }, this.work, this.columns, this.timing)),
      segmentFinder(file, video));
  }

  get busy() {
    return this.article.querySelector(".task") !== null;
  }

  cancel() {
    this.article.querySelectorAll(".task .cancel").forEach((x) => x.click());
  }

  // A column replaces an older one of the same adapter.
  show(answers, timing) {
    for (const answer of answers) {
      const made = column(answer, modelNamed(answer.model), this.file);
      const old = this.columnOf(answer.model);
      if (old) old.replaceWith(made);
      else this.columns.append(made);
    }
    this.timing.textContent = timingText(timing);
  }

  columnOf(model) {
    return [...this.columns.children].find((x) => x.dataset.model === model);
  }

  problem(text) {
    this.work.replaceChildren(element("p", { class: "problem" }, text));
  }

  release() {
    watcher.unobserve(this.video);
    this.article.remove();
    URL.revokeObjectURL(this.url);
  }
}

function player(url, name) {
  const video = element("video", {
    src: url, loop: true, playsinline: true, controls: true, preload: "metadata", "aria-label": `Player: ${name}`,
  });
  video.muted = true; // the attribute has no effect on an element that a script makes
  const box = element("div", { class: "player" }, video);
  video.addEventListener("error", () => {
    video.hidden = true;
    box.append(element("p", { class: "note" }, "The browser cannot play this file. The server may still be able to read it."));
  }, { once: true });
  watcher.observe(video);
  return { box, video };
}

// "decode;dur=12.3, model;dur=40" as "decode 12 ms, model 40 ms".
function timingText(header) {
  const parts = (header ?? "").split(",").map((part) => part.match(/^\s*([\w-]+)\s*;.*?dur=([\d.]+)/)).filter(Boolean);
  return parts.map(([, name, time]) => `${name} ${Math.round(time)} ms`).join(", ");
}
