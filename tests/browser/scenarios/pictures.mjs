// The pictures of the page's own README, of what the browser really shows.

import { origin, picture, scenario, until, visitor } from "../page.mjs";

/** Small enough for a repository, and for a page that one reads. */
const SIZE = { width: 1000, height: 640 };

await scenario(async () => {
  for (const colorScheme of ["light", "dark"]) {
    const someone = await visitor({ ...SIZE, colorScheme });
    const page = await someone.context.newPage();
    const shot = (name) => picture(page, `${name}-${colorScheme}`, {});
    await page.goto(`${origin}/`);
    await until("no rate", async () => (await page.locator('[data-live="mail/rate"]').innerText()) !== "0.0");
    await shot("overview");
    await page.goto(`${origin}/failed/thumbnails`);
    await shot("groups");
    await page.goto(`${origin}/tasks?state=error`);
    await page.getByRole("row", { name: /SIGKILL/ }).getByRole("link").first().click();
    await page.waitForURL(/\/tasks\/[0-9a-f-]+$/);
    await shot("task");
    await page.goto(`${origin}/queues/thumbnails`);
    await shot("queue");
    await someone.leave();
  }
});
