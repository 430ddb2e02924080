// The pages about the account and the system in Chromium: light, dark and on a phone, checked by axe, used by keyboard; a dead
// letter is replayed from its page.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { env, eventually, run, withBrowser } from './harness.mjs';

const HOST = env('CHURND_URL');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const PAGES = ['/dashboard/overview', '/dashboard/what-worked', '/dashboard/channels', '/dashboard/system'];
const LOOKS = [
  { name: 'light', media: { colorScheme: 'light' }, size: { width: 1200, height: 900 } },
  { name: 'dark', media: { colorScheme: 'dark' }, size: { width: 1200, height: 900 } },
  { name: 'phone', media: { colorScheme: 'light' }, size: { width: 360, height: 740 } },
];

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe complains about; it is run in the page as a debugger would, past the page's policy. */
async function complaints(page) {
  await page.evaluate(axe);
  const found = await page.evaluate((rules) => window.axe.run(document, { runOnly: rules }), RULES);
  return found.violations.map((violation) => `${violation.id}: ${violation.nodes.map((node) => node.target).join(', ')}`);
}

await run(() =>
  withBrowser(async (context) => {
    const page = await context.newPage();
    const trouble = [];
    page.on('pageerror', (error) => trouble.push(String(error)));
    page.on('console', (message) => {
      if (message.type() === 'error') trouble.push(message.text());
    });
    await page.goto(`${HOST}/dashboard/overview`);
    await page.getByLabel('Secret key').fill(env('CHURND_SECRET_KEY'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.waitForURL('**/dashboard/overview');

    // A channel is added first, so that there is one to look at.
    await page.goto(`${HOST}/dashboard/channels`);
    await page.getByLabel('Name', { exact: true }).fill('Success team');
    await page.getByLabel('Kind').selectOption('email');
    await page.getByLabel('Addresses, for e-mail').fill('success@example.com');
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await page.waitForURL('**done=added**');
    await page.getByRole('button', { name: 'Pause Success team' }).click();
    await page.waitForURL('**done=paused**');

    let checked = 0;
    for (const look of LOOKS) {
      await page.emulateMedia(look.media);
      await page.setViewportSize(look.size);
      for (const path of PAGES) {
        await page.goto(HOST + path);
        // Everything that is folded away is looked at too.
        await page.evaluate(() => document.querySelectorAll('details').forEach((part) => (part.open = true)));
        const wrong = await complaints(page);
        if (wrong.length > 0) throw new Error(`${look.name} ${path}: ${wrong.join('\n')}`);
        const beyond = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        if (beyond > 0) throw new Error(`${look.name} ${path} is ${beyond} px wider than its window`);
        checked += 1;
      }
    }

    // The table says what the chart shows, and opens by keyboard.
    await page.goto(`${HOST}/dashboard/overview`);
    const summary = page.locator('details > summary').last();
    await summary.focus();
    await page.keyboard.press('Enter');
    if (!(await page.getByRole('table').last().isVisible())) throw new Error('the table does not open');

    await page.goto(`${HOST}/dashboard/system`);
    const letters = page.locator('.letter');
    const before = await letters.count();
    const replay = letters.filter({ hasText: 'would be accepted now' }).first().getByRole('button', { name: /Replay letter/ });
    await replay.focus();
    await page.keyboard.press('Enter');
    await page.waitForURL('**replayed=1**');
    const said = await page.getByRole('status').innerText();
    const after = await eventually('the letter is gone', async () => {
      const left = await letters.count();
      return left === before - 1 && String(left);
    });
    if (trouble.length > 0) throw new Error(`the browser complained: ${trouble.join('\n')}`);
    return { checked, said, before, after: Number(after) };
  })
);
