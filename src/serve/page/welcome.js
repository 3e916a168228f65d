// The empty chat, which says what to do next.

import { $, button, count, element, icon } from "./dom.js";
import { addressOf, isUser, session, user } from "./session.js";

const IDEAS = ["Write a note to a friend whom I have not seen for long.", "How was your weekend?", "Review the last book that you read, in five sentences."];

export function showWelcome(write) {
  const voice = user();
  const isWriting = !isUser() || voice.is_trained;
  $("composer").hidden = !isWriting;
  const title = isUser() ? (voice.is_trained ? `Write to ${voice.name}` : `Give ${voice.name} a voice`) : "Chat with the base model";
  const parts = [element("h1", { text: title })];
  if (!isUser() || !voice.is_trained) parts.push(element("p", { class: "lead", text: isUser() ? LEAD_OF_NEW : leadOfBase() }), steps(voice));
  if (isWriting && isUser()) parts.push(element("p", { class: "lead", text: `Answers come in the voice that was learnt from ${count(voice.n_history, "text")}.` }));
  if (isWriting) parts.push(element("div", { class: "ideas" }, ...IDEAS.map((text) => button(text, () => write(text)))));
  $("welcome").replaceChildren(...parts);
}

const LEAD_OF_NEW = "A voice is learnt from texts that this person wrote: a few dozen are enough for a start.";

function leadOfBase() {
  const hasUsers = session.me.voices.length > 0;
  return hasUsers ? "It answers in nobody's voice. Choose a user in the sidebar for theirs." : "It answers in nobody's voice yet. Three steps make one that writes like you:";
}

/** The steps from nothing to a voice; those that are done have a tick. */
function steps(voice) {
  if (!voice && session.me.voices.length > 0) return null;
  const name = voice?.name;
  const isNamed = Boolean(voice);
  const hasTexts = isNamed && voice.n_history > 0;
  const create = session.me.is_admin ? button("Create a user", () => $("new-user").click(), { class: "primary" }) : null;
  const go = (text, view) => element("a", { class: "button primary", href: addressOf(name, view), text });
  const all = [
    ["Name a user", isNamed ? name : "The person whose voice it is.", isNamed, create],
    ["Add their texts", hasTexts ? count(voice.n_history, "text") : "Exports of chats and mails, notes, posts: as they were downloaded.", hasTexts, isNamed ? go("Add texts", "texts") : null],
    ["Train", "On this machine. Small models take minutes.", false, hasTexts && session.me.may_train ? go("Go to training", "training") : null],
  ];
  const current = all.findIndex(([, , isDone]) => !isDone);
  return element("ol", { class: "plain steps" }, ...all.map(([title, text, isDone, action], place) => {
    const mark = element("span", { class: "step-mark", "aria-hidden": "true" }, isDone ? icon("check") : String(place + 1));
    const words = element("div", {}, element("strong", { text: title }), isDone ? element("span", { class: "hidden-text", text: " (done)" }) : null, element("p", { class: "faint", text }));
    return element("li", { class: isDone ? "done" : place === current ? "current" : "" }, mark, words, place === current ? action : null);
  }));
}
