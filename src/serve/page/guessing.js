// “Which one is you?”: a held-out text beside the voice's answer to the same prompt, in random order.

import { get, pathOf, post } from "./api.js";
import { $, button, count, element, guarded, moveAmong } from "./dom.js";
import { addressOf, isUser, session, user } from "./session.js";

let writing = null;

/** Stops the voice's answer when the view is left. */
export const leaveGuess = () => writing?.abort();

export async function showGuess() {
  writing?.abort();
  const name = session.voice;
  const head = [element("h1", { text: "Which one is you?" })];
  if (!isUser()) return empty(head, "The game needs a voice. Choose a user in the sidebar, or create one.");
  if (!user().is_trained) return empty(head, `${name} has no voice yet: train it first.`, ["Go to training", "training"]);
  const state = await get(pathOf(name, "guesses"));
  if (name === session.voice && session.view === "guess") await round(name, head, state);
  return undefined;
}

function empty(head, text, [label, view] = []) {
  const link = label ? element("a", { class: "button primary", href: addressOf(session.voice, view), text: label }) : null;
  $("view-guess").replaceChildren(...head, element("div", { class: "empty" }, element("p", { text }), link));
}

async function round(name, head, { next, n_held_out, scores }) {
  const lead = element("p", { class: "lead", text: "One of the two texts was written by you and never learnt, the other by your voice. If you cannot tell them apart, the voice is good." });
  if (!next) {
    const text = n_held_out === 0
      ? "There are no held-out texts yet. Add a file on the page Texts and choose “Hold them out”: ten texts are enough to play."
      : `You have seen all ${n_held_out} held-out texts with this training. Add more, or train again and see whether it becomes harder.`;
    empty([...head, lead], text, ["Add texts", "texts"]);
    $("view-guess").append(board(scores));
    return;
  }
  const asked = element("blockquote", { class: "asked" }, element("p", { class: "faint", text: "The prompt" }), element("p", { class: "said", text: next.prompt.at(-1)?.content ?? "" }));
  const pair = element("div", { class: "pair", role: "group", "aria-label": "Two texts", tabindex: "-1" }, waiting(), waiting());
  const status = element("p", { class: "faint", role: "status", text: `${name} is writing an answer` });
  $("view-guess").replaceChildren(...head, lead, asked, status, pair, board(scores));
  writing = new AbortController();
  const answer = await ask(name, next, writing.signal).catch((error) => {
    if (error.name !== "AbortError") {
      status.textContent = error.message;
      status.after(button("Try again", showGuess));
    }
    throw error;
  });
  if (!pair.isConnected) return;
  status.textContent = "Choose the text that you wrote.";
  offer(name, head, { next, answer, pair, status });
}

const waiting = () => element("div", { class: "guess waiting", "aria-hidden": "true" });

async function ask(name, { prompt, text }, signal) {
  // About as long as the person's own text, so that the length alone does not tell.
  const max_tokens = Math.min(512, Math.max(48, Math.ceil(text.length / 3.2)));
  const { choices: [{ message, finish_reason }] } = await post("/v1/chat/completions", { model: name, messages: prompt, max_tokens }, { signal });
  return finish_reason === "length" ? toLastSentence(message.content) : message.content;
}

/** Cuts what comes after the last whole sentence, if there is one. */
function toLastSentence(text) {
  const whole = text.match(/^[\s\S]*[.!?…](?=\s|$)/u)?.[0] ?? "";
  return whole.length > text.length / 2 ? whole : text;
}

function offer(name, head, { next, answer, pair, status }) {
  const isFirst = Math.random() < 0.5;
  const texts = isFirst ? [next.text, answer] : [answer, next.text];
  const mine = isFirst ? 0 : 1;
  const cards = texts.map((text, place) => element("button", { type: "button", class: "guess", "aria-label": `Text ${place + 1}` },
    element("span", { class: "faint label", text: `Text ${place + 1}` }), element("span", { class: "said", text: text.trim() })));
  const choose = (place) => guarded(async () => {
    const is_right = place === mine;
    cards.forEach((card, number) => {
      card.disabled = true;
      card.classList.add(number === mine ? "mine" : "voice");
      if (number === place) card.classList.add("chosen");
      card.querySelector(".label").textContent = number === mine ? "You wrote this" : `${name}’s voice wrote this`;
    });
    status.textContent = is_right ? "Right: that one is you." : "That was the voice: it took you in.";
    status.className = `verdict ${is_right ? "right-text" : "voice-text"}`;
    const state = await post(pathOf(name, "guesses"), { id: next.id, answer, is_right });
    const on = button(state.next ? "Next" : "See the score", () => round(name, head, state), { class: "primary next" });
    pair.after(element("div", { class: "buttons end" }, on));
    $("view-guess").querySelector(".board").replaceWith(board(state.scores));
    on.focus();
  });
  cards.forEach((card, place) => card.addEventListener("click", choose(place)));
  pair.addEventListener("keydown", (event) => {
    if (event.key === "1" || event.key === "2") cards[Number(event.key) - 1].click();
    else if (!moveAmong(cards, event, { back: "ArrowLeft", on: "ArrowRight" })) moveAmong(cards, event);
  });
  pair.replaceChildren(...cards);
  pair.focus({ preventScroll: true });
}

/** The score of each training, oldest first. Half of the guesses are right by chance. */
function board(scores) {
  const place = element("section", { class: "board", "aria-label": "Scores" });
  if (scores.length === 0) return place;
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
  const rows = scores.map(({ adapter, date, n, right }, number) => {
    const share = n > 0 ? right / n : 0;
    const fill = element("span", { class: "fill" });
    fill.style.width = `${share * 100}%`;
    const bar = element("span", { class: "score", role: "img", "aria-label": `${Math.round(share * 100)} per cent right` }, fill);
    return element("li", {}, element("div", { class: "spread" },
      element("strong", { text: `Training ${number + 1}` }),
      element("span", { class: "faint", text: `${day.format(date * 1000)} · adapter ${adapter}` })), bar,
    element("p", { text: `You recognised yourself in ${right} of ${count(n, "guess", "guesses")}.` }));
  });
  place.append(element("h2", { text: "Scores" }), element("p", { class: "faint", text: "The line marks a half, which is chance: the closer to it, the better the voice." }), element("ol", { class: "plain stack" }, ...rows.reverse()));
  return place;
}
