// Every page there is, one after the other, in every look: found by the links of the pages themselves, so that a new one is not forgotten.

import { assert, audit, fits, origin, picture, scenario, until, visitor } from "../page.mjs";

const state = process.env.STATE;
/** What pages there must be at least, by the shape of their addresses. */
const SHAPES = {
  never: ["/", "/tasks", "/failed", "/schedules", "/failed/Q"],
  busy: ["/", "/tasks", "/failed", "/schedules", "/queues/Q", "/tasks/ID", "/failed/Q", "/failed/Q/ID"],
  dead: ["/", "/tasks", "/failed", "/schedules", "/queues/Q", "/tasks/ID", "/failed/Q", "/failed/Q/ID"],
};
/** Of pages of one shape and one set of parameters, so many are looked at. */
const ENOUGH = 2;
const LOOKS = [
  { name: "light", colorScheme: "light", width: 1280, audits: true },
  { name: "dark", colorScheme: "dark", width: 1280, audits: true },
  { name: "phone", colorScheme: "light", width: 320, height: 640, audits: true },
  { name: "phone-dark", colorScheme: "dark", width: 320, height: 640, audits: true },
  { name: "tablet", colorScheme: "light", width: 768 },
  { name: "wide", colorScheme: "dark", width: 1920, height: 1080 },
];

function shape(address) {
  const { pathname, searchParams } = new URL(address, origin);
  const parts = pathname.split("/").slice(1);
  if (parts.length > 1) parts[1] = parts[0] === "tasks" ? "ID" : "Q";
  if (parts.length > 2) parts[2] = "ID";
  return { path: `/${parts.join("/")}`, whole: `/${parts.join("/")}?${[...searchParams.keys()].sort().join("&")}` };
}

/** The addresses of the pages that links lead to, from the first page on. */
async function found(context) {
  const page = await context.newPage();
  const [all, waiting, counts] = [[], ["/"], new Map()];
  const seen = new Set(waiting);
  while (waiting.length > 0) {
    const address = waiting.shift();
    const { whole } = shape(address);
    counts.set(whole, (counts.get(whole) ?? 0) + 1);
    if (counts.get(whole) > ENOUGH || whole.includes("/payload")) continue;
    all.push(address);
    await page.goto(origin + address);
    const links = await page.$$eval("a[href]", (anchors) => anchors.map((anchor) => anchor.getAttribute("href")));
    for (const link of links) {
      const url = new URL(link, page.url());
      assert.equal(url.origin, origin, `${address} leads elsewhere: ${link}`);
      const next = url.pathname + url.search;
      if (!seen.has(next)) {
        seen.add(next);
        waiting.push(next);
      }
    }
  }
  await page.close();
  return [...all, "/nothing", "/tasks?text=nowhere-to-be-found", "/tasks/unknown"];
}

function named(address) {
  const { whole } = shape(address);
  return `${state}-${whole.replace(/[^a-zA-Z]+/g, "-").replace(/^-|-$/g, "") || "overview"}`;
}

await scenario(async () => {
  // The browser itself tells of an answer that is an error; these are meant.
  const allowed = [/^Failed to load resource: the server responded with a status of (400|404|503)/];
  const first = await visitor({ allowed });
  const page = await first.context.newPage();
  await page.goto(`${origin}/`);
  const health = { never: /does not answer/, busy: /Not well: queue imports is parked/, dead: /does not answer/ }[state];
  await until(`the state is not told: ${health}`, async () => health.test(await page.locator(".health").innerText()));
  const addresses = await found(first.context);
  await first.leave();
  const shapes = new Set(addresses.map((address) => shape(address).path));
  for (const wanted of SHAPES[state]) assert.ok(shapes.has(wanted), `no link leads to ${wanted}: ${[...shapes].join(" ")}`);

  /** Where each problem was seen. */
  const problems = new Map();
  const note = (problem, place) => problems.set(problem, [...(problems.get(problem) ?? []), place]);
  for (const { name, audits, ...look } of LOOKS) {
    const someone = await visitor({ allowed, ...look });
    const page = await someone.context.newPage();
    const drawn = new Set();
    for (const address of addresses) {
      const answer = await page.goto(origin + address);
      const isPage = answer.headers()["content-type"].includes("html");
      if (!isPage) continue;
      const place = `${name} ${address}`;
      await fits(page).catch((error) => note(error.message, place));
      if (audits) for (const found of await audit(page)) note(found, place);
      if (state !== "never" && !drawn.has(named(address))) {
        drawn.add(named(address));
        await picture(page, `${named(address)}-${name}`);
      }
    }
    await someone.leave().catch((error) => note(error.message, name));
  }
  const all = [...problems].map(([problem, places]) => `${problem}\n  ${places.length} times: ${places.slice(0, 4).join(", ")}`);
  assert.ok(all.length === 0, `${all.length} problems on ${addresses.length} pages:\n${all.join("\n")}`);
});
