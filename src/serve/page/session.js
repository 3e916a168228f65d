// Who uses the page, in whose voice, and which view is shown. The address has voice, view and chat after its `#`, so that a
// reload shows the same again.

import { get } from "./api.js";

export const VIEWS = ["chat", "texts", "training", "guess"];

/** The answer of `/api/me`; the voice; the view; and the id of the chat, or null for a new one. */
export const session = { me: null, voice: "base", view: "chat", chat: null };

export const isUser = () => session.voice !== "base";

/** What `/api/me` says about the voice; undefined for the base. */
export const user = () => session.me?.voices.find(({ name }) => name === session.voice);

export const isReady = () => session.me?.base.state === "ready";

export function addressOf(voice, view = "chat", chat = null) {
  return `#${[voice, view, ...(chat ? [chat] : [])].map(encodeURIComponent).join("/")}`;
}

/** Takes voice, view and chat from the address, as far as they exist. */
export function readAddress() {
  const [voice, view, chat] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const names = session.me.voices.map(({ name }) => name);
  const first = names.find((name) => name === session.me.user) ?? names[0] ?? "base";
  session.voice = voice === "base" || names.includes(voice) ? voice : first;
  session.view = VIEWS.includes(view) ? view : "chat";
  session.chat = session.view === "chat" && session.voice === voice && chat ? chat : null;
}

export function go(voice, view, chat) {
  location.hash = addressOf(voice, view, chat);
}

/** Asks who is who again, and tells everybody who listens to `me`. */
export async function refresh() {
  session.me = await get("/api/me");
  document.dispatchEvent(new Event("me"));
}
