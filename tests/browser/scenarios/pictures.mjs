// The pictures of the page's own README, of what the browser really shows.

import { origin, picture, scenario, until, visitor } from "../page.mjs";

const SIZE = { width: 1280, height: 800 };

/** Somebody who takes one picture, in one of the schemes. */
async function shot(name, colorScheme, look) {
  const someone = await visitor({ ...SIZE, colorScheme });
  const page = await someone.context.newPage();
  await look(page);
  await picture(page, `${name}-${colorScheme}`, {});
  await someone.leave();
}

await scenario(async () => {
  await shot("overview", "light", async (page) => {
    await page.goto(`${origin}/`);
    await until("no rate", async () => (await page.locator('[data-live="mail/rate"]').innerText()) !== "0.0");
  });
  await shot("groups", "light", (page) => page.goto(`${origin}/failed/thumbnails`));
  await shot("queue", "light", (page) => page.goto(`${origin}/queues/thumbnails`));
  await shot("task", "dark", async (page) => {
    await page.goto(`${origin}/tasks?state=error`);
    await page.getByRole("row", { name: /SIGKILL/ }).getByRole("link").first().click();
    await page.waitForURL(/\/tasks\/[0-9a-f-]+$/);
  });
});
