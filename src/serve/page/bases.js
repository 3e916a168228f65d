// The choice of a base model: pulled ones and others, the terms of those that have some, and how far a pulling is.

import { get, post, remove } from "./api.js";
import { $, button, bytes, element } from "./dom.js";
import { isReady, refresh, session } from "./session.js";

/** Milliseconds between two looks at a base that is being pulled or loaded. */
const LOOK = 700;

let looking = 0;

export async function showBases() {
  clearTimeout(looking);
  const { base, is_admin } = session.me;
  const isBusy = base.state === "pulling" || base.state === "loading";
  $("base-failed").hidden = base.state !== "failed";
  $("base-failed").textContent = base.message ?? "";
  $("base-title").textContent = isBusy ? "The base model is on its way" : "Choose a base model";
  if (is_admin) await showAsAdmin(isBusy);
  else showAsUser(isBusy);
  if (!isReady()) looking = setTimeout(look, isBusy ? LOOK : 5 * LOOK);
}

async function look() {
  const before = session.me.base.state;
  // A server that has gone says so, and is looked for again.
  await refresh().catch(() => {});
  const isShown = !$("view-base").hidden;
  if (!isShown) return;
  const { state } = session.me.base;
  if (state !== before || state === "pulling" || state === "loading") await showBases().catch(() => { looking = setTimeout(look, LOOK); });
  else looking = setTimeout(look, 5 * LOOK);
}

function showAsUser(isBusy) {
  $("base-lead").textContent = isBusy ? "The server loads its base model. The page goes on by itself." : "The administrator of this server has not chosen a base model yet. The page goes on by itself once there is one.";
  $("base-work").hidden = true;
  $("bases").replaceChildren();
}

async function showAsAdmin(isBusy) {
  const { bases, pulling } = await get("/api/bases");
  const { base } = session.me;
  $("base-lead").textContent = isBusy
    ? "You can go on to add texts meanwhile."
    : "Every voice is a small adapter on top of a base model. A small base answers and trains quickly; a large one knows more.";
  showWork(base, pulling);
  if (isBusy) $("bases").replaceChildren();
  else if (!$("bases").hasChildNodes() || $("bases").dataset.state !== base.state) $("bases").replaceChildren(...bases.map(card));
  $("bases").dataset.state = base.state;
}

function showWork(base, pulling) {
  const place = $("base-work");
  const kind = pulling ? "pulling" : base.state === "loading" ? "loading" : "";
  place.hidden = kind === "";
  if (kind === "") return;
  if (place.dataset.kind !== kind) {
    place.dataset.kind = kind;
    const bar = element("progress", { max: 1, "aria-label": "Downloaded" });
    const stop = pulling ? button("Stop", async () => { await remove(`/api/bases/${encodeURIComponent(pulling.name)}`); await look(); }) : null;
    place.replaceChildren(element("div", { class: "spread" }, element("strong", {}), stop), bar, element("p", { class: "faint" }));
  }
  const [title, bar, text] = [place.querySelector("strong"), place.querySelector("progress"), place.querySelector("p")];
  title.textContent = pulling ? `Downloading ${pulling.name}` : `Loading ${base.name ?? "the base"}`;
  if (pulling) {
    bar.value = pulling.bytes ? pulling.done_bytes / pulling.bytes : 0;
    text.textContent = `${bytes(pulling.done_bytes)} of ${bytes(pulling.bytes)}`;
  } else {
    bar.removeAttribute("value");
    text.textContent = "This takes a few seconds.";
  }
}

function card({ name, title, bytes: size, licence, consent, is_pulled }) {
  const agree = consent && !is_pulled ? element("input", { type: "checkbox", id: `agree-${name}` }) : null;
  const use = button(is_pulled ? "Use it" : `Download and use`, async () => {
    await post(`/api/bases/${encodeURIComponent(name)}`, { agree: agree?.checked ?? true });
    await refresh();
    await showBases();
  }, { class: "primary", disabled: Boolean(agree), "aria-label": `${is_pulled ? "Use" : "Download and use"} ${title}` });
  agree?.addEventListener("change", () => { use.disabled = !agree.checked; });
  const facts = [bytes(size), licence, is_pulled ? "on this machine" : null].filter(Boolean).join(" · ");
  const terms = agree ? element("label", { class: "check" }, agree, element("span", { text: `I agree: ${consent}.` })) : null;
  return element("li", { class: "card base", data: { name } },
    element("div", {}, element("h2", { text: title }), element("p", { class: "faint", text: facts }), terms), use);
}
