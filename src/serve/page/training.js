// A user's training: its stages, the time left, the losses, and how much likelier their texts have become.

import { get, pathOf, post, remove } from "./api.js";
import { drawCurve } from "./curve.js";
import { $, button, count, duration, element, guarded, icon } from "./dom.js";
import { addressOf, isUser, refresh, session, user } from "./session.js";

/** Milliseconds between two looks at a training that is shown, and at one that is not. */
const LOOK = 1000;
const GLANCE = 4000;

/** The stages in words. */
const STAGES = {
  sft: ["Learn the texts", "learns to write like them"],
  mine: ["Find pairs", "writes answers of its own to compare"],
  dpo: ["Learn the preference", "learns to prefer your texts to those"],
  calibrate: ["Choose the strength", "tries settings on texts that it has not learnt"],
};

/** The number of texts below which a voice is hardly recognisable. */
const FEW = 20;

let looking = 0;
let built = null;

/** Title and losses of each figure. */
const curves = new WeakMap();
const resized = new ResizeObserver((entries) => { for (const { target } of entries) drawCurve(target, ...curves.get(target)); });

const path = () => pathOf(session.voice, "training");

/** Shows the training of the voice. */
export async function showTraining() {
  clearTimeout(looking);
  if (!isUser() || !session.me.may_train) {
    built = null;
    const text = isUser() ? "This program was built without training. The voice can be trained by another build, on the command line." : "The base model is not trained. Choose a user in the sidebar, or create one.";
    $("view-training").replaceChildren(element("h1", { text: "Training" }), element("p", { class: "lead", text }));
    $("training-badge").hidden = true;
    return;
  }
  await look();
}

/** Looks at the training of the voice now and while it runs. */
export async function look() {
  clearTimeout(looking);
  $("training-badge").hidden = true;
  if (!isUser() || !session.me.may_train) return;
  const name = session.voice;
  const wasRunning = built?.dataset.state === "running" && built.dataset.user === name;
  const status = await get(path()).catch((error) => {
    looking = setTimeout(guarded(look), GLANCE);
    throw error;
  });
  if (name !== session.voice) return;
  show(status);
  if (wasRunning && status.state !== "running") {
    await refresh();
    if (name === session.voice) show(status);
  }
  if (status.state === "running") looking = setTimeout(guarded(look), session.view === "training" ? LOOK : GLANCE);
}

function build() {
  const part = (id, name = "div", attributes = {}) => element(name, { id, ...attributes });
  built = element("div", { class: "training", data: { user: session.voice } },
    element("h1", { text: `Train ${session.voice}` }),
    part("training-lead", "p", { class: "lead" }),
    element("div", { class: "card" },
      element("div", { class: "spread" }, part("training-state", "p", { role: "status" }), part("training-buttons", "div", { class: "buttons" })),
      part("training-progress", "progress", { max: 1, value: 0, "aria-label": "Progress of the stage" }),
      part("stages", "ol", { class: "plain stages" })),
    part("training-gain", "p", { class: "note right" }),
    part("losses", "div", { class: "curves" }));
  const start = button("Train", async () => { show(await post(path())); await look(); }, { id: "train", class: "primary" });
  const stop = button("Stop", async () => {
    stop.disabled = true;
    $("training-state").textContent = "Stopping";
    show(await remove(path()));
    await look();
  }, { id: "stop-training" });
  $("view-training").replaceChildren(built);
  $("training-buttons").append(start, stop);
}

function show(status) {
  if (built?.dataset.user !== session.voice || !built.isConnected) build();
  const before = built.dataset.state;
  built.dataset.state = status.state;
  const isRunning = status.state === "running";
  showLead(isRunning);
  $("training-state").textContent = stateText(status);
  $("training-state").classList.toggle("wrong-text", status.state === "failed");
  const bar = $("training-progress");
  bar.hidden = !isRunning;
  if (status.total > 0) bar.value = status.done / status.total;
  else bar.removeAttribute("value");
  showButtons(status, before);
  $("stages").replaceChildren(...status.stages.map(stage));
  $("training-gain").hidden = !status.gain;
  $("training-gain").textContent = status.gain ?? "";
  showLosses(status.losses);
  $("training-badge").hidden = !isRunning;
  // The share of the stages, as if each took as long as the others.
  const nDone = status.stages.filter(({ state }) => state === "done").length + (status.total > 0 ? status.done / status.total : 0);
  $("training-badge").textContent = `${Math.floor((nDone / status.stages.length) * 100)} %`;
}

function showButtons({ state }, before) {
  const isRunning = state === "running";
  const [train, stop] = [$("train"), $("stop-training")];
  const hadFocus = document.activeElement === train || document.activeElement === stop;
  train.hidden = isRunning;
  train.disabled = user()?.n_history === 0 || session.me.base.state !== "ready";
  train.textContent = state === "stopped" ? "Go on" : user()?.is_trained ? "Train again" : "Train";
  stop.hidden = !isRunning;
  if (!isRunning || before !== "running") stop.disabled = false;
  if (hadFocus) (isRunning ? stop : train).focus();
}

function showLead(isRunning) {
  const n = user()?.n_history ?? 0;
  const lead = $("training-lead");
  if (n === 0) {
    lead.replaceChildren("There are no texts to train on yet. ", element("a", { href: addressOf(session.voice, "texts"), text: "Add some" }), ".");
    return;
  }
  const few = n < FEW && !isRunning ? " That is little: a few dozen make a voice that can be recognised." : "";
  lead.textContent = `${count(n, "text")} to learn from, on this machine. You can go on chatting meanwhile, and stop at any time: what is done is kept.${few}`;
}

function stateText({ state, stage, done, total, seconds_left, stage_seconds_left, message }) {
  if (state === "running") {
    const [title] = STAGES[stage] ?? ["Getting ready"];
    const steps = total > 0 ? `, step ${done} of ${total}` : "";
    const left = seconds_left !== null ? `, about ${duration(seconds_left)} left` : stage_seconds_left !== null ? `, about ${duration(stage_seconds_left)} left in this stage` : "";
    return `${title}${steps}${left}`;
  }
  return {
    none: user()?.is_trained ? "This voice is trained." : "This voice is not trained yet.",
    ended: "Done. The next answer comes in the new voice.",
    stopped: "Stopped. “Go on” takes it up where it was.",
    failed: message ?? "The training failed.",
  }[state];
}

function stage({ name, state }, place) {
  const [title, text] = STAGES[name];
  const mark = element("span", { class: "step-mark", "aria-hidden": "true" }, state === "done" ? icon("check") : String(place + 1));
  const words = { done: "done", running: "running", waiting: "waiting" }[state];
  return element("li", { class: state, data: { stage: name } }, mark, element("div", {}, element("strong", { text: title }), element("span", { class: "hidden-text", text: ` (${words})` }), element("p", { class: "faint", text })));
}

function showLosses(losses) {
  const shown = Object.entries(losses ?? {}).filter(([, values]) => values.length > 0);
  const place = $("losses");
  for (const figure of [...place.children]) if (!shown.some(([name]) => figure.dataset.stage === name)) figure.remove();
  for (const [name, values] of shown) {
    let figure = place.querySelector(`[data-stage="${name}"]`);
    if (!figure) {
      figure = element("figure", { class: "card", data: { stage: name } }, element("figcaption", {}));
      place.append(figure);
      resized.observe(figure);
    }
    curves.set(figure, [STAGES[name]?.[0] ?? name, values]);
    // It is drawn again where it has another width.
    drawCurve(figure, ...curves.get(figure));
  }
}
