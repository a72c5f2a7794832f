// Files to download: JSON and CSV.

import { element } from "./dom.js";

export function saveJson(name, value) {
  save(name, "application/json", JSON.stringify(value, null, 2) + "\n");
}

export function saveCsv(name, columns, rows) {
  const lines = [columns, ...rows].map((row) => row.map(cell).join(","));
  save(name, "text/csv", lines.join("\r\n") + "\r\n");
}

function cell(value) {
  // A spreadsheet would run a text that begins like a formula.
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(name, type, text) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000); // the download has begun by then
}
