// The scrolling of the chat: it follows the answer until the reader scrolls up, and again once they are back at its end.

import { $ } from "./dom.js";

/** Pixels from the end within which the reader counts as being there. */
const NEAR = 48;

let isFollowing = true;

const place = $("scroll");
const isAtEnd = () => place.scrollHeight - place.scrollTop - place.clientHeight < NEAR;

/** Goes to the end, and follows what comes. */
export function follow() {
  isFollowing = true;
  keepInView();
}

/** Goes to the end, if the reader was there. */
export function keepInView() {
  if (isFollowing) place.scrollTop = place.scrollHeight;
  $("latest").hidden = isAtEnd();
}

place.addEventListener("wheel", ({ deltaY }) => { if (deltaY < 0) isFollowing = false; }, { passive: true });
place.addEventListener("scroll", () => {
  isFollowing = isAtEnd();
  $("latest").hidden = isFollowing;
}, { passive: true });
new ResizeObserver(keepInView).observe($("chat"));
$("latest").addEventListener("click", () => { follow(); $("text").focus(); });
