// Tests the server's page in a headless Chromium, by keys and clicks, also at the width of a phone and in dark mode.

import assert from "node:assert";

import puppeteer from "puppeteer-core";

const [url, executablePath] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
const problems = [];
page.on("pageerror", (error) => problems.push(error.message));
page.on("console", (message) => { if (message.type() === "error") problems.push(message.text()); });
page.on("request", (request) => { if (!request.url().startsWith(url)) problems.push(`asks ${request.url()}`); });
let n = 0;
const check = (holds, what) => { assert(holds, JSON.stringify(what)); n += 1; };
const text = (selector) => page.$eval(selector, (element) => element.textContent);
const idle = () => page.waitForFunction(() => !document.querySelector("#send").disabled);

await page.setViewport({ width: 1100, height: 800 });
await page.goto(url);
await page.waitForFunction(() => document.querySelector("#voice").options.length === 2);
check(await page.$eval("#voice", ({ value }) => value) === "alice", "the voice is alice's");

// The chat works by keyboard alone, since the text field has the focus.
await page.keyboard.type("Reply to: Are you free on Friday?");
await page.keyboard.press("Enter");
await page.waitForSelector("#chat li.answer .token");
await idle();
const answer = await text("#chat li.answer .said");
check(answer.length > 10, answer);
const tints = await page.$$eval("#chat .token", (tokens) => tokens.map(({ title, style }) => [title, style.backgroundColor]));
check(tints.every(([title, colour]) => title.includes("user ") && colour), tints[0]);
check(tints.some(([title]) => title.includes("another than its likeliest")), "the contrast chose");

// Regenerating draws another answer, and its settings give it again.
const said = () => page.$$eval("#chat li.answer .said", (places) => places.at(-1).textContent);
const draw = () => page.$$eval("#chat li.answer .draw", (places) => places.at(-1).textContent);
check(await draw() === "temperature 0", await draw());
await page.type("#seed", "7");
await page.click("#regenerate");
await page.waitForFunction(() => document.querySelectorAll("#chat li.answer").length === 2);
await idle();
const other = await said();
check(other !== answer, other);
check(await draw() === "temperature 0.7, seed 8", await draw());
await page.click("#clear");
await page.type("#temperature", "0.7");
await page.$eval("#seed", (input) => { input.value = "8"; });
await page.type("#text", "Reply to: Are you free on Friday?");
await page.keyboard.press("Enter");
await page.waitForSelector("#chat li.answer .token");
await idle();
check(await said() === other, [await said(), other]);
for (const field of ["#temperature", "#seed"]) await page.$eval(field, (input) => { input.value = ""; });

// Another contrast gives another answer, and Escape stops it.
await page.$eval("#contrast", (slider) => { slider.value = "0"; slider.dispatchEvent(new Event("input")); });
check(await text("#contrast-value") === "0", "the slider shows its value");
await page.focus("#text");
await page.keyboard.type("Tell me all about the garden, at length.");
await page.keyboard.press("Enter");
await page.waitForFunction(() => document.querySelectorAll("#chat li.answer").length === 2);
await page.waitForFunction(() => document.querySelectorAll("#chat li.answer")[1].textContent.length > 12);
await page.keyboard.press("Escape");
await idle();
check((await page.$$("#chat li.answer")).length === 2, "the part that was answered stays");

// The answers of the three arms stand side by side.
await page.$eval("#contrast", (slider) => { slider.value = "0.3"; slider.dispatchEvent(new Event("input")); });
await page.click("#compare");
await page.waitForFunction(() => document.querySelectorAll(".arms [data-arm] .said").length === 3);
await idle();
const arms = await page.$$eval(".arms [data-arm] .said", (places) => places.map(({ textContent }) => textContent));
check(arms.every((said) => said.length > 0) && arms[0] !== arms[1], arms);

// A verdict and an edit are stored, and the history counts the edit.
await page.click("#chat li.answer .verdicts button:nth-child(1)");
await page.waitForSelector('#chat .verdicts [aria-pressed="true"]');
await page.click("#chat li.answer .verdicts button:nth-child(3)");
await page.waitForSelector("#chat li.answer textarea");
await page.$eval("#chat li.answer textarea", (area) => { area.value = "Friday suits me, with cake."; });
await page.click("#chat li.answer textarea + .buttons button");
await page.waitForFunction(() => document.querySelector("#chat li.answer .said").textContent.endsWith("with cake."));
await page.click("#tab-history");
await page.waitForFunction(() => document.querySelectorAll("#history li").length > 0);
check((await text("#history-count")).includes("1 pairs of answers from feedback"), await text("#history-count"));

// Arrow keys change tabs, and a training shows its loss.
await page.focus("#tab-history");
await page.keyboard.press("ArrowRight");
await page.waitForFunction(() => !document.querySelector("#view-training").hidden);
await page.click("#train");
await page.waitForFunction(() => document.querySelector("#training-state").textContent.startsWith("The training has ended"), { timeout: 600_000 });
check(await page.$$eval("#loss polyline", (lines) => lines.length) >= 1, "the loss is drawn");

// The page fits a phone, and has a dark mode.
await page.setViewport({ width: 360, height: 640, isMobile: true, hasTouch: true });
await page.click("#tab-chat");
check(await page.evaluate(() => document.documentElement.scrollWidth <= 360), "nothing is wider than a phone");
const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
const light = await paper();
await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
check(light !== await paper(), light);

check(problems.length === 0, problems);
await browser.close();
console.log(`${n} checks hold`);
