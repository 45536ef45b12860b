// Looks at the pages of a gateway and of a board in a real browser, as people do: on a desk and on a phone, in the light and
// in the dark, by keyboard and without scripts. Fails at the first page that loads something from elsewhere, says
// something on the console, does not fit its window, shuts somebody out, or does not stay live.
//
//   node look.mjs GATEWAY SITE BOARD
//
// GATEWAY and BOARD are addresses such as http://127.0.0.1:7400; SITE is the site's name, which has a user's duty `signal`. Prints
// WATCHING once it looks at the overview and at the site, and expects that the board that performs it is killed then. Settings come by environment: ROADSTEAD_NODE_MODULES says where
// playwright-core and axe-core are, ROADSTEAD_BROWSER is the browser, ROADSTEAD_SCREENSHOTS the folder for screenshots.
import { strict as assert } from "node:assert";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [gateway, site, board] = process.argv.slice(2);
const modules = createRequire(join(process.env.ROADSTEAD_NODE_MODULES, "from-here"));
const { chromium } = modules("playwright-core");
const axe = readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const screenshots = process.env.ROADSTEAD_SCREENSHOTS;

// A page may weigh so much, and must show something so soon on loopback.
const WEIGHT_MAX = 400_000;
// What takes longer hangs.
const PATIENCE = 30_000;

const looks = {
  desk: { viewport: { width: 1280, height: 800 }, colorScheme: "light" },
  night: { viewport: { width: 1280, height: 800 }, colorScheme: "dark" },
  phone: { viewport: { width: 390, height: 844 }, colorScheme: "dark", hasTouch: true, isMobile: true },
};
const pages = {
  sites: { url: `${gateway}/`, has: `#site-${site}` },
  site: { url: `${gateway}/sites/${site}`, has: '#duties th:text-is("signal")' },
  board: { url: `${board}/`, has: "h1" },
};

mkdirSync(screenshots, { recursive: true });
const profile = mkdtempSync(join(tmpdir(), "roadstead-browser-"));
const browser = await chromium.launch({
  executablePath: process.env.ROADSTEAD_BROWSER,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", `--disk-cache-dir=${profile}`],
});

// A page of a window of its own, and what happens on it.
const open = async (look, { javaScriptEnabled = true } = {}) => {
  const context = await browser.newContext({ ...look, javaScriptEnabled });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const complaints = [];
  const weights = [];
  page.on("console", (said) => { if (["error", "warning"].includes(said.type())) complaints.push(said.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && ![gateway, board].includes(origin)) complaints.push(`asks ${request.url()}`);
  });
  page.on("response", (response) => {
    const kind = response.headers()["content-type"] ?? "";
    if (!response.ok()) complaints.push(`${response.status()} of ${response.url()}`);
    // A stream has no end.
    if (!kind.startsWith("text/event-stream")) weights.push(response.body().then((body) => body.length, () => 0));
  });
  const weight = async () => (await Promise.all(weights)).reduce((sum, one) => sum + one, 0);
  return { page, complaints, weight, close: () => context.close() };
};

const isLive = (page) => page.waitForFunction(() => document.getElementById("live")?.textContent === "live");

const lookAt = async (name, style) => {
  const { url, has } = pages[name];
  const { page, complaints, weight, close } = await open(looks[style]);
  await page.goto(url);
  await page.waitForSelector(has);
  await isLive(page);
  const bytes = await weight();
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0);
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  await page.screenshot({ path: join(screenshots, `${name}-${style}.png`), fullPage: true });
  assert(wide <= room, `${name} on the ${style}: ${wide} pixels wide in a window of ${room}`);
  // Evaluated and not loaded: the page's own policy lets nothing else in.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${name} on the ${style} shuts somebody out`);
  assert.deepEqual(complaints, [], `${name} on the ${style}`);
  assert(bytes <= WEIGHT_MAX, `${name} weighs ${bytes} bytes`);
  console.log(`${name} on the ${style}: ${(bytes / 1000).toFixed(1)} kB, first paint ${paint.toFixed(0)} ms`);
  await close();
};

const byKeyboard = async () => {
  const { page, complaints, close } = await open(looks.desk);
  await page.goto(pages.sites.url);
  await isLive(page);
  const focused = () => page.evaluate(() => document.activeElement?.id || document.activeElement?.className);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "skip", "the first stop is the way past the head");
  // As many stops as a page of one site can have.
  for (let stop = 0; (await focused()) !== `to-${site}`; stop += 1) {
    assert(stop < 20, `a keyboard does not reach the link to ${site}; it is at ${await focused()}`);
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Enter");
  await page.waitForURL(pages.site.url);
  assert.deepEqual(complaints, [], "by keyboard");
  console.log("by keyboard: from the head to the site");
  await close();
};

const withoutScripts = async () => {
  const { page, complaints, close } = await open(looks.phone, { javaScriptEnabled: false });
  for (const { url, has } of Object.values(pages)) {
    await page.goto(url);
    await page.locator(has).first().waitFor();
  }
  await page.goto(pages.sites.url);
  await page.getByRole("searchbox").fill("no-such-site");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByText("No site is like that.").waitFor();
  assert.deepEqual(complaints, [], "without scripts");
  console.log("without scripts: every page, and a search");
  await close();
};

// On which board the duty is, by the site's page, where that is not `before`.
const dutyOn = (before) => {
  const lines = [...document.querySelectorAll("#duties tbody tr")];
  const line = lines.find((line) => line.querySelector("th").textContent === "signal");
  const [state, on] = ["State", "On"].map((label) => line?.querySelector(`[data-label="${label}"]`).textContent);
  return state === "running" && on !== before ? on : null;
};

// A board dies while the pages are looked at: they say so, are the same pages, and who moves by keyboard stays in place.
const staysLive = async () => {
  const { page, complaints, close } = await open(looks.desk);
  await page.goto(pages.sites.url);
  await isLive(page);
  await page.locator(`#to-${site}`).focus();
  await page.evaluate(() => { window.isTheSamePage = true; });
  const beside = await open(looks.desk);
  await beside.page.goto(pages.site.url);
  await isLive(beside.page);
  // A leader may have changed a moment ago, and not have told of duties yet.
  const before = await (await beside.page.waitForFunction(dutyOn)).jsonValue();
  await beside.page.evaluate(() => { window.isTheSamePage = true; });
  console.log("WATCHING");
  await page.locator(`#site-${site}`).getByText("is not heard by the others").waitFor();
  assert(await page.evaluate(() => window.isTheSamePage), "the page was loaded again");
  assert.equal(await page.evaluate(() => document.activeElement?.id), `to-${site}`, "the focus has moved");
  await page.screenshot({ path: join(screenshots, "sites-trouble.png"), fullPage: true });
  assert.deepEqual(complaints, [], "while a board died");
  console.log("live: a board's death came to the page by itself");
  const after = await (await beside.page.waitForFunction(dutyOn, before)).jsonValue();
  assert(await beside.page.evaluate(() => window.isTheSamePage), "the site's page was loaded again");
  assert.deepEqual(beside.complaints, [], "while a duty moved");
  console.log(`live: the duty of ${before} is on ${after}`);
  await beside.close();
  await close();
};

try {
  for (const name of Object.keys(pages)) for (const style of Object.keys(looks)) await lookAt(name, style);
  await byKeyboard();
  await withoutScripts();
  await staysLive();
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
