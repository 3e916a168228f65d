// Tests chats on the server's page in a headless Chromium, in the voice of alice: answers, what can be done with them, chats
// that survive a reload, and a server that goes away.

import { PHONE, WIDE, open } from "./page_driver.mjs";

const [url, executablePath] = process.argv.slice(2);
const driver = await open(url, executablePath, WIDE, "dark");
const { page } = driver;
await page.browserContext().overridePermissions(url, ["clipboard-read", "clipboard-write", "clipboard-sanitized-write"]);

const answers = () => page.$$eval("#chat .answer > .said", (places) => places.map(({ textContent }) => textContent));
const draw = () => driver.text("#chat .answer .draw");
const api = (method, path, body) => page.evaluate(async (...[how, where, sent]) => {
  const response = await fetch(where, { method: how, headers: { "Content-Type": "application/json" }, body: sent && JSON.stringify(sent) });
  return response.json();
}, method, path, body);
const set = (name, value) => page.$eval(`#set-${name}`, (field, to) => { field.value = to; field.dispatchEvent(new Event("input")); }, value);
const FRIDAY = "Reply to: Are you free on Friday?";

/** Sends a message by keys, and waits for the answer. */
async function say(text) {
  await page.focus("#text");
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
  await driver.until(() => document.querySelector("#send").hidden);
  await driver.idle();
}

// The chat works by keyboard alone, since the text field has the focus. Its tokens are coloured if that is asked for.
await driver.says("#welcome h1", "Write to alice");
await driver.fits();
await driver.click("#tint");
await driver.seen("#legend");
await say(FRIDAY);
const [answer] = await answers();
driver.check(answer.length > 10, answer);
const tokens = await page.$$eval("#chat .token", (all) => all.map((token) => [token.title, getComputedStyle(token).backgroundColor]));
driver.check(tokens.length > 3 && tokens.every(([title]) => title.includes("user ")), tokens[0]);
driver.check(new Set(tokens.map(([, colour]) => colour)).size > 2, "the tokens have several colours");
driver.check(tokens.some(([title]) => title.includes("another than its likeliest")), "the contrast chose");
await driver.seen("#chat .answer > .said");
await driver.picture("chat-colours");
await driver.click("#tint");

// Regenerating draws another answer, the one before is not lost, and the settings of an answer give it again.
driver.check(await draw() === "temperature 0", await draw());
await driver.click("#toggle-settings");
await driver.click("#set-seed");
await page.keyboard.type("7");
await page.keyboard.press("Escape");
driver.check(await page.$eval("#settings", ({ hidden }) => hidden), "Escape closes the settings");
await driver.click("#regenerate");
await driver.says("#chat .answer span.pager", "2/2");
const [other] = await answers();
driver.check(other !== answer, other);
driver.check(await draw() === "temperature 0.7, seed 8", await draw());
await driver.click("#chat .answer .pager--1");
await driver.says("#chat .answer span.pager", "1/2");
driver.check((await answers())[0].trim() === answer.trim(), await answers());
await driver.click("#new-chat");
await set("temperature", "0.7");
await set("seed", "8");
await say(FRIDAY);
driver.check((await answers())[0] === other, [await answers(), other]);

// A chat survives a reload, with its settings, and other browsers have it too.
await driver.until(() => location.hash.split("/").length === 3);
await driver.until(() => document.querySelectorAll("#chats li").length === 2);
await page.reload();
await driver.until(() => document.querySelectorAll("#chat .answer").length === 1);
await driver.says("#chat .answer .said", other.trim().slice(0, 10));
driver.check(await page.$eval("#set-temperature", ({ value }) => value) === "0.7", "the temperature is that of the chat");
const { chats } = await api("GET", "/api/users/alice/chats");
driver.check(chats.length === 2 && chats.every(({ title }) => title === FRIDAY), chats);
const elsewhere = await (await driver.browser.createBrowserContext()).newPage();
await elsewhere.goto(url);
await elsewhere.waitForFunction(() => document.querySelectorAll("#chats li").length === 2);
await elsewhere.close();
await page.bringToFront();

// The message is edited, and the chat goes on from it.
await driver.click('#chat .user [aria-label^="Edit"]');
await page.$eval("#chat .user textarea", (area) => { area.value = "Tell me all about the garden, at length."; });
await driver.click("#chat .user .primary");
await driver.until(() => document.querySelector("#chat .user .said")?.innerText.includes("garden"));
await driver.idle();
driver.check((await answers()).length === 1 && (await answers())[0] !== other, await answers());

// Nothing of the voice, and all of it.
await driver.click("#new-chat");
await set("scale", "0");
await say(FRIDAY);
driver.check((await answers())[0] !== answer, await answers());

// A long answer is cut at the server's limit, which is said.
await driver.click("#new-chat");
await set("scale", "0");
await say("Write a long story about a garden, a ferry and a soup stall, in many paragraphs.");
await driver.seen("#chat .cut");
await driver.says("#chat .cut", "Cut off here");

// Escape stops an answer, and what there is of it stays.
await page.keyboard.type("Write another story, about a boat, in many paragraphs.");
await page.keyboard.press("Enter");
await driver.until(() => document.querySelectorAll("#chat .answer")[1]?.querySelector(".markdown")?.innerText.length > 3);
await page.keyboard.press("Escape");
await driver.idle();
driver.check((await answers()).length === 2, "the part that was answered stays");

// The answers of the three arms stand side by side.
await driver.click("#new-chat");
await say(FRIDAY);
await driver.click("#compare");
await driver.until(() => document.querySelectorAll(".arms .said").length === 3 && [...document.querySelectorAll(".arms .said")].every((it) => it.innerText.length > 0));
await driver.idle();
const arms = await driver.texts(".arms .said");
driver.check(arms[0] !== arms[1], arms);
const lefts = await page.$$eval(".arms section", (all) => all.map((it) => it.getBoundingClientRect().left));
driver.check(lefts[0] < lefts[1] && lefts[1] < lefts[2], lefts);
for (const arm of ["base", "user", "cope"]) await driver.seen(`.arms [data-arm=${arm}] .said`);
await driver.picture("chat-compare");

// A copy, a verdict and an edit; the history counts the edit.
await driver.click('#chat [aria-label="Copy the answer"]');
await driver.says("#notices", "Copied");
driver.check((await page.evaluate(() => navigator.clipboard.readText())) === answer, "the answer is in the clipboard");
await driver.click('#chat [aria-label="A good answer"]');
await page.waitForSelector('#chat [aria-label="A good answer"][aria-pressed="true"]');
await driver.click('#chat [aria-label^="Write the answer"]');
await page.$eval("#chat .editor textarea", (area) => { area.value = "Friday suits me, with cake."; });
await driver.click("#chat .editor .primary");
await driver.says("#chat .answer .said", "with cake.");
driver.check((await api("GET", "/api/users/alice/history")).pairs === 1, "the edit makes a pair");

// Markdown: what looks like HTML is text, and tables and code are what they are.
const content = "## Plan\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nlet x = 1;\n```\n\n<b id=evil>bold</b> and [a link](https://example.org) and [none](javascript:alert(1))";
const long = Array.from({ length: 12 }, (_, n) => [{ role: "user", content: `Number ${n}?` }, { role: "assistant", content }]).flat();
await api("PUT", "/api/users/alice/chats/markdown", { title: "A long chat", settings: null, messages: long, n_answers: 1 });
await page.evaluate(() => { location.hash = "#alice/chat/markdown"; });
await driver.until(() => document.querySelectorAll("#chat table").length === 12);
driver.check(await page.$("#evil") === null, "no HTML of an answer becomes an element");
driver.check((await driver.text("#chat .answer:last-child .said")).includes("<b id=evil>"), "it is shown as text");
const links = await page.$$eval("#chat .answer:last-child a", (all) => all.map((link) => [link.href, link.rel]));
driver.check(links.length === 1 && links[0][0] === "https://example.org/" && links[0][1].includes("noopener"), links);
await driver.fits();

// The chat is at its end, and stays where the reader is while an answer comes.
const place = () => page.$eval("#scroll", ({ scrollTop, scrollHeight, clientHeight }) => [scrollTop, scrollHeight - clientHeight - scrollTop]);
driver.check((await place())[1] < 5, await place());
await page.focus("#text");
await page.keyboard.type("And?");
await page.keyboard.press("Enter");
await driver.until(() => document.querySelector("#send").hidden);
await page.$eval("#scroll", (it) => { it.dispatchEvent(new WheelEvent("wheel", { deltaY: -100 })); it.scrollTop = 300; });
await driver.idle();
driver.check((await answers()).length === 13, "the message is answered");
driver.check(Math.abs((await place())[0] - 300) < 5, await place());
await driver.click("#latest");
await driver.until(() => document.querySelector("#latest").hidden);
driver.check((await place())[1] < 5, await place());

// The server goes away and comes back: what was typed is kept, also over a reload of the page.
driver.expectsErrors = true;
await driver.click("#new-chat");
await page.setOfflineMode(true);
await page.focus("#text");
await page.keyboard.type(FRIDAY);
await page.keyboard.press("Enter");
await driver.seen("#gone");
await driver.seen("#chat .failed");
const kept = await page.$eval("#text", ({ value }) => value);
driver.check(kept === FRIDAY, kept);
await driver.picture("chat-gone");
await page.setOfflineMode(false);
await page.reload();
await driver.until((text) => document.querySelector("#text").value === text, FRIDAY);
driver.check(await page.$eval("#gone", ({ hidden }) => hidden), "the server is back");
driver.expectsErrors = false;
await page.focus("#text");
await page.keyboard.press("Enter");
await driver.until(() => document.querySelector("#chat .answer .actions"));
driver.check((await answers())[0].trim() === answer.trim(), await answers());

// The chats are reached by the arrow keys, opened and deleted.
await driver.until(() => document.querySelectorAll("#chats li").length === 7);
await page.focus("#chats a");
await page.keyboard.press("End");
await page.keyboard.press("ArrowUp");
await page.keyboard.press("Enter");
await driver.until(() => document.querySelector("#chats li:nth-last-child(2) [aria-current]"));
await page.focus("#chats li:last-child a");
await page.keyboard.press("Delete");
await page.waitForSelector("#ask-dialog[open]");
await page.keyboard.press("Enter");
await driver.until(() => document.querySelectorAll("#chats li").length === 6);

// On a phone the sidebar is folded, and comes by its button.
await page.setViewport(PHONE);
await driver.until(() => document.body.classList.contains("folded"));
await driver.fits();
await driver.picture("chat-phone");
await driver.click("#open-sidebar");
await driver.seen("#chats a");
await driver.fits();
await page.keyboard.press("Escape");
driver.check(await page.evaluate(() => document.activeElement.id === "open-sidebar"), "Escape folds the sidebar and gives the focus back");
const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
const dark = await paper();
await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
driver.check(dark !== await paper(), dark);

await driver.close();
console.log(`${driver.n} checks hold`);
