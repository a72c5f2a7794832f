// Where videos come in: the whole page as a drop target, and the file button.

import { byId } from "./dom.js";
import { showError } from "./messages.js";

export function setUpIntake(onfiles) {
  const input = byId("file");
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // the same file can be chosen again
    if (files.length) onfiles(files);
  });
  setUpDrop(onfiles);
}

function setUpDrop(onfiles) {
  let depth = 0; // entering a child comes before leaving its parent
  const mark = (change) => {
    depth = Math.max(0, change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => carriesFiles(event) && mark(depth + 1));
  addEventListener("dragleave", (event) => carriesFiles(event) && mark(depth - 1));
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser leaves the page and opens the file
    mark(0);
    const { files, folders } = sorted(event.dataTransfer);
    if (files.length) onfiles(files);
    for (const name of folders) showError(`${name} is a folder. Drop the videos in it instead.`);
  });
}

function sorted(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const folders = items.map((item) => item.webkitGetAsEntry?.()).filter((x) => x?.isDirectory).map((x) => x.name);
  const files = [...transfer.files].filter((file) => !folders.includes(file.name));
  return { files, folders };
}
