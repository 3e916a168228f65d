// The page of cope-llama: a streaming chat, the answers of the three arms side by side, tokens coloured by user model
// against base, feedback, history and training. It talks only to the server that it came from.

const $ = (id) => document.getElementById(id);

/** The interval between two looks at a training, in milliseconds. */
const LOOK = 1000;
/** The number of history items that are loaded at a time. */
const PAGE = 50;

let messages = [];
/** The number of answers that the last message has had. */
let nAnswers = 0;
/** The place of the last answer. */
let lastItem = null;
let me = null;
let running = null;

// --- the server ------------------------------------------------------------------------------------------------------

function headers() {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: headers() });
  if (response.status === 401) {
    await askForKey();
    return ask(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Error(body?.error?.message ?? `the server answered ${response.status}`);
  }
  return response;
}

const get = async (path) => (await ask(path)).json();
const post = (path, body) => ask(path, { method: "POST", body: JSON.stringify(body) });

function askForKey() {
  const dialog = $("key-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("key", $("key").value.trim());
      $("key").value = "";
      resolve();
    }, { once: true });
  });
}

let errorTimer = 0;
function showError(error) {
  if (error.name === "AbortError") return;
  const place = $("error");
  place.textContent = error.message;
  place.hidden = false;
  clearTimeout(errorTimer);
  errorTimer = setTimeout(() => { place.hidden = true; }, 8000);
}

const guarded = (action) => (...args) => Promise.resolve(action(...args)).catch(showError);

/**
 * Asks for an answer and calls `tell(text, tokens, draw)` with each part as it arrives; `draw` has the temperature and the
 * seed of the answer. An error event ends it.
 */
async function stream(body, signal, tell) {
  const response = await ask("/v1/chat/completions", {
    method: "POST",
    signal,
    body: JSON.stringify({ ...body, stream: true, logprobs: true }),
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      if (choice) tell(choice.delta?.content ?? "", choice.logprobs?.content ?? [], event);
    }
  }
}

// --- the chat --------------------------------------------------------------------------------------------------------

const voice = () => $("voice").value;
const isUser = () => voice() !== "base";

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bubble(who, className) {
  const item = element("li", className);
  item.append(element("p", "who", who));
  const said = element("div", "said");
  item.append(said);
  $("chat").append(item);
  return [item, said];
}

/**
 * Adds a part of an answer. A token is orange if the user model finds it likelier than the base does, blue if less likely,
 * and the stronger the larger the ratio. A token that the contrast chose over the user model's own choice is underlined.
 */
function addPart(place, text, tokens) {
  if (!$("tint").checked || tokens.length === 0) {
    place.append(text);
    return;
  }
  const part = element("span", "token", text);
  const shown = tokens.map(({ token, p_user, p_base, changed }) => {
    const base = p_base === null ? "" : `, base ${percent(p_base)}`;
    return `${JSON.stringify(token)}: user ${percent(p_user)}${base}${changed ? ", another than its likeliest" : ""}`;
  });
  part.title = shown.join("\n");
  const last = tokens.at(-1);
  if (last.p_base !== null) {
    const moved = Math.log(last.p_user / last.p_base);
    const strength = Math.min(Math.abs(moved) / 6, 1) * 0.45;
    part.style.backgroundColor = `rgb(from rgb(${moved > 0 ? "214 120 0" : "20 110 190"}) r g b / ${strength.toFixed(3)})`;
    part.dataset.moved = moved.toFixed(2);
  }
  if (tokens.some(({ changed }) => changed)) part.style.textDecoration = "underline dotted";
  place.append(part);
}

const percent = (p) => `${(p * 100).toPrecision(3)} %`;

function body(arm, before) {
  const asked = { model: voice(), messages: before };
  for (const setting of ["temperature", "seed"]) {
    if ($(setting).value !== "") asked[setting] = $(setting).valueAsNumber;
  }
  if (isUser()) {
    asked.arm = arm;
    if (arm === "cope") asked.contrast = Number($("contrast").value);
  }
  return asked;
}

function setRunning(controller) {
  running = controller;
  $("stop").hidden = !controller;
  for (const name of ["send", "regenerate", "compare"]) $(name).disabled = Boolean(controller);
}

async function say() {
  const text = $("text").value.trim();
  if (!text || running) return;
  $("text").value = "";
  bubble("you", "user")[1].textContent = text;
  messages.push({ role: "user", content: text });
  nAnswers = 0;
  await answer();
}

/** Draws another answer to the last message. Which settings that takes is the server's rule. */
async function regenerate() {
  if (running) return;
  const last = messages.at(-1);
  if (!last) throw new Error("Write a message first.");
  if (last.role === "assistant") messages.pop();
  try {
    await answer();
  } finally {
    if (last.role === "assistant" && messages.at(-1)?.role === "user") messages.push(last);
  }
}

/** Answers the messages so far, and adds the answer to them. */
async function answer() {
  const chat = messages;
  const before = [...chat];
  const [item, said] = bubble(voice(), "answer");
  const draw = element("p", "who draw");
  draw.title = "With these settings, the same messages get this answer again";
  item.append(draw);
  const controller = new AbortController();
  setRunning(controller);
  let text = "";
  try {
    const asked = { ...body("cope", before), regenerate: nAnswers };
    await stream(asked, controller.signal, (more, tokens, { temperature, seed }) => {
      text += more;
      addPart(said, more, tokens);
      draw.textContent = temperature > 0 ? `temperature ${temperature}, seed ${seed}` : "temperature 0";
    });
  } finally {
    setRunning(null);
    if (text && chat === messages) {
      messages.push({ role: "assistant", content: text });
      if (isUser()) item.append(verdicts(voice(), before, text, said));
      if (nAnswers > 0) lastItem?.classList.add("former");
      nAnswers += 1;
      lastItem = item;
    } else {
      item.remove();
    }
    $("text").focus();
  }
}

/** The buttons for feedback on an answer: good, bad and edit. */
function verdicts(user, prompt, answer, said) {
  const row = element("div", "buttons verdicts");
  const path = `/api/users/${encodeURIComponent(user)}/feedback`;
  const good = element("button", "", "Good");
  const bad = element("button", "", "Bad");
  const edit = element("button", "", "Edit");
  const judge = (verdict, pressed, other) => guarded(async () => {
    await post(path, { prompt, response: answer, verdict });
    pressed.setAttribute("aria-pressed", "true");
    other.setAttribute("aria-pressed", "false");
  });
  good.addEventListener("click", judge("good", good, bad));
  bad.addEventListener("click", judge("bad", bad, good));
  edit.addEventListener("click", () => {
    const text = element("textarea");
    text.value = answer;
    text.rows = Math.min(12, answer.length / 60 + 2);
    text.setAttribute("aria-label", "The answer as it should have been");
    const keep = element("button", "", "Keep");
    const drop = element("button", "", "Cancel");
    const editor = element("div");
    const buttons = element("div", "buttons");
    buttons.append(keep, drop);
    editor.append(text, buttons);
    row.hidden = true;
    row.before(editor);
    text.focus();
    drop.addEventListener("click", () => { editor.remove(); row.hidden = false; });
    keep.addEventListener("click", guarded(async () => {
      await post(path, { prompt, response: answer, edited: text.value });
      const turn = messages[prompt.length];
      if (turn?.content === answer) turn.content = text.value;
      answer = text.value;
      said.textContent = answer;
      editor.remove();
      row.hidden = false;
      edit.setAttribute("aria-pressed", "true");
    }));
  });
  row.append(good, bad, edit);
  return row;
}

/** Shows the answers of the three arms to the last message. */
async function compare() {
  const last = messages.findLastIndex(({ role }) => role === "user");
  if (last < 0) throw new Error("Write a message first.");
  if (!isUser()) throw new Error("The base has only one arm: choose a user.");
  const before = messages.slice(0, last + 1);
  const [item, said] = bubble(`${voice()}: base, user model and CoPe`, "answer");
  said.remove();
  const arms = element("div", "arms");
  item.append(arms);
  const controller = new AbortController();
  setRunning(controller);
  try {
    await Promise.all([["base", "Base"], ["user", "User model"], ["cope", "CoPe"]].map(([arm, title]) => {
      const column = element("div");
      const place = element("div", "said");
      column.dataset.arm = arm;
      column.append(element("p", "who", title), place);
      arms.append(column);
      return stream(body(arm, before), controller.signal, (more, tokens) => addPart(place, more, tokens));
    }));
  } finally {
    setRunning(null);
  }
}

function clear() {
  running?.abort();
  messages = [];
  nAnswers = 0;
  $("chat").replaceChildren();
}

// --- history and training --------------------------------------------------------------------------------------------

async function showHistory(from = 0) {
  const list = $("history");
  if (from === 0) list.replaceChildren();
  if (!isUser()) {
    $("history-count").textContent = "The base has no history: choose a user.";
    $("more").hidden = true;
    return;
  }
  const path = `/api/users/${encodeURIComponent(voice())}/history?from=${from}&n=${PAGE}`;
  const { items, total, held_out, pairs } = await get(path);
  $("history-count").textContent = `${total} items to train on, ${held_out} held out; ${pairs} pairs of answers from feedback.`;
  for (const { prompt, response } of items) {
    const item = element("li");
    item.append(element("p", "who", prompt.at(-1).content), element("div", "said", response));
    list.append(item);
  }
  $("more").hidden = from + items.length >= total;
  $("more").onclick = guarded(() => showHistory(from + items.length));
}

let looking = 0;
async function showTraining() {
  clearTimeout(looking);
  if (!isUser()) {
    $("training-state").textContent = "The base cannot be trained: choose a user.";
    $("train").hidden = true;
    return;
  }
  const path = `/api/users/${encodeURIComponent(voice())}/training`;
  const { state, stage, done, total, seconds_left, losses, message } = await get(path);
  const isAtWork = state === "running";
  const left = seconds_left === null ? "" : `, ${Math.ceil(seconds_left)} s left`;
  $("training-state").textContent = {
    none: "No training is running for this user.",
    running: `${stage}: ${done} of ${total}${left}`,
    ended: "The training has ended: the next answer uses the new adapter.",
    stopped: "The training is stopped; Train resumes it.",
    failed: message ?? "The training failed.",
  }[state];
  $("training-progress").hidden = !isAtWork;
  $("training-progress").value = total ? done / total : 0;
  $("train").hidden = isAtWork;
  $("stop-training").hidden = !isAtWork;
  drawLoss(losses);
  if (isAtWork && !$("view-training").hidden) looking = setTimeout(guarded(showTraining), LOOK);
}

/** Draws the loss of each step, one curve for each stage of `losses`. */
function drawLoss(losses) {
  const picture = $("loss");
  const stages = Object.entries(losses).filter(([, values]) => values.length > 1);
  picture.hidden = stages.length === 0;
  picture.replaceChildren();
  const width = 600 / Math.max(stages.length, 1);
  stages.forEach(([stage, values], number) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const x = (step) => number * width + 10 + (step / (values.length - 1)) * (width - 20);
    const y = (value) => 180 - ((value - low) / (high - low || 1)) * 150;
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", values.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" "));
    const title = document.createElementNS("http://www.w3.org/2000/svg", "text");
    title.setAttribute("x", String(number * width + 10));
    title.setAttribute("y", "18");
    title.textContent = `${stage}: ${values[0].toFixed(3)} → ${values.at(-1).toFixed(3)}`;
    picture.append(line, title);
  });
}

// --- views and events ------------------------------------------------------------------------------------------------

const VIEWS = { chat: () => {}, history: () => showHistory(), training: showTraining };

function show(view) {
  for (const name of Object.keys(VIEWS)) {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === view));
    tab.tabIndex = name === view ? 0 : -1;
    $(`view-${name}`).hidden = name !== view;
  }
  return VIEWS[view]();
}

function shown() {
  return Object.keys(VIEWS).find((name) => !$(`view-${name}`).hidden);
}

async function begin() {
  me = await get("/api/me");
  const voices = ["base", ...me.voices.map(({ name }) => name)];
  $("voice").replaceChildren(...voices.map((name) => new Option(name, name)));
  $("voice").value = me.voices[0]?.name ?? "base";
  voiceChanged();
}

function voiceChanged() {
  const user = me.voices.find(({ name }) => name === voice());
  $("contrast-label").hidden = !user;
  $("contrast").value = user?.contrast ?? 0;
  $("contrast-value").value = $("contrast").value;
  clear();
  return show(shown());
}

for (const name of Object.keys(VIEWS)) {
  const tab = $(`tab-${name}`);
  tab.addEventListener("click", guarded(() => show(name)));
  tab.addEventListener("keydown", guarded((event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return undefined;
    const names = Object.keys(VIEWS);
    const next = names[(names.indexOf(name) + step + names.length) % names.length];
    $(`tab-${next}`).focus();
    return show(next);
  }));
}
$("voice").addEventListener("change", guarded(voiceChanged));
$("contrast").addEventListener("input", () => { $("contrast-value").value = $("contrast").value; });
$("say").addEventListener("submit", guarded((event) => { event.preventDefault(); return say(); }));
$("text").addEventListener("keydown", guarded((event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return undefined;
  event.preventDefault();
  return say();
}));
$("stop").addEventListener("click", () => running?.abort());
$("regenerate").addEventListener("click", guarded(regenerate));
$("compare").addEventListener("click", guarded(compare));
$("clear").addEventListener("click", clear);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("train").addEventListener("click", guarded(async () => {
  await post(`/api/users/${encodeURIComponent(voice())}/training`, {});
  await showTraining();
}));
$("stop-training").addEventListener("click", guarded(async () => {
  await ask(`/api/users/${encodeURIComponent(voice())}/training`, { method: "DELETE" });
  await showTraining();
}));
guarded(begin)();
