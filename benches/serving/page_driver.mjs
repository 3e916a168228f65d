// A page in a headless Chromium, with checks of what a person sees of it. `PICTURES` names a folder for pictures of it, in
// light and in dark colours.

import assert from "node:assert";

import puppeteer from "puppeteer-core";

export const WIDE = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };

/** Opens `url`. The page may ask nobody else, and errors of its scripts are problems. */
export async function open(url, executablePath, viewport, scheme) {
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const page = await browser.newPage();
  await page.setViewport(viewport);
  const driver = new Driver(browser, page, url, scheme);
  await driver.colour(scheme);
  await page.goto(url);
  return driver;
}

export class Driver {
  n = 0;
  problems = [];
  /** Errors that a test causes by itself are expected. */
  expectsErrors = false;

  constructor(browser, page, url, scheme) {
    Object.assign(this, { browser, page, url, scheme });
    page.on("pageerror", (error) => this.problems.push(error.message));
    page.on("console", (message) => { if (message.type() === "error" && !this.expectsErrors) this.problems.push(message.text()); });
    page.on("request", (request) => { if (!request.url().startsWith(url)) this.problems.push(`asks ${request.url()}`); });
  }

  check(holds, what) {
    assert(holds, JSON.stringify(what));
    this.n += 1;
  }

  text = (selector) => this.page.$eval(selector, (element) => element.innerText);
  texts = (selector) => this.page.$$eval(selector, (elements) => elements.map(({ innerText }) => innerText));
  until = (test, ...args) => this.page.waitForFunction(test, { timeout: 60_000 }, ...args);

  /** Waits until an element has a text. */
  says = (selector, text) => this.until((where, what) => document.querySelector(where)?.innerText.includes(what), selector, text);

  /** Waits until no answer is being written. */
  idle = () => this.until(() => !document.querySelector("#send").hidden);

  /** Checks that an element can be seen: it has a size, lies within the window, and nothing covers it. */
  async seen(selector) {
    await this.page.waitForSelector(selector, { visible: true });
    await this.page.$eval(selector, (element) => element.scrollIntoView({ block: "center" }));
    const { box, window, isOnTop } = await this.page.$eval(selector, (element) => {
      const { left, right, top, bottom, width, height } = element.getBoundingClientRect();
      const above = document.elementFromPoint((left + right) / 2, (Math.max(top, 0) + Math.min(bottom, innerHeight)) / 2);
      const isOnTop = element.contains(above) || above?.contains(element);
      return { box: { left, right, top, bottom, width, height }, window: { width: innerWidth, height: innerHeight }, isOnTop };
    });
    this.check(box.width > 10 && box.height > 10, [selector, box]);
    this.check(box.left >= 0 && box.right <= window.width && box.bottom > 0 && box.top < window.height, [selector, box, window]);
    this.check(isOnTop, `${selector} is covered`);
  }

  /** Clicks an element that can be seen. */
  async click(selector) {
    await this.seen(selector);
    await this.page.click(selector);
  }

  /** Presses Tab until an element has the focus. */
  async tabTo(selector) {
    for (let n = 0; n < 80; n += 1) {
      if (await this.page.evaluate((where) => document.activeElement?.matches(where), selector)) return;
      await this.page.keyboard.press("Tab");
    }
    assert.fail(`Tab does not reach ${selector}`);
  }

  /** Moves the focus to an element by Tab, and presses a key. */
  async press(selector, key = "Enter") {
    await this.tabTo(selector);
    await this.page.keyboard.press(key);
  }

  /** Checks that nothing is wider than the window, and on a phone that what is touched is large enough. */
  async fits() {
    const [over, small] = await this.page.evaluate(() => {
      const shown = [...document.querySelectorAll("body *")].map((it) => [it, it.getBoundingClientRect()]).filter(([, { width, height }]) => width > 0 && height > 0);
      const isApart = (it) => it.closest(".wide-table, pre, .hidden-text, .skip, [inert]");
      const over = shown.filter(([it, { left, right }]) => (left < -1 || right > innerWidth + 1) && !isApart(it));
      const isTouched = "button, select, textarea, summary, .button, #chats a, input:not([type=range], .hidden-text)";
      const small = shown.filter(([it]) => it.matches(isTouched) && !isApart(it) && (it.closest("label") ?? it).getBoundingClientRect().height < 39.5);
      return [over, small].map((found) => found.map(([it]) => it.outerHTML.slice(0, 120)));
    });
    this.check(over.length === 0, over);
    if (this.page.viewport().isMobile) this.check(small.length === 0, small);
  }

  /** Checks that the points of every curve lie within its picture, and that the picture can be seen. */
  async curvesAreSeen() {
    await this.seen("svg.curve");
    const curves = await this.page.$$eval("svg.curve", (pictures) => pictures.map((picture) => {
      const frame = picture.getBoundingClientRect();
      const line = picture.querySelector(".smooth").getBoundingClientRect();
      const n = picture.querySelector(".smooth").points.numberOfItems;
      const isWithin = line.left >= frame.left && line.right <= frame.right && line.top >= frame.top && line.bottom <= frame.bottom;
      return { n, height: frame.height, width: line.width, isWithin };
    }));
    for (const curve of curves) this.check(curve.isWithin && curve.height > 100 && (curve.n < 2 || curve.width > 100), curve);
    return curves;
  }

  colour = (scheme) => this.page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);

  async picture(name) {
    if (!process.env.PICTURES) return;
    for (const scheme of ["light", "dark"]) {
      await this.colour(scheme);
      // Colours change over a part of a second.
      await new Promise((done) => { setTimeout(done, 400); });
      await this.page.screenshot({ path: `${process.env.PICTURES}/${name}-${this.page.viewport().width}-${scheme}.png` });
    }
    await this.colour(this.scheme);
  }

  async close() {
    this.check(this.problems.length === 0, this.problems);
    await this.browser.close();
  }
}
