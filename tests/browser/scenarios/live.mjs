// Numbers that change while somebody looks, and what that costs: one stream for each tab that is seen, none for one that is not.

import { assert, json, origin, scenario, submit, until, visitor } from "../page.mjs";

/** How many streams a context has open, as its own requests tell. */
function streams(context) {
  const open = new Set();
  const isStream = (request) => request.url().startsWith(`${origin}/stream`);
  context.on("request", (request) => isStream(request) && open.add(request));
  for (const end of ["requestfinished", "requestfailed"]) context.on(end, (request) => open.delete(request));
  return open;
}

const text = (page, key) => page.locator(`[data-live="${key}"]`).innerText();
const number = async (page, key) => Number((await text(page, key)).replace(/\D/g, ""));

/** A browser without a window calls every tab visible: the page is told what it would be told there. */
const show = (page, isSeen) =>
  page.evaluate((isSeen) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => !isSeen });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isSeen);

const die = (count) => {
  for (let number = 0; number < count; number += 1) submit("mail", { then: "failed", error: "no" });
};

async function numbersMove() {
  const someone = await visitor();
  const open = streams(someone.context);
  const page = await someone.context.newPage();
  await page.goto(`${origin}/`);
  let loads = 0;
  page.on("framenavigated", () => (loads += 1));
  const before = await number(page, "mail/failed");
  die(2);
  await until("dead letters are not counted by themselves", async () => (await number(page, "mail/failed")) === before + 2);
  await until("the rate does not move", async () => (submit("mail", {}), (await text(page, "mail/rate")) !== "0.0"));
  assert.equal(open.size, 1);

  await show(page, false);
  await until("a hidden tab keeps its stream", () => open.size === 0);
  die(1);
  await until("it is not dead", () => json("queues").mail.failed === before + 3);
  assert.equal(await number(page, "mail/failed"), before + 2, "a hidden tab asks on");
  await show(page, true);
  await until("a tab that is seen again knows nothing new", async () => (await number(page, "mail/failed")) === before + 3);
  assert.equal(open.size, 1);
  assert.equal(loads, 0, "the page was loaded again");

  // A worker at its work, as its queue's page tells it: begun, as far as it says, killed.
  await page.goto(`${origin}/queues/thumbnails`);
  const id = submit("thumbnails", { say: "reading large.tif\nallocating 812 MiB", percent: 35, note: "page 7 of 20", seconds: 3600 });
  const tasks = () => page.locator('[data-live$="/tasks"]').allInnerTexts();
  await until("it is not in hand", async () => (await tasks()).some((text) => text.includes(id) && text.includes("35 %, page 7 of 20")));
  const pid = await until("no process is told", () =>
    page.$$eval("tr", (rows, id) => rows.map((row) => row.innerText.includes(id) && row.querySelector('[data-live$="/pid"]')?.innerText).find(Boolean), id),
  );
  const began = Date.now();
  process.kill(Number(pid), "SIGKILL");
  const task = await someone.context.newPage();
  await until("its death is not told", async () => {
    await task.goto(`${origin}/tasks/${id}`);
    return /killed by SIGKILL.*last words: allocating 812 MiB/s.test(await task.locator("main").innerText());
  });
  const took = Date.now() - began;
  console.log(`a death is told with signal and last words after ${took} ms`);
  assert.ok(took < 5000, `a death is told after ${took} ms`);
  assert.match(await task.locator("pre").last().innerText(), /reading large.tif\nallocating 812 MiB/);
  await task.close();
  await until("its slot still has it", async () => !(await tasks()).some((text) => text.includes(id)));
  await someone.leave();
}

/** Tabs in one window, of which one is seen: each shows numbers, and one has a stream. */
async function eightTabs() {
  const someone = await visitor();
  const open = streams(someone.context);
  const tabs = [];
  for (const address of ["/", "/queues/mail", "/tasks", "/failed", "/schedules", "/", "/queues/thumbnails", "/"]) {
    const last = tabs.at(-1);
    if (last) await show(last, false);
    const tab = await someone.context.newPage();
    tabs.push(tab);
    await tab.goto(origin + address);
    await tab.locator(".health").waitFor();
    await until(`${tabs.length} tabs have ${open.size} streams`, () => open.size === 1);
  }
  const before = await number(tabs[7], "mail/failed");
  die(1);
  await until("the eighth tab stands still", async () => (await number(tabs[7], "mail/failed")) === before + 1);
  await show(tabs[7], false);
  await show(tabs[0], true);
  await until("the first tab stands still", async () => (await number(tabs[0], "mail/failed")) === before + 1);
  await until("each tab has a stream", () => open.size === 1);
  await someone.leave();
}

/** Where there is no stream, it is asked now and then. */
async function polling() {
  const someone = await visitor({ allowed: [/^Failed to load resource: net::ERR_FAILED$/] });
  await someone.context.route("**/stream?*", (route) => route.abort());
  const page = await someone.context.newPage();
  let asked = 0;
  page.on("request", (request) => (asked += request.url().includes("/api/live?") ? 1 : 0));
  await page.goto(`${origin}/`);
  const before = await number(page, "mail/failed");
  die(1);
  await until("nothing moves without a stream", async () => (await number(page, "mail/failed")) === before + 1);
  assert.ok(asked > 0, "nobody asked");
  await show(page, false);
  const then = asked;
  // Longer than it waits between two questions, as told by the tab itself.
  await page.evaluate(() => new Promise((next) => setTimeout(next, 6000)));
  assert.equal(asked, then, "a hidden tab asks on");
  await someone.leave();
}

/** A filter stays in the address: the way back leads to the list as it was. */
async function theWayBack() {
  const someone = await visitor();
  const page = await someone.context.newPage();
  await page.goto(`${origin}/tasks`);
  await page.getByLabel("State").selectOption("error");
  await page.getByLabel("Queue").selectOption("mail");
  await page.getByLabel("Text in id or error").fill("no");
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(/state=error/);
  const list = await page.locator("tbody").innerText();
  await page.locator("tbody th a").first().click();
  await page.waitForURL(/\/tasks\/[0-9a-f-]+$/);
  await page.goBack();
  await page.waitForURL(/state=error/);
  assert.deepEqual(
    [await page.getByLabel("State").inputValue(), await page.getByLabel("Queue").inputValue(), await page.getByLabel("Text in id or error").inputValue()],
    ["error", "mail", "no"],
  );
  assert.equal(await page.locator("tbody").innerText(), list);
  await page.goForward();
  await page.waitForURL(/\/tasks\/[0-9a-f-]+$/);
  await page.goto(`${origin}/queues/mail?span=day`);
  await page.getByRole("link", { name: "Last hour" }).click();
  await page.waitForURL(/span=hour/);
  await page.goBack();
  await page.getByRole("link", { name: "Last hour" }).waitFor();
  await someone.leave();
}

/** A tab that is open when the master is killed says so, by itself, and shows nothing as alive. */
async function theEnd() {
  const someone = await visitor();
  const [overview, queue] = [await someone.context.newPage(), await someone.context.newPage()];
  await overview.goto(`${origin}/`);
  await queue.goto(`${origin}/queues/mail`);
  process.kill(json("status").pid, "SIGKILL");
  for (const page of [overview, queue]) {
    await until("the end is not told", async () => /does not answer/.test(await page.locator(".health").innerText()));
    assert.ok(await page.locator(".health.unknown").count(), "it is still shown as well");
  }
  await until("a queue is shown as worked", async () => (await text(overview, "mail/state")) === "not known");
  assert.equal(await text(overview, "mail/slots"), "not known");
  await until("a worker is shown as alive", async () => (await queue.locator("td.state").allInnerTexts()).every((text) => text === "not known"));
  assert.ok((await queue.locator('[data-live$="/pid"]').allInnerTexts()).every((text) => text === "-"));
  await someone.leave();
}

await scenario(async () => {
  await until("nobody works", () => json("status").queues.mail.state === "running");
  await numbersMove();
  await eightTabs();
  await polling();
  await theWayBack();
  await theEnd();
});
