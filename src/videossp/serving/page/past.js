// The results of this visit: a table, and the same as JSON and CSV. Nothing is stored.

import { button, byId, element } from "./dom.js";
import { saveCsv, saveJson } from "./save.js";
import { percent } from "./words.js";

const entries = []; // newest first

export function setUpPast() {
  byId("download-json").addEventListener("click", () => saveJson("videossp-results.json", entries.map(plain)));
  byId("download-csv").addEventListener("click", () => {
    const rows = entries.flatMap(({ time, file, model, predictions }) =>
      predictions.map(({ label, score }, i) => [time.toISOString(), file, model, i + 1, label, score]));
    saveCsv("videossp-results.csv", ["time", "file", "model", "rank", "label", "score"], rows);
  });
}

const plain = ({ time, file, model, predictions }) => ({ time: time.toISOString(), file, model, predictions });

// `show` brings the result back.
export function addPast({ result, time, model, predictions }, show) {
  const entry = { time, file: result.name, model, predictions, result };
  const name = button(entry.file, show, { class: "link" });
  const [top] = predictions;
  const cells = [entry.time.toLocaleTimeString(), name, model, top?.label ?? "", top ? percent(top.score) : ""];
  const row = element("tr", { class: "held" }, ...cells.map((x, i) => element("td", { class: i === 4 ? "number" : null }, x)));
  row.addEventListener("click", (event) => {
    if (row.classList.contains("held") && event.target !== name) show();
  });
  entry.row = row;
  entries.unshift(entry);
  byId("past").tBodies[0].prepend(row);
  byId("earlier").hidden = false;
}

// The numbers stay; only the video is gone.
export function forget(result) {
  for (const { row, file } of entries.filter((entry) => entry.result === result)) {
    row.classList.remove("held");
    row.cells[1].replaceChildren(file);
  }
}
