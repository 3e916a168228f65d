// Files that are sent to a user's history: what an import of each would give is shown, and then taken or dropped.

import { authorization, get, pathOf, post, refusal, remove } from "./api.js";
import { $, button, bytes, count, element, guarded, notice } from "./dom.js";
import { isUser, refresh, session } from "./session.js";
import { optionFields, chooser } from "./upload_options.js";
import { summary } from "./upload_summary.js";

/** Milliseconds between two looks at a file that is being read. */
const LOOK = 700;

/** Sends files for the voice that is chosen, one after the other. */
async function addFiles(files) {
  if (!isUser()) throw new Error("Choose or create a user first: the texts belong to a person.");
  const name = session.voice;
  const cards = [...files].map((file) => ({ file, upload: new Upload(name, file) }));
  cards.forEach(({ upload }) => $("uploads").append(upload.card));
  for (const { upload } of cards) await upload.start();
}

/** The cards belong to one user, and go when another is chosen. */
export function forgetUploads(name) {
  for (const card of [...$("uploads").children]) if (card.dataset.user !== name) card.remove();
}

class Upload {
  #name;
  #file;
  #request = null;
  #path = null;
  #options = {};
  /** The option that had the focus before the file was read again. */
  #focused = null;
  #body = element("div", { class: "upload-body", role: "status" });

  constructor(name, file) {
    this.#name = name;
    this.#file = file;
    const head = element("div", { class: "spread" }, element("strong", { class: "file", text: file.name }), element("span", { class: "faint", text: bytes(file.size) }));
    this.card = element("li", { class: "card upload", data: { user: name } }, head, this.#body);
    this.#body.append(element("p", { class: "faint", text: "Waiting" }));
  }

  async start() {
    if (!this.card.isConnected) return;
    try {
      const { id } = await this.#send();
      this.#path = pathOf(this.#name, "uploads", id);
      await this.#look();
    } catch (error) {
      this.#fail(error.message);
    }
  }

  /** Sends the file. `fetch` does not tell how far it is. */
  #send() {
    const bar = element("progress", { max: 1, value: 0, "aria-label": "Sent" });
    this.#body.replaceChildren(element("p", { class: "faint", text: "Sending" }), bar, this.#buttons(button("Cancel", () => this.#drop())));
    const request = new XMLHttpRequest();
    this.#request = request;
    request.open("POST", `${pathOf(this.#name, "uploads")}?file=${encodeURIComponent(this.#file.name)}`);
    request.responseType = "json";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [key, value] of Object.entries(authorization())) request.setRequestHeader(key, value);
    request.upload.onprogress = ({ loaded, total }) => { bar.value = total ? loaded / total : 0; };
    return new Promise((resolve, reject) => {
      request.onload = () => (request.status < 300 ? resolve(request.response) : reject(refusal(request.status, request.response)));
      request.onerror = () => reject(new Error("The file could not be sent: the server does not answer, or the file cannot be read."));
      request.send(this.#file);
    });
  }

  #query() {
    const { author = [], columns, ...others } = this.#options;
    const fields = [...author.map((it) => ["author", it]), ...(columns ?? []).map((it) => ["columns", it])];
    for (const [name, value] of Object.entries(others)) if (value !== null && name !== "held_out") fields.push([name, String(value)]);
    if (this.#options.held_out) fields.push(["held_out", "true"]);
    return new URLSearchParams(fields).toString();
  }

  /** Asks what an import would give, until the file is read. */
  async #look() {
    for (let n = 0; this.card.isConnected; n += 1) {
      const read = await get(`${this.#path}?${this.#query()}`);
      if (read.state !== "reading") {
        this.#show(read);
        return;
      }
      if (n === 0) this.#body.replaceChildren(element("p", { class: "faint", text: "Reading" }), element("progress", { "aria-label": "Reading" }), this.#buttons(button("Cancel", () => this.#drop())));
      await new Promise((resolve) => { setTimeout(resolve, LOOK); });
    }
  }

  #change = async (options) => {
    this.#options = { ...this.#options, ...options };
    if (this.card.contains(document.activeElement)) this.#focused = document.activeElement.dataset.option ?? "";
    try {
      await this.#look();
    } catch (error) {
      this.#fail(error.message);
    }
  };

  #show(read) {
    if (read.state === "failed") {
      this.#fail(read.message);
    } else if (read.state === "needs") {
      this.#body.replaceChildren(chooser(read.needs, this.#change, button("Drop the file", () => this.#drop())));
    } else {
      const take = button(`Take ${count(read.new, "text")}`, () => this.#take(), { class: "primary take", disabled: read.new === 0 });
      const drop = button("Drop the file", () => this.#drop());
      this.#body.replaceChildren(summary(read), optionFields(read, this.#options, this.#change), this.#buttons(drop, take));
    }
    if (this.#focused !== null) (this.#body.querySelector(`[data-option="${this.#focused}"]`) ?? this.#body.querySelector("input, .primary"))?.focus();
    this.#focused = null;
  }

  async #take() {
    const taken = await post(this.#path, this.#options);
    const part = this.#options.held_out ? "held out" : "to train on";
    const known = taken.known > 0 ? `, ${count(taken.known, "text")} known before` : "";
    const hadFocus = this.card.contains(document.activeElement) || document.activeElement === document.body;
    this.card.classList.add("taken");
    this.#body.replaceChildren(element("p", { class: "right-text", text: `${count(taken.new, "new text")} ${part}${known}.` }));
    if (hadFocus) $("choose").focus({ preventScroll: true });
    document.dispatchEvent(new Event("texts"));
    await refresh();
  }

  async #drop() {
    this.#request?.abort();
    this.card.remove();
    $("choose").focus();
    if (this.#path) await remove(this.#path);
  }

  #fail(message) {
    this.#body.replaceChildren(element("p", { class: "wrong-text", role: "alert", text: message }), this.#buttons(button("Close", () => this.#drop().catch(() => {}))));
  }

  #buttons(...buttons) {
    return element("div", { class: "buttons end" }, ...buttons);
  }
}

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", guarded(async () => {
  const files = [...$("files").files];
  $("files").value = "";
  await addFiles(files);
}));

// Files may be dropped anywhere on the page.
let depth = 0;
const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
const showCover = (change) => {
  depth = Math.max(0, depth + change);
  $("drop-cover").hidden = depth === 0;
};
addEventListener("dragenter", (event) => { if (hasFiles(event)) { event.preventDefault(); showCover(1); } });
addEventListener("dragleave", (event) => { if (hasFiles(event)) showCover(-1); });
addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
addEventListener("drop", guarded(async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  showCover(-depth);
  if (!isUser()) {
    notice("Choose or create a user first: the texts belong to a person.", "wrong");
    return;
  }
  const files = [...event.dataTransfer.files];
  document.dispatchEvent(new Event("dropped"));
  await addFiles(files);
}));
