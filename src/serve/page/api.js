// Requests to the server. A server that has gone is a `ServerGone`, and every other failure an `Error` with its message.

import { $ } from "./dom.js";

export class ServerGone extends Error {
  name = "ServerGone";
}

class Refused extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Milliseconds between two looks at whether the server is back. */
const LOOK = 3000;

export function authorization() {
  const key = sessionStorage.getItem("key");
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Sends a request. A server that needs a key is asked again with the key that the person gives. */
export async function ask(path, { body, ...options } = {}) {
  const sent = { ...options, headers: authorization() };
  if (body !== undefined) {
    sent.body = JSON.stringify(body);
    sent.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, sent).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw gone();
  });
  setGone(false);
  if (response.status === 401) {
    await askForKey();
    return ask(path, { body, ...options });
  }
  if (!response.ok) throw refusal(response.status, await response.json().catch(() => null));
  return response;
}

export function refusal(status, body) {
  return new Refused(body?.error?.message ?? `The server answered ${status}.`, status, body?.error?.code);
}

export const get = async (path, options) => (await ask(path, options)).json();
export const post = async (path, body = {}, options = {}) => (await ask(path, { method: "POST", body, ...options })).json();
export const put = async (path, body) => (await ask(path, { method: "PUT", body })).json();
export const remove = async (path) => (await ask(path, { method: "DELETE" })).json();

export const pathOf = (user, ...parts) => ["/api/users", ...[user, ...parts].map(encodeURIComponent)].join("/");

/**
 * Asks for an answer and calls `tell(text, tokens, event)` with each part as it arrives. Returns the reason why it ended.
 */
export async function stream(body, signal, tell) {
  const response = await ask("/v1/chat/completions", { method: "POST", signal, body: { ...body, stream: true } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let finish = null;
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw gone();
    });
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      if (!choice) continue;
      finish = choice.finish_reason ?? finish;
      tell(choice.delta?.content ?? "", choice.logprobs?.content ?? [], event);
    }
  }
  if (finish === null) throw gone();
  return finish;
}

let looking = 0;

function gone() {
  setGone(true);
  return new ServerGone("The server does not answer.");
}

/** Shows or hides the line that says that the server has gone. Whoever listens to `back` is told when it is there again. */
function setGone(isGone) {
  const wasGone = !$("gone").hidden;
  $("gone").hidden = !isGone;
  clearTimeout(looking);
  if (isGone) looking = setTimeout(lookForServer, LOOK);
  else if (wasGone) document.dispatchEvent(new Event("back"));
}

export async function lookForServer() {
  await ask("/api/me").catch(() => {});
}

let asking = null;

function askForKey() {
  const dialog = $("key-dialog");
  asking ??= new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      asking = null;
      sessionStorage.setItem("key", $("key").value.trim());
      $("key").value = "";
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
