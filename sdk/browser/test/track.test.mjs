// What track.js promises, on its source and on the minified file alike. Run with `node --test sdk/browser/test/track.test.mjs`.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Page, World, sources } from './browser.mjs';

const KEY = 'pk_test';
const LATER = 5000;

for (const source of sources) {
  describe(source.name, () => {
    const open = (world, options) => {
      const page = new Page(world, source, options);
      page.churn.init(KEY, options?.init);
      return page;
    };
    const names = (world) => world.events.map((event) => event.event);

    it('sends the snippet of the documentation', async () => {
      const world = new World();
      const { churn } = open(world);
      churn.track('login', { userId: '123' });
      churn.identify('123', { plan: 'team', stripeCustomerId: 'cus_1' });
      churn.track('report_opened');
      await world.pass(LATER);
      const [batch, identify, ...others] = world.requests;
      assert.equal(others.length, 0);
      assert.equal(batch.url, 'https://churn.example/api/track/batch?key=pk_test');
      assert.equal(identify.url, 'https://churn.example/api/identify?key=pk_test');
      assert.deepEqual([batch.method, batch.keepalive, batch.credentials, batch.headers], ['POST', true, 'omit', undefined]);
      const [login] = batch.json.events;
      assert.deepEqual([login.customerId, login.event, login.properties], ['123', 'login', { userId: '123' }]);
      assert.equal(login.timestamp, '2026-03-01T12:00:00.000Z');
      assert.ok(login.id.length > 30 && login.id.length <= 100);
      assert.equal(batch.json.sentAt, '2026-03-01T12:00:00.000Z');
      assert.deepEqual([identify.json.customerId, identify.json.stripeCustomerId], ['123', 'cus_1']);
      assert.deepEqual(identify.json.traits, { plan: 'team', stripeCustomerId: 'cus_1' });
      assert.equal(world.events.find((event) => event.event === 'report_opened').customerId, '123');
      assert.equal(new Set(world.events.map((event) => event.id)).size, 3);
      assert.equal(world.storage.size, 1, 'only who the customer is stays');
    });

    it('replays what was called before it was there', async () => {
      const world = new World();
      const before = (window) => {
        window.ChurnPredictor = { q: [['track', ['early', { userId: '1' }]], ['init', [KEY]], ['track', ['late', { userId: '1' }]]] };
      };
      new Page(world, source, { before });
      await world.pass(LATER);
      assert.deepEqual(names(world), ['early', 'late']);
    });

    it('stays what it is when it is loaded twice', async () => {
      const world = new World();
      const page = open(world);
      const { churn } = page;
      source.script.runInContext(page.window);
      assert.equal(page.churn, churn);
    });

    it('knows the customer on the next page, until reset', async () => {
      const world = new World();
      open(world).churn.identify(42);
      await world.pass(LATER);
      const { churn } = open(world);
      churn.track('seen', { userId: 'other' });
      churn.reset();
      churn.track('seen', { userId: 'other' });
      churn.track('seen');
      await world.pass(LATER);
      assert.deepEqual(world.events.slice(1).map((event) => event.customerId), ['42', 'other']);
      assert.match(world.warnings.join(), /nobody identified/);
    });

    it('gathers events and keeps batches below what outlives a page', async () => {
      const world = new World();
      const { churn } = open(world);
      for (let n = 0; n < 40; n++) churn.track('big', { userId: '1', n, text: 'ä'.repeat(4000) });
      await world.pass(LATER);
      assert.equal(world.events.length, 40);
      assert.equal(world.requests.length, Math.ceil(40 / 7));
      for (const request of world.requests) assert.ok(request.bytes <= 64000, `${request.bytes}`);
      churn.track('too_big', { userId: '1', text: 'ä'.repeat(16400) });
      await world.pass(LATER);
      assert.equal(world.events.length, 40);
      assert.match(world.warnings.join(), /too large too_big/);
    });

    it('sends the last event of a page that is closed, and repeats it with the same id', async () => {
      const world = new World();
      const page = open(world);
      page.churn.track('last', { userId: '1' });
      page.close();
      await world.pass(LATER);
      assert.deepEqual(names(world), ['last']);
      open(world);
      await world.pass(LATER);
      assert.deepEqual(names(world), ['last', 'last']);
      assert.equal(new Set(world.events.map((event) => event.id)).size, 1);
      assert.equal(world.storage.size, 0);
    });

    it('sends at once when the page is hidden, or goes without a word before', async () => {
      for (const [state, event] of [['hidden', 'visibilitychange'], ['visible', 'pagehide']]) {
        const world = new World();
        const page = open(world);
        await world.pass(LATER);
        page.churn.track('last', { userId: '1' });
        page.fire('visibilitychange');
        assert.equal(world.requests.length, 0);
        page.document.visibilityState = state;
        page.fire(event);
        await world.pass(0);
        assert.deepEqual(names(world), ['last']);
        await world.pass(LATER);
        assert.equal(world.requests.length, 1);
      }
    });

    it('sends all it has when the page goes, in as many requests as it takes', async () => {
      const world = new World();
      const page = open(world);
      for (let n = 0; n < 20; n++) page.churn.track('big', { userId: '1', n, text: 'x'.repeat(8000) });
      page.churn.identify('1');
      page.close();
      await world.pass(0);
      assert.deepEqual([world.events.length, world.requests.length], [21, 4]);
    });

    it('hands a closing page to a beacon where fetch cannot outlive it', async () => {
      const world = new World();
      const page = open(world, { noKeepalive: true });
      page.churn.track('last', { userId: '1' });
      page.churn.identify('1');
      page.close();
      assert.deepEqual(world.requests.map((request) => [request.beacon, request.url.split('?')[0]]), [
        [true, 'https://churn.example/api/track/batch'],
        [true, 'https://churn.example/api/identify'],
      ]);
      assert.equal([...world.storage.keys()].filter((name) => name.includes('-')).length, 0);
    });

    it('keeps what it could not send, over pages too, and sends it when the network is back', async () => {
      const world = new World();
      world.answer = () => { throw new TypeError('Failed to fetch'); };
      const page = open(world);
      page.churn.track('one', { userId: '1' });
      await world.pass(LATER);
      page.close();
      const next = open(world);
      next.churn.track('two', { userId: '1' });
      await world.pass(10 * 60_000);
      const tries = world.requests.length;
      assert.ok(tries > 8 && tries < 30, `${tries} tries in ten minutes`);
      world.answer = () => ({ status: 202 });
      next.fire('online');
      await world.pass(0);
      assert.deepEqual(names(world), ['one', 'two']);
      assert.equal(world.storage.size, 0);
    });

    for (const status of [408, 500, 503]) it(`backs off with jitter from ${status}`, async () => {
      const world = new World();
      world.answer = () => ({ status });
      open(world).churn.track('one', { userId: '1' });
      await world.pass(3_600_000);
      const times = world.requests.map((request) => request.at);
      const pauses = times.slice(1).map((time, n) => time - times[n]);
      pauses.forEach((pause, n) => {
        const middle = Math.min(60_000, 1000 * 2 ** n);
        assert.ok(pause >= middle * 0.5 && pause <= middle * 1.5 + 1, `pause ${n} took ${pause}`);
      });
      assert.ok(new Set(pauses.slice(-10)).size > 5, 'no two clients try in step');
    });

    it('waits as long as the server asks, in seconds or until a date, even when the page goes', async () => {
      for (const wait of ['120', new Date(Date.parse('2026-03-01T12:02:01Z')).toUTCString()]) {
        for (const status of [429, 503]) {
          const world = new World();
          world.answer = () => ({ status, headers: { 'Retry-After': wait } });
          const page = open(world);
          page.churn.track('one', { userId: '1' });
          await world.pass(60_000);
          page.churn.track('two', { userId: '1' });
          page.fire('online');
          page.fire('pagehide');
          await world.pass(59_000);
          assert.equal(world.requests.length, 1);
          world.answer = () => ({ status: 202 });
          await world.pass(10_000);
          assert.deepEqual(names(world), ['one', 'two']);
        }
      }
    });

    it('drops what is refused for good, says so, and goes on', async () => {
      for (const status of [400, 401, 403, 404, 413]) {
        const world = new World();
        world.answer = () => ({ status, body: '{"code":"no"}' });
        const { churn } = open(world);
        churn.track('one', { userId: '1' });
        await world.pass(LATER);
        world.answer = () => ({ status: 202, body: '{"results":[{"index":0,"status":"rejected","code":"odd"}]}' });
        churn.track('two', { userId: '1' });
        await world.pass(600_000);
        assert.equal(world.requests.length, 2);
        assert.equal(world.storage.size, 0);
        assert.match(world.warnings[0], new RegExp(`${status}.*"no"`));
        assert.match(world.warnings[1], /202.*odd/);
      }
    });

    it('sends what several tabs stored once, one tab at a time', async () => {
      const world = new World();
      const tabs = [open(world), open(world), open(world)];
      await world.pass(LATER);
      let release;
      const slow = new Promise((resolve) => (release = resolve));
      world.answer = () => slow;
      for (let n = 0; n < 30; n++) {
        tabs[n % 3].churn.track(`e${n}`, { userId: '1' });
        await world.pass(300);
      }
      assert.equal(world.requests.length, 1, 'the others wait while one tab sends');
      release({ status: 202 });
      await world.pass(LATER);
      assert.deepEqual(names(world).sort(), Array.from({ length: 30 }, (_, n) => `e${n}`).sort());
    });

    it('works without locks and without storage', async () => {
      for (const storage of ['forbidden', 'full']) {
        const world = new World();
        const page = open(world, { noLocks: true, storage });
        page.churn.identify('1');
        page.churn.track('one');
        await world.pass(LATER);
        page.churn.track('two');
        page.close();
        await world.pass(LATER);
        assert.deepEqual(names(world).filter(Boolean), ['one', 'two']);
      }
    });

    it('bounds what it stores and drops the oldest', async () => {
      const world = new World();
      world.answer = () => { throw new TypeError('Failed to fetch'); };
      const { churn } = open(world);
      for (let n = 0; n < 600; n++) {
        churn.track(`e${n}`, { userId: '1' });
        await world.pass(1);
      }
      assert.equal(world.storage.size, 500);
      world.answer = () => ({ status: 202 });
      await world.pass(600_000);
      assert.deepEqual([names(world)[0], names(world).length], ['e100', 500]);
    });

    it('asks Do-Not-Track and Global Privacy Control only when told to', async () => {
      for (const wish of [{ doNotTrack: '1' }, { globalPrivacyControl: true }]) {
        for (const respectDnt of [true, false]) {
          const world = new World();
          const page = open(world, { ...wish, init: { respectDnt } });
          page.churn.identify('1');
          page.churn.track('one');
          page.close();
          await world.pass(LATER);
          assert.equal(world.events.length, respectDnt ? 0 : 2);
          if (respectDnt) assert.equal(world.storage.size, 0);
        }
      }
    });

    it('keeps silent about what was stored before the visitor asked for it', async () => {
      const world = new World();
      world.answer = () => { throw new TypeError('Failed to fetch'); };
      open(world).churn.track('one', { userId: '1' });
      await world.pass(LATER);
      const tries = world.requests.length;
      world.timers = [];
      const page = open(world, { doNotTrack: '1', init: { respectDnt: true } });
      await world.pass(LATER);
      page.close();
      await world.pass(LATER);
      assert.equal(world.requests.length, tries);
    });

    it('goes where it is told', async () => {
      const world = new World();
      open(world, { init: { host: 'https://api.example' } }).churn.track('one', { userId: '1' });
      await world.pass(LATER);
      assert.match(world.requests[0].url, /^https:\/\/api\.example\/api\//);
    });

    it('never throws into the page', () => {
      const world = new World();
      const { churn } = new Page(world, source);
      const circle = {};
      circle.self = circle;
      for (const odd of [undefined, null, 1, 'x', circle, 10n, Symbol('x'), { toString: null }]) {
        churn.track(odd, odd);
        churn.identify(odd, odd);
        churn.init(odd, odd);
        churn.track('x', { userId: odd });
        churn.reset();
      }
    });
  });
}
