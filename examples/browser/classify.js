// Classify clips with a model of `videossp export`, by onnxruntime-web.
//
// The folder of this file needs model.onnx and model.json of the export, and of the npm package onnxruntime-web
// dist/ort.wasm.min.mjs, dist/ort-wasm-simd-threaded.mjs and dist/ort-wasm-simd-threaded.wasm.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // several threads need a server that sends headers for cross-origin isolation

/** Load a model and its description. */
export async function load(model = "model.onnx") {
  const answer = await fetch(model.replace(/\.onnx$/, ".json"));
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`);
  const about = await answer.json();
  if (about.custom_op) throw new Error("it was exported with --custom-op, which does not run in a browser");
  return { about, session: await ort.InferenceSession.create(model) };
}

/** Probabilities of the classes of a clip: (3, frames, height, width) float32, normalised, in one array. */
export async function classify({ about, session }, clip) {
  const { frames, size } = about.clip;
  const copies = about.batch ?? 1; // a model with a fixed batch gets the clip several times
  const input = new Float32Array(copies * clip.length);
  for (let i = 0; i < copies; i++) input.set(clip, i * clip.length);
  const tensor = new ort.Tensor("float32", input, [copies, 3, frames, ...size]);
  const { logits } = await session.run({ clip: tensor });
  const first = Array.from(logits.data.slice(0, about.classes.length));
  const most = Math.max(...first);
  const scores = first.map((x) => Math.exp(x - most));
  const sum = scores.reduce((a, b) => a + b);
  return scores.map((x) => x / sum);
}

/** The frames of a clip as canvases: the middle of each of `frames` equal parts of the video, cropped. */
export async function framesOf(file, about) {
  const { frames, size, sampling } = about.clip;
  if (sampling === "dense") throw new Error("dense sampling needs the frame rate, which a browser does not tell");
  const video = document.createElement("video");
  video.muted = true;
  video.src = URL.createObjectURL(file);
  try {
    await event(video, "loadeddata");
    if (!Number.isFinite(video.duration)) throw new Error("the file does not tell how long the video is");
    const [height, width] = size;
    const scale = Math.max(height / video.videoHeight, width / video.videoWidth);
    const found = [];
    for (let i = 0; i < frames; i++) {
      video.currentTime = ((i + 0.5) / frames) * video.duration;
      await event(video, "seeked");
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      const shown = [video.videoWidth * scale, video.videoHeight * scale];
      context.drawImage(video, (width - shown[0]) / 2, (height - shown[1]) / 2, ...shown);
      found.push(canvas);
    }
    return found;
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

/** The normalised clip of canvases. */
export function clipOf(canvases, about) {
  const { mean, std, size } = about.clip;
  const pixels = size[0] * size[1];
  const clip = new Float32Array(3 * canvases.length * pixels);
  canvases.forEach((canvas, t) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, size[1], size[0]);
    for (let channel = 0; channel < 3; channel++) {
      const start = (channel * canvases.length + t) * pixels;
      for (let i = 0; i < pixels; i++) {
        clip[start + i] = (data[4 * i + channel] / 255 - mean[channel]) / std[channel];
      }
    }
  });
  return clip;
}

function event(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("this browser cannot decode the video")), { once: true });
  });
}
