// The chat: messages, answers as they are written, and what can be done with each.

import { LiveAnswer, fillLegend, showAnswer, showMarkdown } from "./answer.js";
import { post, pathOf, stream } from "./api.js";
import { newId, storeOf } from "./chat_store.js";
import { compare } from "./compare.js";
import { showConversations, markConversation } from "./conversations.js";
import { $, button, copy, element, guarded, iconButton, notice } from "./dom.js";
import { follow, keepInView } from "./scrolling.js";
import { addressOf, isUser, session } from "./session.js";
import { applySettings, requestFields, settings } from "./settings.js";
import { showWelcome } from "./welcome.js";

/** The longest title that is made of a first message. */
const TITLE = 60;

/** The chat that is open. `nAnswers` is the number of answers that the last message has had. */
let chat = newChat();
let running = null;

function newChat() {
  return { voice: session.voice, id: null, title: null, messages: [], nAnswers: 0, isUnsaved: false };
}

const isTinted = () => $("tint").getAttribute("aria-pressed") === "true";
const draftKey = () => `cope-draft-${session.voice}`;

// --- opening and saving ------------------------------------------------------------------------------------------------

/** Opens the chat that the address names, or a new one. */
export async function showChat() {
  markConversation();
  if (chat.voice === session.voice && chat.id === session.chat) {
    if (!running) renderChat();
    return;
  }
  startChat();
  if (session.chat) {
    const { voice, chat: id } = session;
    const { title, messages, settings: given, n_answers } = await storeOf(voice).load(id);
    if (voice !== session.voice || id !== session.chat) return;
    chat = { voice, id, title, messages, nAnswers: n_answers ?? 0, isUnsaved: false };
    applySettings(given);
    renderChat();
    follow();
  }
}

/** Begins a new chat. An answer that is being written ends, and stays in the chat that it is of. */
export function startChat() {
  running?.abort();
  chat = newChat();
  applySettings(null);
  $("text").value = localStorage.getItem(draftKey()) ?? "";
  fitText();
  renderChat();
}

async function save(saved = chat) {
  if (!saved.id) {
    saved.id = newId();
    saved.title = saved.messages[0].content.split("\n")[0].slice(0, TITLE);
    if (saved === chat) {
      session.chat = saved.id;
      if (session.view === "chat") history.replaceState(null, "", addressOf(saved.voice, "chat", saved.id));
    }
  }
  saved.isUnsaved = true;
  const messages = saved.messages.map(({ role, content }) => ({ role, content }));
  if (saved === chat) saved.settings = settings();
  const kept = { title: saved.title, settings: saved.settings ?? null, messages, n_answers: saved.nAnswers };
  await storeOf(saved.voice).save(saved.id, kept);
  saved.isUnsaved = false;
  await showConversations();
}

// --- asking ------------------------------------------------------------------------------------------------------------

function setRunning(controller) {
  running = controller;
  $("send").hidden = Boolean(controller);
  $("stop").hidden = !controller;
  $("chat").setAttribute("aria-busy", String(Boolean(controller)));
  $("chat").classList.toggle("busy", Boolean(controller));
}

export const isRunning = () => running !== null;
export const stopAnswer = () => running?.abort();

/** The messages that are sent: those before `end`, after the instructions. */
function sent(end = chat.messages.length) {
  const { system } = settings();
  const before = chat.messages.slice(0, end).map(({ role, content }) => ({ role, content }));
  return system ? [{ role: "system", content: system }, ...before] : before;
}

export async function say(text) {
  if (!text.trim() || running) return;
  setText("");
  chat.messages.push({ role: "user", content: text.trim() });
  chat.nAnswers = 0;
  renderChat();
  await answer();
}

/** Answers the messages so far, or with `former` draws another answer in the place of that one. */
async function answer(former = null) {
  const asked = chat;
  const item = element("li", { class: "answer" });
  const said = element("div", { class: "said waiting" });
  item.append(element("p", { class: "who", text: session.voice }), said);
  $("chat").append(item);
  follow();
  const live = new LiveAnswer(said, isTinted());
  const made = { role: "assistant", content: "", finish: null };
  const controller = new AbortController();
  setRunning(controller);
  $("chat-status").textContent = `${session.voice} is answering`;
  let failure = null;
  try {
    const body = { model: session.voice, messages: sent(), ...requestFields("cope"), regenerate: asked.nAnswers };
    made.finish = await stream({ ...body, ...(isTinted() ? { logprobs: true } : {}) }, controller.signal, (text, tokens, event) => {
      said.classList.remove("waiting");
      live.add(text, tokens);
      made.draw = { temperature: event.temperature, seed: event.seed };
      keepInView();
    });
  } catch (error) {
    failure = error;
    made.finish = error.name === "AbortError" ? "stopped" : "broken";
  } finally {
    setRunning(null);
  }
  made.content = live.text;
  made.tokens = live.tokens;
  await ended(asked, former, made, failure);
}

/** Takes an answer into the chat. A message that got none goes back into the field. */
async function ended(asked, former, made, failure) {
  if (made.content) {
    const versions = former ? [...(former.versions ?? [former]), made] : undefined;
    asked.messages.push(Object.assign(made, { versions }));
    asked.nAnswers += 1;
  } else if (former) {
    asked.messages.push(former);
  } else if (asked === chat && failure) {
    const { content } = asked.messages.pop();
    if (!$("text").value) setText(content);
  } else if (asked === chat) {
    notice("The answer is empty. Ask for another one, or with other settings.");
  }
  if (asked !== chat) {
    if (made.content) await save(asked);
    return;
  }
  renderChat(failure && failure.name !== "AbortError" ? failure : null);
  $("chat-status").textContent = made.content ? `${session.voice}: ${made.content}` : "";
  if (session.view === "chat" && !$("view-chat").hidden) $("text").focus();
  if (chat.messages.length > 0) await save();
}

/** Draws another answer to the last message. Which settings that takes is the server's rule. */
async function regenerate() {
  if (running || chat.messages.length === 0) return;
  const last = chat.messages.at(-1);
  if (last.role !== "assistant") return answer();
  chat.messages.pop();
  renderChat();
  return answer(last);
}

// --- rendering ---------------------------------------------------------------------------------------------------------

function renderChat(failure = null) {
  const { messages } = chat;
  const items = messages.map((message, place) => (message.role === "user" ? question(message, place) : reply(message, place)));
  if (failure) items.push(failed(failure));
  else if (messages.at(-1)?.role === "user" && !running) items.push(unanswered());
  $("chat").replaceChildren(...items);
  $("welcome").hidden = messages.length > 0 || Boolean(failure);
  $("composer").hidden = false;
  if (!$("welcome").hidden) showWelcome((text) => { setText(text); $("text").focus(); });
  if (!isTinted()) {
    const places = [...$("chat").querySelectorAll(".answer > .said")];
    const answers = messages.filter(({ role }) => role === "assistant");
    guarded(showMarkdown)(answers.map(({ content }, number) => [places[number], content]));
  }
  keepInView();
}

function question(message, place) {
  const item = element("li", { class: "user" }, element("div", { class: "said", text: message.content }));
  const edit = () => {
    const take = (text) => {
      chat.messages.length = place;
      return say(text);
    };
    editor(item, message.content, "Your message", "Send", take);
  };
  item.append(element("div", { class: "actions" },
    iconButton("edit", "Edit the message and go on from it", edit),
    iconButton("copy", "Copy the message", () => copy(message.content))));
  return item;
}

function reply(message, place) {
  const said = element("div", { class: "said", text: message.content });
  const item = element("li", { class: "answer" }, element("p", { class: "who", text: session.voice }), said);
  if (isTinted()) guarded(showAnswer)(said, { text: message.content, tokens: message.tokens }, true);
  if (message.finish === "length") item.append(element("p", { class: "cut", text: "Cut off here: the answer reached the most tokens that the server allows." }));
  if (message.finish === "broken") item.append(element("p", { class: "cut", text: "Broken off here: the server went away." }));
  const actions = element("div", { class: "actions" });
  const isLast = place === chat.messages.length - 1;
  if (isLast && message.versions) actions.append(...pager(message, place));
  actions.append(iconButton("copy", "Copy the answer", () => copy(message.content)));
  if (isLast) actions.append(iconButton("again", "Draw another answer", regenerate, { id: "regenerate" }));
  if (isUser()) actions.append(...verdicts(message, place, item));
  if (isLast && isUser()) {
    const before = () => compare({ messages: sent(place), place: $("chat"), isTinted: isTinted(), setRunning });
    actions.append(iconButton("compare", "Compare base, user model and CoPe", before, { id: "compare" }));
  }
  if (message.draw) {
    const { temperature, seed } = message.draw;
    const text = temperature > 0 ? `temperature ${temperature}, seed ${seed}` : "temperature 0";
    actions.append(element("span", { class: "draw faint", text, title: "With these settings, the same messages get this answer again" }));
  }
  item.append(actions);
  return item;
}

/** Buttons that go through the answers that were drawn. */
function pager(message, place) {
  const { versions } = message;
  const number = versions.findIndex((version) => version === message || version.content === message.content);
  const turn = (step) => async () => {
    const next = versions[(number + step + versions.length) % versions.length];
    chat.messages[place] = Object.assign(next, { versions });
    renderChat();
    $("chat").querySelector(`.pager-${step}`)?.focus();
    await save();
  };
  return [
    iconButton("left", "The answer before", turn(-1), { class: "icon small pager--1" }),
    element("span", { class: "pager faint", text: `${number + 1}/${versions.length}` }),
    iconButton("right", "The next answer", turn(1), { class: "icon small pager-1" }),
  ];
}

/** The buttons for feedback on an answer: good, bad, and as it should have been. */
function verdicts(message, place, item) {
  const path = pathOf(session.voice, "feedback");
  const prompt = sent(place);
  const judge = (verdict) => async (event) => {
    const pressed = event.currentTarget;
    await post(path, { prompt, response: message.content, verdict });
    message.verdict = verdict;
    for (const other of [good, bad]) other.setAttribute("aria-pressed", String(other === pressed));
    notice("Kept for the next training.");
  };
  const pressed = (verdict) => ({ "aria-pressed": String(message.verdict === verdict) });
  const good = iconButton("good", "A good answer", judge("good"), pressed("good"));
  const bad = iconButton("bad", "A bad answer", judge("bad"), pressed("bad"));
  const edit = iconButton("edit", "Write the answer as it should have been", () => {
    editor(item, message.content, "The answer as it should have been", "Keep", async (text) => {
      await post(path, { prompt, response: message.content, edited: text });
      Object.assign(message, { content: text, tokens: [], finish: null, draw: null });
      renderChat();
      notice("Kept for the next training.");
      await save();
    });
  });
  return [good, bad, edit];
}

/** Puts a field in the place of an item's text. Escape closes it. */
function editor(item, text, label, action, take) {
  if (running) return;
  const area = element("textarea", { value: text, rows: Math.min(12, Math.ceil(text.length / 60) + 1), "aria-label": label });
  const close = () => { renderChat(); $("text").focus(); };
  const done = guarded(() => (area.value.trim() ? take(area.value.trim()) : undefined));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && action === "Send") { event.preventDefault(); done(); }
  });
  const buttons = element("div", { class: "buttons end" }, button("Cancel", close), button(action, done, { class: "primary" }));
  item.replaceChildren(element("div", { class: "editor" }, area, buttons));
  area.focus();
}

function failed(failure) {
  const again = button("Send again", () => say($("text").value), { class: "primary" });
  const isBroken = chat.messages.at(-1)?.role === "assistant";
  const reason = failure.name === "ServerGone" ? "There is no answer." : failure.message;
  const text = isBroken ? failure.message : `${reason} Your message is kept in the field below.`;
  return element("li", { class: "note wrong failed" }, element("span", { text }), isBroken ? null : again);
}

function unanswered() {
  return element("li", { class: "note" }, element("span", { text: "This message has no answer yet." }), button("Answer it", () => regenerate()));
}

// --- the field ---------------------------------------------------------------------------------------------------------

function setText(text) {
  $("text").value = text;
  keepDraft();
  fitText();
}

function keepDraft() {
  if ($("text").value) localStorage.setItem(draftKey(), $("text").value);
  else localStorage.removeItem(draftKey());
}

function fitText() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, innerHeight * 0.35)}px`;
}

fillLegend($("legend"));
$("text").addEventListener("input", () => { keepDraft(); fitText(); });
$("text").addEventListener("keydown", guarded(async (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  await say($("text").value);
}));
$("say").addEventListener("submit", guarded(async (event) => { event.preventDefault(); await say($("text").value); }));
$("stop").addEventListener("click", stopAnswer);
$("tint").addEventListener("click", () => {
  $("tint").setAttribute("aria-pressed", String(!isTinted()));
  $("legend").hidden = !isTinted();
  if (!running) renderChat();
});
document.addEventListener("me", () => { if (chat.messages.length === 0 && !running) renderChat(); });
document.addEventListener("renamed", ({ detail }) => { if (detail.id === chat.id) chat.title = detail.title; });
document.addEventListener("back", guarded(async () => { if (chat.isUnsaved) await save(); }));
