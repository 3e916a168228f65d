// What a person says about a file: who they are in it, and how it is read.

import { button, count, element, moveAmong } from "./dom.js";

/** The number of choices from which on there is a field that narrows them down. */
const MANY = 8;

let nextId = 0;
const newName = () => `option-${nextId += 1}`;

/** Asks for a fact that only the person knows. `change` is called with the options that say it. */
export function chooser(needs, change, drop) {
  if (needs.option === "columns") return columnsChooser(needs, change, drop);
  const isOfAuthors = needs.option === "authors";
  const title = isOfAuthors ? "Who are you in this file?" : needs.option === "lamp_user" ? "Whose texts are they?" : "Whose messages are they?";
  const hint = isOfAuthors ? "Only the messages of the names that you choose are learnt. Choose several if you appear under several." : needs.message;
  const name = newName();
  const kind = isOfAuthors ? "checkbox" : "radio";
  const inputs = needs.choices.map((choice) => element("input", { type: kind, name, value: choice.name }));
  const rows = needs.choices.map((choice, place) => element("label", { class: "choice" }, inputs[place],
    element("span", { class: "grow", text: choice.name }), choice.n === null ? null : element("span", { class: "faint", text: count(choice.n, "message") })));
  const go = button("Go on", () => {
    const chosen = inputs.filter(({ checked }) => checked).map(({ value }) => value);
    return change(isOfAuthors ? { author: chosen } : { [needs.option]: chosen[0] });
  }, { class: "primary", disabled: true });
  const list = element("div", { class: "choices" }, ...rows);
  list.addEventListener("change", () => { go.disabled = !inputs.some(({ checked }) => checked); });
  list.addEventListener("keydown", (event) => {
    const shown = inputs.filter((input) => !input.closest("label").hidden);
    if (isOfAuthors && !event.ctrlKey) moveAmong(shown, event);
  });
  const search = needs.choices.length > MANY ? element("input", { type: "search", placeholder: "Find a name", "aria-label": "Find a name" }) : null;
  search?.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    needs.choices.forEach((choice, place) => { rows[place].hidden = !choice.name.toLowerCase().includes(wanted); });
  });
  const question = element("legend", { text: title });
  return element("fieldset", { class: "question" }, question, element("p", { class: "faint", text: hint }), search, list, element("div", { class: "buttons end" }, drop, go));
}

function columnsChooser(needs, change, drop) {
  const select = (label, first) => {
    const options = needs.choices.map((choice, place) => element("option", { text: choice.name, value: choice.name, selected: place === first }));
    return element("select", { "aria-label": label }, ...options);
  };
  const last = needs.choices.length - 1;
  const [prompt, response] = [select("Column of what it answers", 0), select("Column of the texts", last)];
  const row = (text, field) => element("label", { class: "choice" }, element("span", { class: "grow", text }), field);
  const go = button("Go on", () => change({ columns: [prompt.value, response.value] }), { class: "primary" });
  return element("fieldset", { class: "question" }, element("legend", { text: "Which columns have the texts?" }), element("p", { class: "faint", text: needs.message }),
    row("What the text answers, or its title", prompt), row("The text itself", response), element("div", { class: "buttons end" }, drop, go));
}

/** The options that have an effect on this file. A change reads the file again. */
export function optionFields({ applies = [], masked }, options, change) {
  const check = (label, name, isChecked) => {
    const input = element("input", { type: "checkbox", checked: isChecked, data: { option: name }, on: { change: () => change({ [name]: input.checked }) } });
    return element("label", { class: "check" }, input, element("span", { text: label }));
  };
  const group = newName();
  const fields = [element("div", { class: "segments two", role: "radiogroup", "aria-label": "What the texts are for" },
    use(group, "Train on them", "the voice learns from them", !options.held_out, () => change({ held_out: false })),
    use(group, "Hold them out", "to measure and to play Guess", Boolean(options.held_out), () => change({ held_out: true })))];
  if (applies.includes("authors") && options.author) fields.push(button("Choose other names", () => change({ author: undefined }), { class: "link" }));
  if (applies.includes("speaker")) {
    const speaker = element("select", { data: { option: "speaker" }, on: { change: () => change({ speaker: speaker.value || null }) } },
      ...[["", "The usual side"], ["human", "The human's messages"], ["assistant", "The assistant's messages"]].map(([value, text]) => element("option", { value, text, selected: (options.speaker ?? "") === value })));
    fields.push(element("label", { class: "check" }, element("span", { text: "Learn from" }), speaker));
  }
  if (applies.includes("keep_signature")) fields.push(check("Keep the signatures below mails", "keep_signature", Boolean(options.keep_signature)));
  if (masked.length > 0 || options.keep_secrets) fields.push(check("Keep passwords, keys and numbers as they are (not advised)", "keep_secrets", Boolean(options.keep_secrets)));
  return element("div", { class: "upload-options" }, ...fields);
}

function use(name, title, text, isChosen, choose) {
  const input = element("input", { type: "radio", name, checked: isChosen, data: { option: title }, on: { change: choose } });
  return element("label", { class: "segment" }, input, element("span", {}, element("b", { text: title }), element("small", { class: "faint", text })));
}
