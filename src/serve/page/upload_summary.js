// What an import of a file would give, in words and by samples.

import { count, element } from "./dom.js";

export function summary({ n, new: fresh, known, taken, cut, masked, left, samples }) {
  const parts = [element("p", { class: "figures" }, element("b", { text: count(fresh, "new text") }), known > 0 ? `, and ${count(known, "text")} that you have already` : "")];
  if (n === 0) parts[0] = element("p", { text: "There are no texts to take in this file." });
  if (taken.length > 0) parts.push(element("p", { class: "faint", text: `From ${taken.join(", ")}.` }));
  parts.push(counts("Cut away", cut), counts("Masked", masked), counts("Left out", left));
  if (samples.length > 0) parts.push(element("details", { class: "samples" }, element("summary", { text: `Look at ${samples.length === 1 ? "one of them" : `${samples.length} of them`}` }), ...samples.map(sample)));
  return element("div", { class: "summary" }, ...parts);
}

function counts(title, pairs) {
  if (pairs.length === 0) return null;
  const chips = pairs.map(([what, n]) => element("li", { class: "chip" }, String(what), " ", element("b", { text: n.toLocaleString("en") })));
  return element("div", { class: "counts" }, element("span", { class: "faint", text: title }), element("ul", { class: "plain" }, ...chips));
}

/** One text, after what it answers. */
export function sample({ prompt, response }) {
  return element("blockquote", {}, element("p", { class: "faint clamp", text: prompt.at(-1)?.content ?? "" }), element("p", { class: "said", text: response }));
}
