// The text of an answer: as Markdown, or as tokens that are coloured by user model against base.

import { post } from "./api.js";
import { copy, element, iconButton } from "./dom.js";

/** Milliseconds between two renderings of an answer that is being written. */
const PAUSE = 120;
/** The ratio of probabilities, as its logarithm, that has the strongest colour. */
const STRONGEST = 6;

/** Texts that were rendered before, and their HTML. */
const rendered = new Map();

/** Renders texts as Markdown. The server escapes all HTML that is in them. */
async function render(texts) {
  const missing = [...new Set(texts.filter((text) => !rendered.has(text)))];
  if (missing.length > 0) {
    const { html } = await post("/api/markdown", { texts: missing });
    missing.forEach((text, place) => rendered.set(text, html[place]));
    // The parts of answers that were being written are not needed again.
    if (rendered.size > 500) [...rendered.keys()].slice(0, 250).forEach((text) => rendered.delete(text));
  }
  return texts.map((text) => rendered.get(text));
}

function setHtml(place, html) {
  place.classList.add("markdown");
  place.innerHTML = html;
  for (const table of place.querySelectorAll("table")) {
    const frame = element("div", { class: "wide-table", tabindex: "0", role: "group", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const code of place.querySelectorAll("pre")) {
    const text = code.textContent;
    const frame = element("div", { class: "code" });
    code.replaceWith(frame);
    frame.append(code, iconButton("copy", "Copy the code", () => copy(text)));
    code.tabIndex = 0;
  }
  for (const link of place.querySelectorAll("a")) link.target = "_blank";
}

/** Shows each `[place, text]` as Markdown; the plain text is shown where the server cannot render it. */
export async function showMarkdown(pairs) {
  for (const [place, text] of pairs) if (!rendered.has(text) && !place.hasChildNodes()) place.textContent = text;
  const all = await render(pairs.map(([, text]) => text)).catch(() => null);
  all?.forEach((html, number) => setHtml(pairs[number][0], html));
}

/** An answer that is being written into `place`. */
export class LiveAnswer {
  text = "";
  tokens = [];
  #place;
  #isTinted;
  #isRendering = false;
  #shown = "";

  constructor(place, isTinted) {
    this.#place = place;
    this.#isTinted = isTinted;
  }

  add(text, tokens) {
    this.text += text;
    if (tokens.length > 0) this.tokens.push({ text, tokens });
    if (this.#isTinted) this.#place.append(tinted(text, tokens));
    else if (text && !this.#isRendering) this.#render();
  }

  async #render() {
    this.#isRendering = true;
    while (this.#shown !== this.text) {
      this.#shown = this.text;
      await showMarkdown([[this.#place, this.#shown]]);
      await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
    }
    this.#isRendering = false;
  }
}

/** Shows an answer by its tokens, or as Markdown where there are none. */
export function showAnswer(place, { text, tokens }, isTinted) {
  if (isTinted && tokens?.length > 0) {
    place.classList.remove("markdown");
    place.replaceChildren(...tokens.map((part) => tinted(part.text, part.tokens)));
    return Promise.resolve();
  }
  return showMarkdown([[place, text]]);
}

const percent = (p) => `${(p * 100).toPrecision(3)} %`;

/**
 * A part of an answer. It is orange if the user model finds it likelier than the base does, blue if less likely, and the
 * stronger the larger the ratio. A token that the contrast chose over the user model's own choice is underlined.
 */
function tinted(text, tokens) {
  if (tokens.length === 0) return text;
  const lines = tokens.map(({ token, p_user, p_base, changed }) => {
    const base = p_base === null ? "" : `, base ${percent(p_base)}`;
    return `${JSON.stringify(token)}: user ${percent(p_user)}${base}${changed ? ", another than its likeliest" : ""}`;
  });
  const part = element("span", { class: "token", text, title: lines.join("\n") });
  const last = tokens.at(-1);
  if (last.p_base !== null) {
    const moved = Math.log(last.p_user / last.p_base);
    part.classList.add(moved > 0 ? "warm" : "cold");
    part.style.setProperty("--strength", (Math.min(Math.abs(moved) / STRONGEST, 1) * 45).toFixed(1) + "%");
  }
  if (tokens.some(({ changed }) => changed)) part.classList.add("changed");
  return part;
}

export function fillLegend(place) {
  const sample = (kind, text, strength) => {
    const shown = element("span", { class: `token ${kind}`, text });
    shown.style.setProperty("--strength", strength);
    return shown;
  };
  place.replaceChildren(
    sample("warm", "likelier in this voice", "36%"), " ",
    sample("cold", "likelier in the base", "36%"), " ",
    element("span", { class: "token changed", text: "chosen by the contrast" }),
    " Point at a word for its probabilities.",
  );
}
