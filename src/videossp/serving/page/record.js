// Recording with the camera: a preview, then at most ten seconds of video.

import { byId } from "./dom.js";
import { announce, clearErrors, showError } from "./messages.js";

const LONGEST = 10; // seconds
const FORMATS = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
const TEXTS = { closed: "Use the camera", opening: "Opening the camera", ready: "Record", recording: "Stop" };
const REASONS = {
  NotAllowedError: "The browser did not allow the use of the camera. Allow it in the settings of this page.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be read. Another program may be using it.",
};

let state = "closed";
let stream = null;
let recorder = null;
let said = 0; // seconds that were announced

export function setUpCamera(onfile) {
  const steps = { closed: open, ready: () => record(onfile), recording: () => recorder.stop() };
  byId("record").addEventListener("click", () => steps[state]?.());
  byId("close-camera").addEventListener("click", () => {
    close();
    byId("record").focus();
  });
}

function enter(name) {
  state = name;
  byId("record").textContent = TEXTS[name];
  byId("camera").hidden = name === "closed" || name === "opening";
  byId("close-camera").hidden = name !== "ready";
}

async function open() {
  clearErrors();
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
    showError(isSecureContext
      ? "This browser cannot record videos."
      : "Browsers allow the camera only with https or on localhost.");
    return;
  }
  enter("opening");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: false });
  } catch (error) {
    enter("closed");
    showError(REASONS[error.name] ?? "The camera cannot be used.");
    return;
  }
  byId("preview").srcObject = stream;
  showTime(0);
  enter("ready");
  announce(`The camera is on. Press Record to record at most ${LONGEST} s.`);
}

function close() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  byId("preview").srcObject = null;
  enter("closed");
}

function showTime(seconds) {
  byId("recorded").value = seconds;
  byId("countdown").textContent = `${Math.ceil(LONGEST - seconds)} s left`;
}

function record(onfile) {
  const type = FORMATS.find((format) => MediaRecorder.isTypeSupported(format));
  const parts = [];
  const began = performance.now();
  const timer = setInterval(() => tick((performance.now() - began) / 1000), 100);
  recorder = new MediaRecorder(stream, type ? { mimeType: type } : {});
  recorder.ondataavailable = (event) => event.data.size && parts.push(event.data);
  recorder.onstop = () => { // also when the camera is unplugged
    clearInterval(timer);
    close();
    finish(parts, (performance.now() - began) / 1000, onfile);
  };
  said = 0;
  recorder.start();
  enter("recording");
  announce(`Recording. It stops after ${LONGEST} s.`);
}

function tick(seconds) {
  showTime(Math.min(seconds, LONGEST));
  const whole = Math.floor(seconds);
  if (whole >= said + 2) { // every second would be too much to listen to
    said = whole;
    announce(`${whole} s recorded.`);
  }
  if (seconds >= LONGEST && recorder.state === "recording") recorder.stop();
}

function finish(parts, seconds, onfile) {
  if (!parts.length) {
    showError("The camera gave no video. Record again.");
    return;
  }
  announce(`Recorded ${seconds.toFixed(1)} s.`);
  const type = recorder.mimeType.split(";")[0] || "video/webm";
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
  onfile(new File(parts, `camera-${time}.${type === "video/mp4" ? "mp4" : "webm"}`, { type }));
}
