// The list of chats in the sidebar.

import { storeOf } from "./chat_store.js";
import { askFor, element, guarded, iconButton, moveAmong, $ } from "./dom.js";
import { addressOf, go, session } from "./session.js";

const DAY = 86_400_000;

/** The heading under which a chat of this time stands. */
function ageOf(seconds) {
  const days = Math.floor((new Date().setHours(24, 0, 0, 0) - seconds * 1000) / DAY);
  if (days < 1) return "Today";
  if (days < 2) return "Yesterday";
  return days < 8 ? "The last seven days" : "Earlier";
}

export async function showConversations() {
  const { voice } = session;
  const chats = await storeOf(voice).list();
  if (voice !== session.voice) return;
  const place = $("chats");
  const focused = place.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : null;
  place.replaceChildren();
  if (chats.length === 0) place.append(element("p", { class: "faint pad", text: "Your chats will be listed here." }));
  let list = null;
  let heading = "";
  for (const chat of chats) {
    const age = ageOf(chat.changed);
    if (age !== heading) {
      list = element("ul", { class: "plain", "aria-label": age });
      place.append(element("h2", { text: age }), list);
      heading = age;
    }
    list.append(entry(voice, chat));
  }
  markConversation();
  if (focused) place.querySelector(`li[data-id="${CSS.escape(focused)}"] a`)?.focus();
}

function entry(voice, { id, title }) {
  const shown = title || id;
  const rename = async () => {
    const given = await askFor({ title: "Rename the chat", action: "Rename", value: shown });
    if (!given) return;
    const store = storeOf(voice);
    await store.save(id, { ...await store.load(id), title: given });
    document.dispatchEvent(new CustomEvent("renamed", { detail: { id, title: given } }));
    await showConversations();
  };
  const drop = async () => {
    const text = `“${shown}” is deleted for good.`;
    if (!await askFor({ title: "Delete this chat?", text, action: "Delete" })) return;
    await storeOf(voice).remove(id);
    if (session.chat === id) go(voice);
    await showConversations();
    ($("chats").querySelector("a") ?? $("new-chat")).focus();
  };
  const link = element("a", { href: addressOf(voice, "chat", id), text: shown, title: shown });
  link.addEventListener("keydown", guarded(async (event) => {
    if (event.key === "Delete") await drop();
    else if (event.key === "F2") await rename();
  }));
  return element("li", { data: { id } }, link, iconButton("edit", `Rename ${shown}`, rename), iconButton("delete", `Delete ${shown}`, drop));
}

/** Marks the chat that is open. */
export function markConversation() {
  for (const link of $("chats").querySelectorAll("a")) {
    const isOpen = link.closest("li").dataset.id === session.chat;
    if (isOpen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

$("chats").addEventListener("keydown", (event) => moveAmong([...$("chats").querySelectorAll("a")], event));
