// Builds elements without HTML strings, so that names and messages from outside stay text.

export const byId = (id) => document.getElementById(id);

// An attribute that is false or null is left out; one that begins with "on" is a listener.
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export function button(text, onclick, attributes = {}) {
  return element("button", { type: "button", onclick, ...attributes }, text);
}

// A table whose cells are texts or elements; columns in `numbers` are aligned to the right.
export function table(caption, columns, rows, numbers = []) {
  const kind = (i) => (numbers.includes(i) ? "number" : null);
  const head = columns.map((text, i) => element("th", { scope: "col", class: kind(i) }, text));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((cell, i) => element("td", { class: kind(i) }, cell))));
  return element("table", {}, element("caption", { class: "unseen" }, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
}
