// The page of cope-llama: choosing a base, a user's texts, training, guessing, and chats. It talks only to the server that it
// came from. This module has what is around the views: voices, tabs, the sidebar, and keys.

import { lookForServer, post } from "./api.js";
import { showBases } from "./bases.js";
import { isRunning, showChat, startChat, stopAnswer } from "./chat.js";
import { markConversation, showConversations } from "./conversations.js";
import { $, guarded } from "./dom.js";
import { leaveGuess, showGuess } from "./guessing.js";
import { showTexts } from "./items.js";
import { VIEWS, go, isReady, readAddress, refresh, session, user } from "./session.js";
import { toggleSettings } from "./settings.js";
import { look, showTraining } from "./training.js";

const SHOW = { chat: showChat, texts: showTexts, training: showTraining, guess: showGuess };

let shownVoice = null;

// --- views -------------------------------------------------------------------------------------------------------------

/** Shows what the address names. Without a base, only the texts can be worked on. */
async function showAddress() {
  readAddress();
  leaveGuess();
  const { view, voice } = session;
  const isOfBase = !isReady() && view !== "texts";
  for (const name of VIEWS) {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
    $(`view-${name}`).hidden = isOfBase || name !== view;
  }
  $("view-base").hidden = !isOfBase;
  $("main").classList.toggle("chatting", view === "chat" && !isOfBase);
  document.title = `${voice} – cope-llama`;
  closeDrawer();
  showVoices();
  if (shownVoice !== voice) {
    shownVoice = voice;
    guarded(showConversations)();
    if (view !== "training") guarded(look)();
  }
  await (isOfBase ? showBases() : SHOW[view]());
}

function showVoices() {
  const { me, voice } = session;
  const options = [...me.voices.map(({ name, is_trained }) => [name, is_trained ? name : `${name} (not trained)`]), ["base", "Base model"]];
  const wanted = JSON.stringify(options);
  if ($("voice").dataset.shown !== wanted) {
    $("voice").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    $("voice").dataset.shown = wanted;
  }
  $("voice").value = voice;
  $("new-user").hidden = !me.is_admin;
  const { base } = me;
  const states = { none: "No base model yet", pulling: "Downloading the base", loading: "Loading the base", failed: "The base failed", ready: `Base: ${base.name}` };
  $("base-note").textContent = states[base.state];
  const texts = user();
  $("voice-note").textContent = texts ? `${texts.n_history.toLocaleString("en")} texts, ${texts.n_held_out.toLocaleString("en")} held out` : "Answers in nobody's voice";
}

// --- the sidebar -------------------------------------------------------------------------------------------------------

const narrow = matchMedia("(max-width: 52rem)");

function setSidebar(isOpen) {
  const { body } = document;
  body.classList.toggle("folded", !isOpen);
  $("sidebar").inert = !isOpen;
  $("content").inert = isOpen && narrow.matches;
  $("backdrop").hidden = !(isOpen && narrow.matches);
  $("open-sidebar").setAttribute("aria-expanded", String(isOpen));
}

const isOpen = () => !document.body.classList.contains("folded");

function closeDrawer() {
  if (narrow.matches && isOpen()) setSidebar(false);
}

narrow.addEventListener("change", () => setSidebar(!narrow.matches));
setSidebar(!narrow.matches);
$("open-sidebar").addEventListener("click", () => {
  setSidebar(!isOpen());
  if (isOpen()) $("voice").focus();
});
for (const id of ["close-sidebar", "backdrop"]) {
  $(id).addEventListener("click", () => { setSidebar(false); $("open-sidebar").focus(); });
}

// --- users -------------------------------------------------------------------------------------------------------------

$("voice").addEventListener("change", () => go($("voice").value, session.view));
$("new-user").addEventListener("click", () => {
  $("user-name").value = "";
  $("user-wrong").hidden = true;
  $("user-dialog").showModal();
});
$("user-cancel").addEventListener("click", () => $("user-dialog").close());
$("user-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { name } = await post("/api/users", { name: $("user-name").value.trim() });
    await refresh();
    $("user-dialog").close();
    go(name, "texts");
  } catch (error) {
    $("user-wrong").textContent = error.message;
    $("user-wrong").hidden = false;
  }
});
$("new-chat").addEventListener("click", () => {
  session.chat = null;
  startChat();
  if (lastChat) lastChat.chat = null;
  go(session.voice);
  markConversation();
  closeDrawer();
  $("text").focus();
});

// --- tabs and keys -----------------------------------------------------------------------------------------------------

for (const name of VIEWS) {
  const tab = $(`tab-${name}`);
  tab.addEventListener("click", () => go(session.voice, name, name === "chat" && lastChat?.voice === session.voice ? lastChat.chat : null));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const ends = { Home: VIEWS[0], End: VIEWS.at(-1) }[event.key];
    if (!step && !ends) return;
    event.preventDefault();
    const next = ends ?? VIEWS[(VIEWS.indexOf(name) + step + VIEWS.length) % VIEWS.length];
    $(`tab-${next}`).focus();
    $(`tab-${next}`).click();
  });
}
/** The chat that was open last, to which the tab goes back. */
let lastChat = null;
$("ask-no").addEventListener("click", () => $("ask-dialog").close("no"));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (narrow.matches && isOpen()) {
    setSidebar(false);
    $("open-sidebar").focus();
  } else if (isRunning()) {
    stopAnswer();
  } else if (!$("settings").hidden) {
    toggleSettings(false);
  }
});
$("gone-retry").addEventListener("click", guarded(lookForServer));

// --- beginning ---------------------------------------------------------------------------------------------------------

let wasReady = false;
document.addEventListener("me", () => {
  const isNowReady = isReady();
  if (isNowReady && !wasReady && shownVoice !== null) guarded(showAddress)();
  wasReady = isNowReady;
  if (shownVoice !== null) showVoices();
});
document.addEventListener("back", guarded(async () => {
  await refresh();
  if (shownVoice === null || session.view !== "chat") await showAddress();
}));
document.addEventListener("dropped", () => go(session.voice, "texts"));
addEventListener("hashchange", guarded(async () => {
  if (session.view === "chat") lastChat = { voice: session.voice, chat: session.chat };
  await showAddress();
}));

guarded(async () => {
  await refresh();
  await showAddress();
  if (session.view === "chat" && isReady()) $("text").focus();
})();
