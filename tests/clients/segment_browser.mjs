// @segment/analytics-next in Chromium, from a page of another origin: its bundle as it comes from the registry, its
// settings and its events from churnd.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { env, eventually, run, serve, withBrowser } from './harness.mjs';

const HOST = new URL(env('CHURND_URL'));
const KEY = env('CHURND_PUBLISHABLE_KEY');
const bundle = join(createRequire(import.meta.url).resolve('@segment/analytics-next'), '../../umd');

/** One request for each event, and batches; both from settings that point at churnd. */
const page = (strategy) => `<!doctype html><title>segment</title>
<script src="/index.js"></script>
<script>
  const delivery = { strategy: '${strategy}', config: { size: 10, timeout: 500 } };
  window.analytics = AnalyticsNext.AnalyticsBrowser.load(
    { writeKey: '${KEY}', cdnURL: '${HOST.origin}' },
    { integrations: { 'Segment.io': { apiHost: '${HOST.host}/v1', protocol: 'http', deliveryStrategy: delivery } } }
  );
</script>`;

await run(() =>
  withBrowser(async (context) => {
    const files = { '/index.js': readFileSync(join(bundle, 'index.js'), 'utf8') };
    const site = await serve({ ...files, '/single': page('standard'), '/batch': page('batching') });
    const answers = [];
    context.on('response', (response) => {
      if (response.url().startsWith(HOST.origin)) answers.push(response);
    });
    const failed = [];
    context.on('requestfailed', (request) => failed.push(`${request.url()} ${request.failure()?.errorText}`));

    const events = [];
    for (const kind of ['single', 'batch']) {
      const tab = await context.newPage();
      const names = Array.from({ length: 20 }, (_, n) => `segweb_${kind}_${n}`);
      await tab.goto(`${site.origin}/${kind}`, { waitUntil: 'load' });
      await tab.evaluate(async (names) => {
        const { analytics } = window;
        await analytics.identify('segweb-1', { plan: 'team' });
        for (const name of names) await analytics.track(name, { from: 'page' });
      }, names);
      await eventually(`all events of ${kind} are sent`, async () => {
        const bodies = await Promise.all(answers.map((answer) => answer.request().postData() ?? ''));
        return names.every((name) => bodies.some((body) => body.includes(`"${name}"`)));
      });
      events.push(...names);
      await tab.close();
    }

    const refused = answers.filter((answer) => answer.status() >= 300).map((answer) => `${answer.status()} ${answer.url()}`);
    if (refused.length > 0) throw new Error(`refused: ${refused}`);
    const lost = failed.filter((line) => line.startsWith(HOST.origin));
    if (lost.length > 0) throw new Error(`failed: ${lost}`);
    if (!answers.some((answer) => answer.url().endsWith(`/v1/projects/${KEY}/settings`))) throw new Error('no settings were read');
    site.stop();
    return { events };
  })
);
