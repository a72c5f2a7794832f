// The page: it shows the frames that the model reads, and the probabilities of the classes.
import { classify, clipOf, framesOf, load } from "./classify.js";

const status = document.querySelector("#status");
const input = document.querySelector("#video");

let latest = 0;

async function show(model) {
  const file = input.files[0];
  const mine = ++latest; // the result of a video is not shown if another one was chosen in the meantime
  if (!file) return;
  status.textContent = "Computing …";
  document.querySelector("#frames").replaceChildren();
  document.querySelector("#classes").replaceChildren();
  try {
    const frames = await framesOf(file, model.about);
    const started = performance.now();
    const probabilities = await classify(model, clipOf(frames, model.about));
    const milliseconds = performance.now() - started;
    if (mine !== latest) return;
    document.querySelector("#frames").replaceChildren(...frames);
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
    for (const i of order) {
      const name = Object.assign(document.createElement("dt"), {
        textContent: `${(100 * probabilities[i]).toFixed(1)} % ${model.about.classes[i]}`,
      });
      const bar = Object.assign(document.createElement("meter"), { value: probabilities[i], ariaHidden: "true" });
      const row = document.createElement("dd");
      row.append(bar);
      document.querySelector("#classes").append(name, row);
    }
    status.textContent = `${model.about.classes[order[0]]} (${milliseconds.toFixed(0)} ms)`;
  } catch (error) {
    if (mine === latest) status.textContent = error.message;
  }
}

try {
  const model = await load();
  status.textContent = "Choose a video.";
  input.addEventListener("change", () => show(model));
  await show(model); // a video that was chosen before the model was there
} catch (error) {
  status.textContent = `The model cannot be loaded: ${error.message}`;
}
