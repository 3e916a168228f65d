// A user's texts: looked through, searched, edited and removed.

import { get, pathOf, put, remove } from "./api.js";
import { $, askFor, button, element, guarded, iconButton } from "./dom.js";
import { isUser, refresh, session, user } from "./session.js";
import { forgetUploads } from "./uploads.js";

/** The number of items that are loaded at a time. */
const PAGE = 30;
/** Milliseconds after the last key until the search begins. */
const PAUSE = 250;

let part = "history";
let shown = 0;

export async function showTexts() {
  forgetUploads(session.voice);
  const isOfUser = isUser();
  $("texts-lead").textContent = isOfUser
    ? `What ${session.voice} wrote. Training learns from these texts. Held-out texts are never learnt: they show how good the voice is.`
    : "Texts belong to a user. Choose one in the sidebar, or create one.";
  for (const id of ["drop", "uploads", "items-bar"]) $(id).hidden = !isOfUser;
  $("items-note").hidden = true;
  showCounts();
  await list();
}

function showCounts() {
  $("n-history").textContent = user()?.n_history.toLocaleString("en") ?? "";
  $("n-held_out").textContent = user()?.n_held_out.toLocaleString("en") ?? "";
}

async function list(from = 0) {
  const name = session.voice;
  $("more").hidden = true;
  $("items-empty").hidden = true;
  if (!isUser()) {
    $("items").replaceChildren();
    return;
  }
  const matching = $("matching").value.trim();
  const fields = new URLSearchParams({ from, n: PAGE, part, matching });
  const { items, total } = await get(`${pathOf(name, "history")}?${fields}`);
  if (name !== session.voice) return;
  if (from === 0) $("items").replaceChildren();
  $("items").append(...items.map((item) => entry(name, item)));
  shown = from + items.length;
  $("more").hidden = shown >= total;
  $("items-empty").hidden = total > 0;
  $("items-empty").textContent = matching ? "No text has these words." : part === "history" ? "There are no texts to train on yet. Drop a file above." : "No texts are held out yet. When you take a file, choose “Hold them out”: a tenth of your texts is plenty.";
}

function entry(name, item) {
  const path = pathOf(name, "history", item.id);
  const said = element("div", { class: "said clamped", text: item.response });
  const prompt = element("p", { class: "faint clamp", text: item.prompt.at(-1)?.content ?? "" });
  const place = element("li", { class: "card item" });
  const changed = async ({ consequence, masked = [] }) => {
    const notes = masked.map(([what, n]) => `Masked in the new text: ${what} (${n}).`);
    if (consequence) notes.push(consequence);
    $("items-note").hidden = notes.length === 0;
    $("items-note").textContent = notes.join(" ");
    await refresh();
  };
  const drop = async () => {
    if (!await askFor({ title: "Remove this text?", text: "It is removed for good, and so is what was made of it for training.", action: "Remove" })) return;
    const next = place.nextElementSibling ?? place.previousElementSibling;
    const told = await remove(path);
    place.remove();
    shown -= 1;
    await changed(told);
    (next?.querySelector("button") ?? $("matching")).focus();
  };
  const edit = () => {
    const area = element("textarea", { value: item.response, rows: Math.min(14, Math.ceil(item.response.length / 70) + 1), "aria-label": "The text" });
    const number = [...$("items").children].indexOf(place);
    const refocus = () => $("items").children[number]?.querySelector('[aria-label="Edit the text"]')?.focus();
    const close = () => {
      place.replaceWith(entry(name, item));
      refocus();
    };
    const keep = guarded(async () => {
      const told = await put(path, { response: area.value });
      // The id is made of the text, so the list is read again.
      await changed(told);
      await list();
      refocus();
    });
    area.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); close(); } });
    place.replaceChildren(prompt, area, element("div", { class: "buttons end" }, button("Cancel", close), button("Keep", keep, { class: "primary" })));
    area.focus();
  };
  const actions = element("div", { class: "actions" }, iconButton("edit", "Edit the text", edit), iconButton("delete", "Remove the text", drop));
  place.append(prompt, said, actions);
  if (item.response.length > 500 || item.response.split("\n").length > 6) {
    const all = button("Show all", () => {
      const isClamped = said.classList.toggle("clamped");
      all.textContent = isClamped ? "Show all" : "Show less";
    }, { class: "link" });
    actions.prepend(all);
  }
  return place;
}

for (const name of ["history", "held_out"]) {
  $(`part-${name}`).addEventListener("click", guarded(async () => {
    part = name;
    for (const other of ["history", "held_out"]) $(`part-${other}`).setAttribute("aria-pressed", String(other === name));
    await list();
  }));
}
let searching = 0;
$("matching").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(guarded(() => list()), PAUSE);
});
$("more").addEventListener("click", guarded(async () => {
  const first = $("items").children.length;
  await list(shown);
  $("items").children[first]?.querySelector("button")?.focus();
}));
document.addEventListener("me", showCounts);
document.addEventListener("texts", guarded(async () => { if (session.view === "texts") await list(); }));
