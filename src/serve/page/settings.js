// The settings of answers. They are kept with each chat, under the names that the terminal's chat gives them.

import { $, button, element } from "./dom.js";
import { isUser, user } from "./session.js";

const FIELDS = [
  { name: "scale", label: "How much like me", kind: "range", min: 0, max: 2, step: 0.1, ends: ["less like me", "more like me"], isOfUser: true },
  { name: "contrast", label: "Contrast", kind: "range", min: 0, max: 1, step: 0.05, ends: ["off", "strong"], isOfUser: true },
  { name: "temperature", label: "Temperature", kind: "number", step: "any", hint: "default", title: "0 always takes the likeliest token; higher values vary more" },
  { name: "seed", label: "Seed", kind: "number", step: 1, hint: "a new one", title: "Equal seeds give equal answers" },
];

/** The seed that stands for a new one each time in a saved chat. */
const NEW_SEED = 4294967295;

const field = (name) => $(`set-${name}`);

function defaultOf(name) {
  if (name === "scale") return user()?.scale ?? 1;
  return name === "contrast" ? user()?.contrast ?? 0 : "";
}

/** Whether a field has its default; a slider has it as nearly as its steps allow. */
function isDefault({ name, kind, step }) {
  if (kind === "number") return field(name).value === "";
  return Math.abs(field(name).valueAsNumber - defaultOf(name)) < step / 2 + 1e-9;
}

/** The fields of this voice whose values are others than its defaults. */
const given = () => FIELDS.filter((it) => (isUser() || !it.isOfUser) && !isDefault(it));

function build() {
  const rows = FIELDS.map(({ name, label, kind, ends, hint, isOfUser, ...range }) => {
    const input = element("input", { id: `set-${name}`, type: kind, min: 0, placeholder: hint, ...range, on: { input: changed } });
    const top = element("label", { for: `set-${name}`, text: label });
    if (kind === "number") return element("div", { class: "setting" }, top, input);
    const value = element("output", { id: `set-${name}-value`, for: `set-${name}` });
    const below = element("div", { class: "ends faint", "aria-hidden": "true" }, ...ends.map((text) => element("span", { text })));
    return element("div", { class: "setting", data: isOfUser ? { ofUser: "" } : {} }, element("div", { class: "spread" }, top, value), input, below);
  });
  const system = element("textarea", { id: "set-system", rows: 2, placeholder: "For instance: Answer in one paragraph.", on: { input: changed } });
  const last = element("div", { class: "setting whole" }, element("label", { for: "set-system", text: "Instructions for every answer (system prompt)" }), system);
  const buttons = element("div", { class: "buttons end whole" }, button("Defaults", () => applySettings(null)), button("Close", () => toggleSettings(false)));
  $("settings").append(element("div", { class: "settings" }, ...rows, last, buttons));
}

function changed() {
  for (const name of ["scale", "contrast"]) $(`set-${name}-value`).value = field(name).value;
  $("toggle-settings").classList.toggle("marked", given().length > 0 || field("system").value.trim() !== "");
}

/** Fills the fields from a chat's settings, or with the voice's defaults where there are none. */
export function applySettings(settings) {
  for (const { name } of FIELDS) {
    const value = settings?.[name];
    const isGiven = value !== undefined && value !== null && !(name === "seed" && value === NEW_SEED);
    field(name).value = isGiven ? value : defaultOf(name);
  }
  field("system").value = settings?.system ?? "";
  for (const row of document.querySelectorAll("[data-of-user]")) row.hidden = !isUser();
  changed();
}

/** The settings as a chat is saved with them: those that are others than the voice's defaults. */
export function settings() {
  const values = given().map(({ name }) => [name, field(name).valueAsNumber]);
  return { system: field("system").value.trim() || null, ...Object.fromEntries(values) };
}

/** The fields of a request by one arm. Only the contrast of two models has a strength, and the base has no scale. */
export function requestFields(arm) {
  const { system: _, contrast, scale, ...drawing } = settings();
  if (!isUser()) return drawing;
  const ofUser = { ...drawing, arm };
  if (arm === "cope" && contrast !== undefined) ofUser.contrast = contrast;
  if (arm !== "base" && scale !== undefined) ofUser.scale = scale;
  return ofUser;
}

export function toggleSettings(isOpen = $("settings").hidden) {
  $("settings").hidden = !isOpen;
  $("toggle-settings").setAttribute("aria-expanded", String(isOpen));
  (isOpen ? $("settings").querySelector("[id^=set-]:not([hidden] *)") : $("toggle-settings")).focus();
}

build();
$("toggle-settings").addEventListener("click", () => toggleSettings());
