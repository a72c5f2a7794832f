// The picture of an explanation: frames, the map over them, and the effect of each frame.

import { element, table } from "./dom.js";
import { fixed, percent, short } from "./words.js";

// Okabe and Ito's colours, as in the reports of videossp: colour-blind people can tell them apart.
const FOR = [214, 94, 0];
const AGAINST = [0, 115, 179];
const LEAST_RANGE = 0.1; // nats; smaller drops must not look large

export function strip(explanation) {
  const scale = scaleOf(explanation.map);
  const frames = explanation.frames.map((_, i) => frame(explanation, i, scale));
  const name = "Frames that the model read";
  const box = element("div", { class: "frames", role: "group", "aria-label": name }, ...frames);
  const figure = element("figure", { class: "strip" }, caption(explanation), box);
  figure.append(legend(explanation, scale), opacity(figure), values(explanation), note(explanation));
  return figure;
}

// The absolute value for the strongest colour: one patch in a hundred exceeds it.
function scaleOf(map) {
  const sizes = map.flat(2).map(Math.abs).sort((a, b) => a - b);
  const place = 0.99 * (sizes.length - 1);
  const [low, high] = [sizes[Math.floor(place)], sizes[Math.ceil(place)]];
  return Math.max(low + (high - low) * (place % 1), 1e-12);
}

const topOf = (explanation) => explanation.predictions[0]?.label;
const timeOf = (explanation, i) => (explanation.seconds ? `${fixed(explanation.seconds[i])} s` : `frame ${i + 1}`);
const changed = (explanation, i) => explanation.without_frame[i] !== topOf(explanation);

function caption(explanation) {
  const { target, predictions } = explanation;
  const known = predictions.find((prediction) => prediction.label === target);
  const heading = element("p", { class: "explained" }, "Explained class: ", element("b", {}, target), known ? ", " : "",
    known ? element("span", { class: "keep" }, percent(known.score)) : "");
  const how = element("p", {}, "Orange patches raise the score of this class and blue ones lower it; a bar below a frame " +
    "shows how far the log-probability of the class falls (orange) or rises (blue) when the frame is replaced, " +
    "and a fall of 0.7 nats halves the probability.");
  return element("figcaption", {}, heading, how);
}

function frame(explanation, i, scale) {
  const drop = explanation.frame_drops[i];
  const other = explanation.without_frame[i];
  const picture = element("div", { class: "picture" },
    element("img", { src: explanation.frames[i], alt: "" }), cells(explanation.map[i], scale));
  const mark = changed(explanation, i) ? element("span", { class: "mark" }, "without this frame: ", element("b", {}, other)) : null;
  const label = `Frame ${i + 1} of ${explanation.frames.length}, ${timeOf(explanation, i)}: drop ${fixed(drop)} nats, ` +
    `without this frame: ${other}`;
  return element("div", { class: mark ? "frame deciding" : "frame", role: "img", "aria-label": label },
    element("span", { class: "time" }, timeOf(explanation, i)), picture, bar(explanation.frame_drops, drop),
    element("span", { class: "drop" }, fixed(drop)), mark);
}

// One pixel for a patch: the style sheet enlarges the canvas without smoothing and sets its opacity.
function cells(rows, scale) {
  const [height, width] = [rows.length, rows[0].length];
  const canvas = element("canvas", { width, height });
  const image = new ImageData(width, height);
  rows.flat().forEach((value, i) => {
    const strength = Math.min(1, Math.abs(value) / scale);
    image.data.set([...(value > 0 ? FOR : AGAINST), Math.round(255 * strength)], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function bar(drops, drop) {
  const low = Math.min(0, ...drops);
  const range = Math.max(Math.max(0, ...drops) - low, LEAST_RANGE);
  const zero = (100 * -low) / range; // per cent from the bottom
  const height = (100 * Math.abs(drop)) / range;
  const line = element("span", { class: "zero" });
  const fill = element("span", { class: drop > 0 ? "fill for" : "fill against" });
  line.style.bottom = `${zero}%`;
  fill.style.bottom = `${drop > 0 ? zero : zero - height}%`;
  fill.style.height = `${height}%`;
  return element("div", { class: "bar" }, fill, line);
}

function legend(explanation, scale) {
  return element("p", { class: "legend" },
    element("span", {}, `lowers: ${short(-scale)}`), element("span", { class: "colours" }),
    element("span", {}, `raises: ${short(scale)}`), element("span", { class: "note" }, `(${explanation.unit} per patch)`));
}

function opacity(figure) {
  const slider = element("input", { type: "range", min: 0, max: 100, step: 5, value: 85 });
  const show = () => {
    figure.style.setProperty("--map", slider.value / 100);
    figure.style.setProperty("--grey", Number(slider.value) > 0 ? 1 : 0); // all colours are the map's
  };
  slider.addEventListener("input", show);
  show();
  return element("label", { class: "opacity" }, "Opacity of the map", slider);
}

function values(explanation) {
  const rows = explanation.frames.map((_, i) =>
    [timeOf(explanation, i), fixed(explanation.frame_drops[i], 3), explanation.without_frame[i]]);
  const columns = ["Frame", "Drop (nats)", "Class without the frame"];
  return element("details", {}, element("summary", {}, "Values of the frames as a table"),
    element("div", { class: "scroll" }, table(`Frames, for the class ${explanation.target}`, columns, rows, [0, 1])));
}

function note(explanation) {
  const method = explanation.method.replaceAll("_", " ");
  const gap = explanation.gap == null ? "" : `; error of the sum of the map: ${percent(explanation.gap)}`;
  const baseline = explanation.baseline === "both" ? "mean colour and median frame, averaged" : explanation.baseline.replaceAll("_", " ");
  return element("p", { class: "note" }, `Method: ${method}, baseline: ${baseline}. ` +
    `Change of the ${explanation.unit} from the baseline: ${fixed(explanation.change)}${gap}.`);
}
