// The answers of the three arms to one message, side by side.

import { LiveAnswer } from "./answer.js";
import { stream } from "./api.js";
import { element, iconButton } from "./dom.js";
import { follow, keepInView } from "./scrolling.js";
import { session } from "./session.js";
import { requestFields } from "./settings.js";

const ARMS = [
  ["base", "Base", "without the voice"],
  ["user", "User model", "the voice alone"],
  ["cope", "CoPe", "the voice against the base"],
];

/** Shows the answers after the chat's messages in `place`. They are not a part of the chat. */
export async function compare({ messages, place, isTinted, setRunning }) {
  place.querySelector(".compared")?.remove();
  const arms = element("div", { class: "arms" });
  const item = element("li", { class: "compared card" });
  const head = element("div", { class: "spread" }, element("h2", { text: "Three answers to the same message" }),
    iconButton("close", "Close the comparison", () => item.remove()));
  item.append(head, arms);
  place.append(item);
  follow();
  const controller = new AbortController();
  setRunning(controller);
  try {
    await Promise.all(ARMS.map(([arm, title, hint]) => {
      const said = element("div", { class: "said waiting" });
      arms.append(element("section", { data: { arm }, "aria-label": title },
        element("h3", { text: title }), element("p", { class: "faint", text: hint }), said));
      const live = new LiveAnswer(said, isTinted);
      const body = { model: session.voice, messages, ...requestFields(arm), ...(isTinted ? { logprobs: true } : {}) };
      return stream(body, controller.signal, (text, tokens) => {
        said.classList.remove("waiting");
        live.add(text, tokens);
        keepInView();
      });
    }));
  } catch (error) {
    controller.abort();
    throw error;
  } finally {
    setRunning(null);
  }
}
