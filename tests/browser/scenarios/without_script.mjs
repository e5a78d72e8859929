// Without a script: every page says what it has to say, forms work, and what is new is one reload away.

import { assert, json, origin, scenario, submit, until, visitor } from "../page.mjs";

await scenario(async () => {
  const someone = await visitor({ javaScriptEnabled: false });
  const scripts = [];
  someone.context.on("request", (request) => /\/(stream|api\/live)/.test(request.url()) && scripts.push(request.url()));
  const page = await someone.context.newPage();
  const main = () => page.locator("main").innerText();
  await page.goto(`${origin}/`);
  assert.match(await page.locator(".health").innerText(), /queue imports is parked/);
  for (const [link, words] of [
    ["Tasks", /in the hands of thumbnails/],
    ["Dead letters", /mail/],
    ["Schedules", /nightly[\s\S]*0?3:00/],
    ["Overview", /Last failures/],
  ]) {
    await page.getByRole("navigation").getByRole("link", { name: link }).click();
    assert.match(await main(), words);
  }
  // From a number to its cause.
  await page.getByRole("row", { name: /^mail/ }).getByRole("link", { name: "mail" }).click();
  assert.match(await main(), /Workers[\s\S]*Settings in force[\s\S]*"max_attempts": 2/);
  await page.getByRole("link", { name: "Dead letters" }).last().click();
  await page.getByRole("region", { name: "Groups" }).getByRole("link").first().click();
  await page.waitForURL(/fingerprint=/);
  await page.locator("tbody th a").first().click();
  const letter = await main();
  assert.match(letter, /Traceback \(most recent call last\)/);
  assert.match(letter, /"password": "•••"/);
  assert.doesNotMatch(letter, /hunter2|4111/);
  await page.getByRole("link", { name: "Raw" }).click();
  assert.doesNotMatch(await main(), /hunter2|4111/);
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Save all of it" }).click()]);
  assert.match(saved.suggestedFilename(), /\.payload$/);

  await page.goto(`${origin}/tasks`);
  await page.getByLabel("State").selectOption("error");
  await page.getByLabel("Queue").selectOption("thumbnails");
  await page.getByRole("button", { name: "Show" }).click();
  await page.waitForURL(/state=error/);
  assert.match(await main(), /killed by SIGSEGV/);
  const before = json("queues").mail.failed;
  submit("mail", { then: "failed", error: "no" });
  await until("it is not shown after a reload", async () => {
    await page.goto(`${origin}/failed`);
    return new RegExp(`mail\\s+${before + 1}\\b`).test(await main());
  });
  assert.deepEqual(scripts, [], "something ran");
  await someone.leave();
});
