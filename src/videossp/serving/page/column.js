// The column of one adapter in a result: its top classes, and the explanation of one class.

import { request } from "./api.js";
import { button, element } from "./dom.js";
import { announce, clearErrors } from "./messages.js";
import { strip } from "./strip.js";
import { runTask } from "./task.js";
import { percent } from "./words.js";

export function column(answer, model, file) {
  const { predictions } = answer;
  const heading = element("h4", { tabindex: -1 }, answer.model,
    model ? element("span", { class: "note" }, ` method ${model.method}`) : "");
  const section = element("section", { "data-model": answer.model, "aria-label": `Adapter ${answer.model}` },
    heading, element("ol", { class: "bars" }, ...predictions.map(bar)));
  section.append(explainer(section, answer, model, file));
  return section;
}

function bar({ label, score }) {
  const fill = element("span", { class: "share" });
  fill.style.width = `${100 * score}%`;
  return element("li", {}, element("span", { class: "label" }, label), " ",
    element("span", { class: "score" }, percent(score)), element("span", { class: "track", "aria-hidden": "true" }, fill));
}

function explainer(section, answer, model, file) {
  const top = answer.predictions[0]?.label;
  const select = element("select", { "aria-label": `Class to explain, ${answer.model}` },
    ...classOptions(answer.predictions, model));
  const work = element("div");
  const run = async () => {
    if (work.querySelector(".task")) return;
    clearErrors();
    const target = select.value;
    const query = new URLSearchParams({ model: answer.model });
    if (target !== top) query.set("class", target);
    const name = `${file.name}, ${answer.model}`;
    const result = await runTask(work, name, (task) => request("POST", `v1/explain?${query}`, { ...task, body: file }),
      { next: "Computing the explanation" });
    if (result) show(result.data);
  };
  const show = (explanation) => {
    work.replaceChildren(strip(explanation));
    announce(`${answer.model}: the explanation of ${explanation.target} is shown.`);
  };
  return element("div", { class: "explainer" },
    element("div", { class: "row" }, element("label", {}, "Class ", select),
      button("Explain", run, { class: "explain" })), work);
}

// The predicted classes first, then the others of the adapter.
function classOptions(predictions, model) {
  const ranked = predictions.map((prediction) => prediction.label);
  const others = (model?.classes ?? []).filter((name) => !ranked.includes(name));
  return [...ranked, ...others].map((name) => element("option", { value: name }, name));
}
