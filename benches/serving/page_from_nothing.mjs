// Drives the server's page from an empty data folder to an answer in a user's voice: by mouse in a wide window and in light
// colours, or by keyboard alone on a phone and in dark colours.

import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { PHONE, WIDE, open } from "./page_driver.mjs";

const [url, executablePath, hand] = process.argv.slice(2);
const isByMouse = hand === "mouse";
const driver = await open(url, executablePath, isByMouse ? WIDE : PHONE, isByMouse ? "light" : "dark");
const { page } = driver;

/** Does what a button says, by the hand that is tried. */
const use = (selector, key) => (isByMouse ? driver.click(selector) : driver.press(selector, key));
/** Opens the view of a tab. */
async function view(name) {
  if (isByMouse) return driver.click(`#tab-${name}`);
  await driver.tabTo("[role=tab][aria-selected=true]");
  for (let n = 0; n < 4; n += 1) {
    if (await page.evaluate((id) => document.activeElement.id === id, `tab-${name}`)) return undefined;
    await page.keyboard.press("ArrowRight");
  }
  throw new Error(`the arrow keys do not reach ${name}`);
}
const see = async (name) => { await driver.fits(); await driver.picture(`${hand}-${name}`); };

// 1. The base.
await driver.says("#base-title", "Choose a base model");
await driver.seen("#bases .card");
driver.check((await driver.texts("#bases button")).includes("Use it"), "a base is there");
driver.check(await page.$eval('[data-name="gemma3-270m"] button', ({ disabled }) => disabled), "terms have to be agreed to");
await see("1-bases");
await use('[data-name="smollm2-135m"] button');
await page.waitForSelector("#welcome .steps", { visible: true, timeout: 60_000 });
await driver.says("#welcome h1", "Chat with the base model");
await see("2-no-user");

// 2. A user and their texts.
await use("#welcome .current button");
await page.waitForSelector("#user-dialog[open]");
await page.keyboard.press("Escape");
driver.check(await page.$("#user-dialog[open]") === null, "Escape closes the dialog");
await use("#welcome .current button");
await page.keyboard.type("ines");
await page.keyboard.press("Enter");
await driver.says("#texts-lead", "What ines wrote");
await driver.says("#items-empty", "no texts to train on yet");
await see("3-no-texts");

const folder = tmpdir();
const chat = join(folder, `WhatsApp Chat with Tom ${process.pid}.txt`);
const lines = ["Ines: Morning Tom, the boat is dry", "Tom: Is it? And the cushions", "Ines: The cushions are another matter, bring old ones", "Tom: Friday then?",
  "Ines: Friday suits me, if you bring the cake and I bring the excuses", "Tom: Deal. What about the radio", "Ines: The radio has opinions, leave it at home", "Mum: Who is Tom"];
writeFileSync(chat, lines.map((line, n) => `12/0${n + 1}/2026, 10:0${n} - ${line}`).join("\n"));
const notes = join(folder, `notes ${process.pid}.jsonl`);
writeFileSync(notes, ["The ferry", "The soup stall"].map((title) => JSON.stringify({ prompt: `Write about ${title}.`, response: `${title} has its own idea of time, and I have mine. We meet when we meet.` })).join("\n"));

/** Chooses files, as the button does. */
async function choose(...files) {
  const [chooser] = await Promise.all([page.waitForFileChooser(), use("#choose")]);
  await chooser.accept(files);
}
await choose(chat);
await driver.says("#uploads legend", "Who are you in this file?");
const people = await driver.texts(".choices .choice");
driver.check(people.some((it) => /Ines\s+4 messages/.test(it)) && people.some((it) => /Tom\s+3 messages/.test(it)), people);
await see("4-authors");
await use('.choices input[value="Ines"]', "Space");
await use("#uploads .question .primary");
await driver.says("#uploads .figures", "new text");
driver.check((await driver.text("#uploads .take")) === "Take 4 texts", await driver.text("#uploads .take"));
await use("#uploads summary");
driver.check((await driver.texts("#uploads .samples .said")).some((it) => it.includes("cushions")), "samples are shown");
await see("5-preview");
await use("#uploads .take");
await driver.says("#uploads .taken", "4 new texts to train on");
await driver.says("#n-history", "4");

// A second file is held out.
await choose(notes);
await driver.says("#uploads li:nth-child(2) .figures", "2 new texts");
if (isByMouse) await driver.click("#uploads .segment:nth-child(2)");
else {
  await driver.tabTo("#uploads .segment input:checked");
  await page.keyboard.press("ArrowDown");
}
await driver.until(() => document.querySelector("#uploads .segment:nth-child(2) input")?.checked);
await driver.says("#uploads .take", "Take 2 texts");
await use("#uploads .take");
await driver.says("#uploads li:nth-child(2)", "2 new texts held out");
await driver.says("#n-held_out", "2");

// 3. The items: searched, edited and removed.
await use("#matching");
await page.keyboard.type("RADIO");
await driver.until(() => document.querySelectorAll("#items .item").length === 1);
await driver.says("#items .said", "The radio has opinions");
await use('#items .item [aria-label="Edit the text"]');
await page.keyboard.down("Control");
await page.keyboard.press("End");
await page.keyboard.up("Control");
await page.keyboard.type(", always");
await use("#items .item .primary");
await driver.says("#items .said", "leave it at home, always");
await use('#items .item [aria-label="Remove the text"]');
await page.waitForSelector("#ask-dialog[open]");
await page.keyboard.press("Enter");
await driver.says("#items-empty", "No text has these words");
await driver.says("#n-history", "3");
await use("#matching");
for (let n = 0; n < "RADIO".length; n += 1) await page.keyboard.press("Backspace");
await driver.until(() => document.querySelectorAll("#items .item").length === 3);
await see("6-items");

// 4. Training: it is stopped within a second and goes on.
await view("training");
await driver.says("#training-state", "not trained yet");
await use("#train");
await driver.says("#training-state", "Learn the texts");
await driver.seen("#stages .running");
await driver.until(() => document.querySelector("#training-progress").value > 0);
await driver.until(() => !document.querySelector("#stop-training").hidden);
const stopped = Date.now();
await use("#stop-training");
await driver.says("#training-state", "Stopped");
const seconds = (Date.now() - stopped) / 1000;
driver.check(seconds < 3, `it stopped after ${seconds} s`);
await use("#train");
const isAtWork = () => /step \d/.test(document.querySelector("#training-state").innerText) && document.querySelector("svg.curve");
await driver.until(isAtWork);
await driver.curvesAreSeen();
await see("7-training");
await driver.says("#training-state", "Done.");
const curves = await driver.curvesAreSeen();
driver.check(curves.length >= 1 && curves.some(({ n }) => n > 1), curves);
driver.check(await page.$$eval("#stages .done", ({ length }) => length) === 4, "all stages are done");
await see("8-trained");

// 5. Guessing.
await view("guess");
await page.waitForSelector("button.guess", { timeout: 60_000 });
await driver.seen("button.guess:nth-child(1)");
await see("9-guess");
if (isByMouse) await driver.click("button.guess:nth-child(1)");
else await page.keyboard.press("1");
await page.waitForSelector(".guess.mine");
await driver.says(".board", "of 1 guess");
await driver.says(".guess.mine", "has its own idea of time");
await see("10-guessed");
await use(".next");
await page.waitForSelector("button.guess:not(:disabled)", { timeout: 60_000 });
await use("button.guess:nth-child(2)");
await driver.says(".board", "of 2 guesses");

// 6. The answer.
await view("chat");
await driver.says("#welcome h1", "Write to ines");
await use("#text");
if (isByMouse) await page.type("#text", "Are you free on Friday?");
else await page.keyboard.type("Are you free on Friday?");
if (isByMouse) await driver.click("#send");
else await page.keyboard.press("Enter");
await driver.until(() => document.querySelector("#chat .answer .said")?.innerText.length > 0);
await driver.idle();
await driver.seen("#chat .answer .said");
await see("11-answer");
driver.check(await page.evaluate(() => document.activeElement.id === "text"), "the field has the focus again");
driver.check(await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches) === !isByMouse, "colours");
await driver.close();
console.log(`${driver.n} checks hold`);
