// Texts that are made to do harm stand in the pages as texts, wherever they come from: nothing runs, nothing is asked for, nothing is
// hidden from who reads, and a page stays a page.

import { assert, audit, fits, origin, picture, run, scenario, until, visitor } from "../page.mjs";

const QUEUE = process.env.HOSTILE_QUEUE;
/** Bytes of a page, and of how long it may take: a build for tests is slower. */
const LONGEST = 300 * 1024;
const SLOWEST = 2000;

const MARKUP = `"><img src=x onerror=alert(1)>'--></pre><script>alert(2)</script>&lt;b&gt;`;
const TURNED = "\u202egnp.exe\u2066\u200f";
const IDS = [MARKUP, `../../${TURNED}?a=b#c%2F`, "-rf", "--all", ".", "..", "x".repeat(255), "<".repeat(200), "javascript:alert(3)"];

const HARM = {
  [MARKUP]: { big: 1, [TURNED]: MARKUP },
  then: "failed",
  say: `${MARKUP}\n${TURNED}\u001b[31m\n${"<&\"'>".repeat(500)}`,
  error: `${MARKUP} ${TURNED} ${"<".repeat(3000)}`,
  detail: `Traceback ${MARKUP}\n${TURNED}\n${"<script>".repeat(4000)}`,
  long: "<".repeat(60_000),
};

await scenario(async () => {
  const harm = JSON.stringify(HARM).replace('"big":1', '"big":1152921504606846977');
  for (const id of IDS) run("submit", QUEUE, harm, `--id=${id}`);
  run("submit", QUEUE, JSON.stringify({ percent: 5, note: `${MARKUP}${TURNED}`, seconds: 3600 }), `--id=running ${MARKUP}${TURNED}`);
  const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
  run("submit", QUEUE, `{"then":"failed","error":"deep","deep":${deep}}`, "--id=deep");
  const dead = IDS.length + 1;
  const allowed = [/^Failed to load resource: the server responded with a status of 404/];
  const someone = await visitor({ allowed });
  const page = await someone.context.newPage();
  const open = async (address) => {
    const began = Date.now();
    const answer = await page.goto(origin + address);
    const took = Date.now() - began;
    const length = (await answer.body()).length;
    assert.ok(length <= LONGEST, `${address} has ${length} bytes`);
    assert.ok(took <= SLOWEST, `${address} took ${took} ms`);
    const told = await page.evaluate(() => [document.title, document.body.innerText, ...[...document.querySelectorAll("[aria-label], [title]")].map((element) => `${element.ariaLabel} ${element.title}`)].join("\n"));
    assert.ok(!/[\u202a-\u202e\u2066-\u2069\u200f\u0000\u001b]/.test(told), `${address} has what nobody sees`);
    assert.deepEqual(
      await page.evaluate(() => [document.scripts.length, document.images.length, document.querySelectorAll("[onerror]").length]),
      answer.headers()["content-type"].includes("html") ? [1, 0, 0] : [0, 0, 0],
      address,
    );
    return answer;
  };
  const links = (field) => page.locator(field).locator("a[href]").evaluateAll((all) => all.map(({ pathname, search }) => pathname + search));

  const queue = encodeURIComponent(QUEUE);
  await until("they are not dead", async () => {
    await open(`/failed/${queue}`);
    return (await page.getByRole("region", { name: "Letters" }).locator("tbody tr").count()) === dead;
  });
  const letters = await links('[aria-label="Letters"]');
  assert.equal(new Set(letters).size, dead);
  for (const letter of letters) {
    assert.equal((await open(letter)).status(), 200, letter);
    const told = await page.locator("main").innerText();
    assert.ok(told.includes("deep") || told.includes("<img src=x onerror=alert(1)>"), `${letter}: ${told}`);
    const command = await page.locator("footer code").innerText();
    assert.ok(!/ -(rf|-all)$/.test(command) || / -- /.test(command), `an id is an option: ${command}`);
    assert.equal((await open(`${letter}${letter.includes("?") ? "&" : "?"}view=raw`)).status(), 200);
    if (!told.includes("deep")) assert.match(await page.locator("#payload ~ pre").innerText(), /1152921504606846977/);
  }
  await picture(page, "hostile-letter");

  // The tasks themselves: those that ended, and the one that runs.
  await until("not all are listed", async () => {
    await open("/tasks");
    return (await page.locator("tbody tr").count()) >= IDS.length + 2;
  });
  for (const task of (await links("main")).filter((link) => link.startsWith("/tasks/"))) {
    assert.equal((await open(task)).status(), 200, task);
    assert.match(await page.locator("main").innerText(), /It runs for|It died at/);
  }
  for (const address of ["/", "/tasks", "/failed", `/failed/${queue}`, `/queues/${queue}`, `/tasks?text=${encodeURIComponent(MARKUP)}`, `/tasks?queue=${encodeURIComponent(MARKUP)}`, `/tasks/${encodeURIComponent(MARKUP + TURNED)}`]) {
    await open(address);
    assert.deepEqual(await audit(page), [], address);
    await fits(page);
    await picture(page, `hostile-${address.split("/")[1].split("?")[0] || "overview"}`);
  }
  // Numbers that change are texts, too.
  await open(`/queues/${queue}`);
  await until("the task in hand is not told by the stream", async () =>
    (await page.locator('[data-live$="/tasks"]').allInnerTexts()).join().includes("<img src=x onerror=alert(1)>"),
  );
  assert.equal(await page.evaluate(() => document.images.length), 0);
  await someone.leave();

  const narrow = await visitor({ width: 320, height: 640, colorScheme: "dark" });
  const small = await narrow.context.newPage();
  for (const address of ["/", "/tasks", `/failed/${queue}`, `/queues/${queue}`, ...letters.slice(0, 4)]) {
    await small.goto(origin + address);
    await fits(small);
  }
  await narrow.leave();
});
