// People with names: who logs in, who does not, and what is left behind when they go.

import { assert, audit, fits, origin, picture, scenario, until, visitor } from "../page.mjs";

const denied = /^Failed to load resource: the server responded with a status of (401|429)/;

async function enter(page, name, password) {
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.url() === `${origin}/enter`),
    page.getByRole("button", { name: "Log in" }).click(),
  ]);
  await page.waitForLoadState();
  return answer.status();
}

await scenario(async () => {
  for (const [name, look] of Object.entries({ light: { colorScheme: "light" }, dark: { colorScheme: "dark", width: 320, height: 640 } })) {
    const someone = await visitor({ enters: false, allowed: [denied], ...look });
    const page = await someone.context.newPage();
    const answer = await page.goto(`${origin}/tasks?state=error`);
    assert.equal(answer.status(), 401);
    assert.deepEqual(await audit(page), []);
    await fits(page);
    await picture(page, `login-${name}`);
    await someone.leave();
  }

  const someone = await visitor({ enters: false, allowed: [denied] });
  const page = await someone.context.newPage();
  await page.goto(`${origin}/tasks?state=error`);
  // By the keyboard: the name has the focus already.
  await page.keyboard.type("otto");
  await page.keyboard.press("Tab");
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").waitFor();
  assert.match(await page.getByRole("alert").innerText(), /wrong/);
  assert.deepEqual(await audit(page), []);
  // Each pause is twice as long as the one before.
  await until("who guesses does not wait", async () => (await enter(page, "otto", "wrong")) === 429);
  await page.getByText(/try again in/).waitFor();
  await until("otto is kept out for ever", async () => (await enter(page, "otto", "correct horse")) === 303);
  await page.waitForURL(/\/tasks\?state=error$/);
  assert.match(await page.locator(".visitor").innerText(), /otto/);
  const cookies = await someone.context.cookies();
  assert.ok(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Lax", JSON.stringify(cookies));
  assert.deepEqual(await page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length]), ["", 0, 0]);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Password").waitFor();
  // Nothing of what was seen comes back with the way back.
  await page.goBack();
  await page.getByLabel("Password").waitFor();
  assert.equal(await page.getByText("otto").count(), 0);
  await someone.leave();
});
