// What the scripts here share: where churnd is, a browser, and how they end.
//
// Each script plays one client against a running churnd and prints one line of JSON that says what it did, for the test
// that started it to look for. It exits with 1 and a message when the client was not served as it expects.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A variable that the test sets. */
export function env(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

/** Runs a script's work and ends the process with how it went. */
export async function run(work) {
  try {
    const report = await work();
    process.stdout.write(`${JSON.stringify(report ?? {})}\n`);
    process.exitCode = 0;
  } catch (error) {
    // Servers and browsers that are still there must not keep the process.
    console.error(error?.stack ?? error);
    process.exit(1);
  }
}

/** Looks again until it holds. */
export async function eventually(what, look, within = 30_000) {
  const deadline = Date.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${within} ms: ${what}`);
    await sleep(25);
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Serves pages on an origin of its own: `{ '/path': html }`. */
export async function serve(pages) {
  const server = http.createServer((request, response) => {
    const page = pages[new URL(request.url, 'http://page').pathname];
    response.writeHead(page ? 200 : 404, { 'content-type': 'text/html; charset=utf-8' });
    response.end(page ?? 'nothing here');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { origin: `http://localhost:${server.address().port}`, stop: () => server.close() };
}

/** A headless Chromium with an empty profile that ends with the work. */
export async function withBrowser(work) {
  const { chromium } = await import('playwright-core');
  const profile = await mkdtemp(join(tmpdir(), 'churnd-chromium-'));
  const options = { executablePath: env('CHURND_CHROMIUM'), headless: true, args: CHROMIUM_FLAGS };
  const context = await chromium.launchPersistentContext(profile, options);
  try {
    return await work(context);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
