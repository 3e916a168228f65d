// Where chats are kept: a user's on the server, beside those of the terminal, and the base's in this browser.

import { get, pathOf, put, remove } from "./api.js";

const BASE_CHATS = "cope-base-chats";

const readLocal = () => JSON.parse(localStorage.getItem(BASE_CHATS) ?? "{}");
const writeLocal = (chats) => localStorage.setItem(BASE_CHATS, JSON.stringify(chats));

const ofBrowser = {
  async list() {
    const chats = Object.entries(readLocal()).map(([id, { title, changed }]) => ({ id, title, changed }));
    return chats.sort((a, b) => b.changed - a.changed);
  },
  async load(id) {
    const chat = readLocal()[id];
    if (!chat) throw new Error("There is no such chat in this browser.");
    return chat;
  },
  async save(id, chat) {
    writeLocal({ ...readLocal(), [id]: { ...chat, changed: Date.now() / 1000 } });
  },
  async remove(id) {
    const { [id]: _, ...others } = readLocal();
    writeLocal(others);
  },
};

const ofServer = (name) => ({
  list: async () => (await get(pathOf(name, "chats"))).chats,
  load: (id) => get(pathOf(name, "chats", id)),
  save: (id, chat) => put(pathOf(name, "chats", id), chat),
  remove: (id) => remove(pathOf(name, "chats", id)),
});

export const storeOf = (voice) => (voice === "base" ? ofBrowser : ofServer(voice));

/** A new id: the time, so that ids sort by it, and some chance. */
export const newId = () => `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`;
