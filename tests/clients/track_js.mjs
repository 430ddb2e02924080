// track.js in Chromium, loaded by pages of another origin: the snippet as documented, a tab closed right after its last
// event, a network that goes away, several tabs, a visitor who wants no tracking.
import { env, eventually, run, serve, sleep, withBrowser } from './harness.mjs';

const HOST = env('CHURND_URL');
const KEY = env('CHURND_PUBLISHABLE_KEY');

const SNIPPET = `<!doctype html><title>snippet</title>
<script src="${HOST}/track.js"></script>
<script>
  ChurnPredictor.init('${KEY}');
  ChurnPredictor.track('login', { userId: '123' });
  ChurnPredictor.identify('123', { plan: 'team' });
</script>`;

const ASYNC = `<!doctype html><title>async</title>
<script>
  (function (c) {
    ['init', 'track', 'identify', 'reset'].forEach(function (name) {
      c[name] = function () { c.q.push([name, arguments]); };
    });
  })(window.ChurnPredictor = { q: [] });
  ChurnPredictor.init('${KEY}');
  ChurnPredictor.identify('async-1');
  ChurnPredictor.track('async_page');
</script>
<script async src="${HOST}/track.js"></script>`;

const plain = (options = '') => `<!doctype html><title>plain</title>
<script src="${HOST}/track.js"></script>
<script>ChurnPredictor.init('${KEY}'${options});</script>`;

/** The page's events, as many as asked, tracked in one turn. */
const track = (page, name, from, count) =>
  page.evaluate(
    ([name, from, count]) => {
      for (let n = from; n < from + count; n++) window.ChurnPredictor.track(`${name}_${n}`, { userId: name, n });
    },
    [name, from, count]
  );

/** How many events a page still has stored. */
const stored = (page) => page.evaluate(() => Object.keys(localStorage).filter((name) => name.includes('-')).length);

const sent = (page) => eventually('everything is sent', async () => (await stored(page)) === 0);

await run(() =>
  withBrowser(async (context) => {
    const pages = { '/snippet': SNIPPET, '/async': ASYNC, '/plain': plain(), '/dnt': plain(', { respectDnt: true }') };
    // What closing pages leave is sent by the next page of their origin: each such case has an origin without a next page.
    const [site, closing, selfClosing, leaving] = await Promise.all(Array.from({ length: 4 }, () => serve(pages)));
    const warnings = [];
    context.on('console', (message) => warnings.push(message.text()));
    const preflights = [];
    context.on('request', (request) => {
      if (request.method() === 'OPTIONS') preflights.push(request.url());
    });
    const open = async (path, { origin } = site) => {
      const page = await context.newPage();
      await page.goto(origin + path, { waitUntil: 'load' });
      return page;
    };
    /** As its user closes it. */
    const close = async (page) => {
      const gone = page.waitForEvent('close');
      await page.close({ runBeforeUnload: true });
      await gone;
    };
    const forget = async (page) => {
      await page.evaluate(() => window.ChurnPredictor.reset());
      await page.close();
    };

    for (const path of ['/snippet', '/async']) {
      const page = await open(path);
      await page.waitForFunction(() => !window.ChurnPredictor.q);
      await sent(page);
      await forget(page);
    }

    // A tab closed by its user, and one that closes itself, right after the last event.
    const closed = await open('/plain', closing);
    await track(closed, 'closed', 0, 5);
    await close(closed);
    const opener = await open('/plain');
    const [self] = await Promise.all([
      context.waitForEvent('page'),
      opener.evaluate((address) => void window.open(address), `${selfClosing.origin}/plain`),
    ]);
    await self.waitForFunction(() => window.ChurnPredictor?.track);
    const gone = self.waitForEvent('close');
    await self.evaluate(() => {
      setTimeout(() => {
        for (let n = 0; n < 5; n++) window.ChurnPredictor.track(`self_closed_${n}`, { userId: 'closed' });
        window.close();
      });
    });
    await gone;

    // Left for another page right after the last event.
    const left = await open('/plain', leaving);
    await left.evaluate((address) => {
      window.ChurnPredictor.track('left_0', { userId: 'left' });
      location.href = address;
    }, `${leaving.origin}/nowhere`);
    await left.waitForURL('**/nowhere');
    await left.close();

    // No network for a while: in a page that stays, and in one that is closed meanwhile.
    const stays = await open('/plain');
    const closes = await open('/plain');
    await sent(stays);
    await context.setOffline(true);
    await track(stays, 'offline', 0, 20);
    await track(closes, 'offline', 20, 20);
    await sleep(2_500);
    await track(stays, 'offline', 40, 10);
    const kept = await stored(stays);
    if (kept !== 50) throw new Error(`${kept} of 50 events are stored while there is no network`);
    await close(closes);
    await context.setOffline(false);
    await sent(stays);

    // Several tabs at a time.
    const tabs = await Promise.all(Array.from({ length: 4 }, () => open('/plain')));
    for (let round = 0; round < 5; round++) {
      await Promise.all(tabs.map((tab, n) => track(tab, 'tabs', round * 40 + n * 10, 10)));
      await sleep(100);
    }
    await sent(tabs[0]);

    // Many and large ones: several requests.
    await stays.evaluate(() => {
      for (let n = 0; n < 30; n++) window.ChurnPredictor.track(`large_${n}`, { userId: 'large', text: 'ä'.repeat(4000) });
    });
    await sent(stays);

    // A visitor who asks not to be tracked, by either signal.
    for (const signal of ['doNotTrack', 'globalPrivacyControl']) {
      const page = await context.newPage();
      await page.addInitScript((name) => Object.defineProperty(Navigator.prototype, name, { get: () => '1' }), signal);
      await page.goto(`${site.origin}/dnt`, { waitUntil: 'load' });
      await track(page, 'untracked', 0, 1);
      if ((await stored(page)) !== 0) throw new Error('an event is stored although the visitor asked not to be tracked');
      await close(page);
    }

    for (const each of [site, closing, selfClosing, leaving]) each.stop();
    if (preflights.length > 0) throw new Error(`preflights were sent: ${preflights}`);
    const complaints = warnings.filter((warning) => warning.startsWith('ChurnPredictor'));
    if (complaints.length > 0) throw new Error(`warnings: ${complaints}`);
    const names = (name, count) => Array.from({ length: count }, (_, n) => `${name}_${n}`);
    return {
      events: [
        'login',
        'async_page',
        ...names('closed', 5),
        ...names('self_closed', 5),
        ...names('left', 1),
        ...names('offline', 50),
        ...names('tabs', 200),
        ...names('large', 30),
      ],
      identified: ['123', 'async-1'],
    };
  })
);
