// The pages by the keyboard alone: everything that can be done has the focus once, in the order in which it is read, and shows it.

import { assert, origin, scenario, visitor } from "../page.mjs";

const CONTROLS = "a[href], button, input:not([type=hidden]), select, [tabindex='0']";
const ADDRESSES = ["/", "/queues/mail", "/tasks", "/tasks?state=error", "/failed", "/failed/mail", "/schedules"];
const MOST = 600;

/** The element that has the focus: its place among all controls, and whether one sees that it has it. */
const focused = (page) =>
  page.evaluate((controls) => {
    const element = document.activeElement;
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const { left, top, width, height } = element.getBoundingClientRect();
    return {
      place: [...document.querySelectorAll(controls)].indexOf(element),
      html: element.outerHTML.slice(0, 120),
      hasRing: outlineStyle !== "none" && outlineWidth !== "0px",
      isInWindow: left + width > 0 && left < innerWidth && top + height > 0 && top < innerHeight,
    };
  }, CONTROLS);

async function everythingIsReached(page, address) {
  await page.goto(origin + address);
  const count = await page.locator(CONTROLS).count();
  assert.ok(count < MOST, `${address} has ${count} controls`);
  for (let place = 0; place < count; place += 1) {
    await page.keyboard.press("Tab");
    const now = await focused(page);
    assert.equal(now.place, place, `${address}: Tab leads to ${now.html}`);
    assert.ok(now.hasRing, `${address}: one does not see that this has the focus: ${now.html}`);
    assert.ok(now.isInWindow, `${address}: what has the focus is out of sight: ${now.html}`);
  }
}

await scenario(async () => {
  const someone = await visitor();
  const page = await someone.context.newPage();
  const { href } = await (await page.goto(`${origin}/failed/mail`), page.locator("tbody th a").first().evaluate(({ pathname, search }) => ({ href: pathname + search })));
  for (const address of [...ADDRESSES, href]) await everythingIsReached(page, address);

  // To the content, past the links of every page.
  await page.goto(`${origin}/failed`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(new URL(page.url()).hash, "#main");
  await page.keyboard.press("Tab");
  assert.ok(await page.evaluate(() => document.querySelector("main").contains(document.activeElement)), "the focus is not in the content");

  // A filter, a task, and back.
  await page.goto(`${origin}/tasks`);
  await page.getByLabel("State").focus();
  await page.keyboard.type("in");
  await page.getByLabel("Text in id or error").focus();
  await page.keyboard.type("550");
  await page.keyboard.press("Enter");
  await page.waitForURL(/state=error.*text=550/);
  await page.locator("tbody th a").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/tasks\/[0-9a-f-]+$/);
  await page.goBack();
  await page.waitForURL(/state=error.*text=550/);
  await someone.leave();

  // What is wide is moved by arrows, in its own field.
  const narrow = await visitor({ width: 320, height: 640 });
  const small = await narrow.context.newPage();
  await small.goto(`${origin}/`);
  const field = small.locator(".scroll").first();
  await field.focus();
  await small.keyboard.press("ArrowRight");
  await small.waitForFunction(() => document.querySelector(".scroll").scrollLeft > 0);
  await narrow.leave();
});
