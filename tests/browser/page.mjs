// What the scenarios share: a browser in front of the page, and somebody who writes down whatever goes wrong in it.
//
// A scenario is a program. It gets the page's link and the demonstration program by its environment (`stage.rs`), and fails with an
// exception. Nothing here waits for a time: each wait is for something to be seen.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const packages = createRequire(join(process.env.BROWSER_PACKAGES, "package.json"));
const { chromium } = packages("playwright-core");
const AXE = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");

export { assert };

/** The page's address; its link has a key, or people log in. */
export const link = process.env.PAGE_LINK;
export const origin = new URL(link).origin;
/** Nothing that is waited for takes longer, on a machine of two slow cores. */
export const PATIENCE = 60_000;
const PICTURES = process.env.BROWSER_PICTURES;

/** Runs a command of the demonstration program, in the folder of its settings. */
export function run(...words) {
  return execFileSync(process.env.DEMO_PROGRAM, [...words, "--set", `transport=${process.env.DEMO_TRANSPORT}`], {
    cwd: process.env.DEMO_FOLDER,
    encoding: "utf8",
    env: { ...process.env, LOG_LEVEL: "WARNING" },
    maxBuffer: 1 << 26,
  });
}

export const json = (...words) => JSON.parse(run(...words, "--json"));
export const submit = (queue, payload) => run("submit", queue, JSON.stringify(payload)).trim();

/** Asks again and again until the answer is true. Gives the answer. */
export async function until(what, ask) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((next) => setTimeout(next, 50));
  }
}

let browser;

/** Starts the browser, does all of it, and ends it. */
export async function scenario(act) {
  browser = await chromium.launch({
    executablePath: process.env.BROWSER_CHROMIUM,
    // As root there is no sandbox to be had, and what is opened here is our own. The rest keeps the browser from asking elsewhere.
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--font-render-hinting=none",
    ],
  });
  try {
    await act();
  } finally {
    await browser.close();
  }
}

/**
 * Somebody who looks: a context of its own with the page's cookie, and what went wrong while they did.
 * `allowed` are messages of the console that are meant to come.
 */
export async function visitor({ allowed = [], enters = true, width = 1280, height = 900, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, ...options });
  const wrong = [];
  context.setDefaultTimeout(PATIENCE);
  context.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith("data:")) wrong.push(`a request leaves the page: ${url}`);
  });
  context.on("console", (message) => {
    if (!allowed.some((pattern) => pattern.test(message.text()))) wrong.push(`console: ${message.text()} at ${message.page()?.url()}`);
  });
  context.on("weberror", (error) => wrong.push(`an exception: ${error.error()}`));
  context.on("dialog", (dialog) => {
    wrong.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  if (enters) {
    const first = await context.newPage();
    const answer = await first.goto(link);
    assert.equal(answer.status(), 200, `the link does not open the page: ${answer.status()}`);
    assert.ok(!first.url().includes("key="), "the key stays in the address");
    await first.close();
  }
  return {
    context,
    wrong,
    /** Ends, and nothing has gone wrong. */
    async leave() {
      assert.deepEqual(wrong, []);
      await context.close();
    },
  };
}

/** What axe finds wrong with a page, in lines. */
export async function audit(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document);
    return violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.map(({ html, failureSummary }) => `${html}: ${failureSummary}`) }));
  });
  return found.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.slice(0, 3).join("\n    ")}`);
}

/** Nothing of the page stands beside its window: what is wide scrolls in its own field. */
export async function fits(page) {
  const { inner, outer, widest } = await page.evaluate(() => {
    const inner = document.documentElement.clientWidth;
    const beyond = [...document.querySelectorAll("body *")].filter((element) => {
      if (element.closest(".scroll, pre, .skip")?.matches(".skip")) return false;
      const field = element.parentElement?.closest(".scroll, pre");
      return !field && element.getBoundingClientRect().right > inner + 1;
    });
    return { inner, outer: document.documentElement.scrollWidth, widest: beyond.slice(0, 3).map((element) => element.outerHTML.slice(0, 200)) };
  });
  assert.ok(outer <= inner && widest.length === 0, `it is ${outer} wide in a window of ${inner}: ${widest.join("\n")}`);
}

/** Keeps a picture where a person finds it. */
export async function picture(page, name, options = { fullPage: true }) {
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), ...options });
}
