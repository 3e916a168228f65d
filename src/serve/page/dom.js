// Elements, icons, notices and dialogs.

export const $ = (id) => document.getElementById(id);

/**
 * Makes an element. `on` holds event listeners, `class`, `text` and `data` are its class, text and data attributes, and other
 * attributes are set as they are named, except those that are false or null.
 */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key === "text") made.textContent = value;
    else if (key === "data") Object.assign(made.dataset, value);
    else if (key === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (key === "value") made.value = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element of an SVG picture. */
export function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

export function icon(name) {
  const picture = drawn("svg", { "aria-hidden": "true" });
  picture.append(drawn("use", { href: `#i-${name}` }));
  return picture;
}

/** A button with an icon, whose label is read out and shown as a hint. */
export function iconButton(name, label, action, attributes = {}) {
  const on = { click: guarded(action) };
  return element("button", { type: "button", class: "icon small", "aria-label": label, title: label, on, ...attributes }, icon(name));
}

export function button(text, action, attributes = {}) {
  return element("button", { type: "button", text, on: { click: guarded(action) }, ...attributes });
}

/** Shows a notice for some seconds: `kind` is `wrong` for errors. */
export function notice(text, kind = "") {
  const shown = element("div", { class: `notice ${kind}`, role: kind === "wrong" ? "alert" : null }, element("span", { text }));
  const close = () => shown.remove();
  shown.append(iconButton("close", "Close the notice", close));
  $("notices").append(shown);
  setTimeout(close, kind === "wrong" ? 12_000 : 5_000);
}

/** Wraps an action of a listener, so that its error is shown. */
export const guarded = (action) => async (...args) => {
  try {
    return await action(...args);
  } catch (error) {
    // The line about a server that has gone is shown by whoever asked it.
    if (error.name !== "AbortError" && error.name !== "ServerGone") notice(error.message, "wrong");
    return undefined;
  }
};

/** Asks for consent, or with `value` for a text. Returns whether the person agrees, or the text; null where they do not. */
export function askFor({ title, text = "", action, value }) {
  const dialog = $("ask-dialog");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-text").hidden = text === "";
  $("ask-yes").textContent = action;
  $("ask-label").hidden = value === undefined;
  $("ask-input").value = value ?? "";
  dialog.returnValue = "no";
  dialog.showModal();
  $(value === undefined ? "ask-yes" : "ask-input").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const isYes = dialog.returnValue === "yes";
      resolve(value === undefined ? isYes : isYes ? $("ask-input").value.trim() : null);
    }, { once: true });
  });
}

/** Moves the focus among `items` by the arrow keys, Home and End. Returns whether the key was one of these. */
export function moveAmong(items, event, { back = "ArrowUp", on = "ArrowDown" } = {}) {
  const place = items.indexOf(document.activeElement);
  const next = { [back]: place - 1, [on]: place + 1, Home: 0, End: items.length - 1 }[event.key];
  if (next === undefined || items.length === 0) return false;
  event.preventDefault();
  items[(next + items.length) % items.length].focus();
  return true;
}

/** Copies a text, also where the browser refuses the page its clipboard, as it does over plain HTTP. */
export async function copy(text) {
  const isCopied = await navigator.clipboard?.writeText(text).then(() => true, () => false);
  if (!isCopied) {
    const place = element("textarea", { value: text, class: "hidden-text" });
    document.body.append(place);
    place.select();
    document.execCommand("copy");
    place.remove();
  }
  notice("Copied");
}

export function bytes(n) {
  const units = ["bytes", "kB", "MB", "GB"];
  const step = Math.min(Math.floor(Math.log10(Math.max(n, 1)) / 3), 3);
  const value = n / 1000 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toPrecision(2)} ${units[step]}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const count = (n, one, several = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : several}`;
