'use strict';

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const { join } = require('node:path');
const { afterEach, describe, it } = require('node:test');
const ChurnPredictor = require('..');
const { start } = require('./server.js');

const { ChurnPredictorError } = ChurnPredictor;
const undo = [];

/** A server and a client of it; both end with the test. */
async function pair(answer, options = {}) {
  const server = await start(answer);
  const client = new ChurnPredictor('sk_test', { host: server.host, ...options });
  undo.push(async () => {
    await client.close({ timeout: 0 });
    await server.stop();
  });
  return { server, client };
}

const fails = (promise, code, message, status) =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof ChurnPredictorError && error instanceof Error, `${error.stack}`);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    assert.equal(error.status, status);
    return true;
  });

const event = (n = 1) => ({ customerId: `c${n}`, event: 'login', properties: { n } });

afterEach(async () => {
  for (const end of undo.splice(0)) await end();
});

describe('track', () => {
  it('tells the server, and resolves when it has taken the event', async () => {
    const { server, client } = await pair();
    const { id } = await client.track({ customerId: 'cus_123', event: 'login', properties: {} });
    const [request] = server.requests;
    assert.deepEqual([request.method, request.path, request.headers['x-api-key']], ['POST', '/api/track/batch', 'sk_test']);
    assert.equal(request.headers['content-type'], 'application/json');
    const [sent] = request.json.events;
    assert.ok(Math.abs(Date.parse(sent.timestamp) - Date.now()) < 5000);
    assert.deepEqual(sent, { customerId: 'cus_123', event: 'login', properties: {}, timestamp: sent.timestamp, id });
    assert.match(id, /^[0-9a-f-]{36}$/);
  });

  it('puts concurrent calls into one request, and keeps the connection', async () => {
    const { server, client } = await pair();
    await Promise.all(Array.from({ length: 100 }, (_, n) => client.track(event(n))));
    assert.equal(server.requests.length, 1);
    assert.equal(new Set(server.events().map(({ id }) => id)).size, 100);
    for (let n = 0; n < 5; n++) await client.track(event(n));
    assert.deepEqual([server.requests.length, server.connections], [6, 1]);
  });

  it('splits by number and by bytes, and sends few requests at a time', async () => {
    let running = 0, most = 0;
    const slowly = async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 20));
      running--;
      return {};
    };
    const { server, client } = await pair(slowly, { batchEvents: 10, batchBytes: 4000, connections: 2 });
    const large = { text: 'ä'.repeat(800) };
    const calls = Array.from({ length: 95 }, (_, n) => client.track(event(n)));
    calls.push(...Array.from({ length: 9 }, (_, n) => client.track({ ...event(n), properties: large })));
    await Promise.all(calls);
    assert.equal(server.events().length, 104);
    assert.equal(most, 2);
    for (const request of server.requests) assert.ok(request.json.events.length <= 10 && request.bytes < 4100);
  });

  it('gives each call its own outcome', async () => {
    const odd = ({ json }) => ({
      body: {
        results: json.events.map(({ id, event: name }, index) =>
          name === 'odd' ? { index, status: 'rejected', code: 'event_too_long', detail: 'it is odd' } : { id, status: 'accepted' }
        ),
      },
    });
    const { client } = await pair(odd);
    const calls = ['a', 'odd', 'b'].map((name) => client.track({ customerId: 1, event: name }));
    await fails(calls[1], 'event_too_long', /it is odd/, undefined);
    await Promise.all([calls[0], calls[2]]);
  });

  it('refuses what can never be right before it is sent', async () => {
    const { server, client } = await pair();
    const circle = {};
    circle.self = circle;
    for (const [bad, message] of [
      [undefined, /customerId/],
      [{ event: 'x' }, /customerId/],
      [{ customerId: '', event: 'x' }, /customerId/],
      [{ customerId: 'c' }, /event/],
      [{ customerId: 'c', event: 'x', properties: 'text' }, /properties/],
      [{ customerId: 'c', event: 'x', properties: [] }, /properties/],
      [{ customerId: 'c', event: 'x', properties: circle }, /JSON/],
      [{ customerId: 'c', event: 'x', timestamp: 'yesterday' }, /timestamp/],
    ]) {
      await fails(client.track(bad), 'invalid_argument', message, undefined);
    }
    assert.equal(server.requests.length, 0);
  });

  it('takes ids as numbers and times in any form', async () => {
    const { server, client } = await pair();
    const at = '2026-03-01T12:00:00.000Z';
    for (const timestamp of [at, new Date(at), Date.parse(at)]) {
      await client.track({ customerId: 17, event: 'x', timestamp, id: 'mine', userId: 5 });
    }
    for (const sent of server.events()) {
      assert.deepEqual(sent, { customerId: '17', event: 'x', timestamp: at, id: 'mine', userId: '5' });
    }
  });
});

describe('a server that has trouble', () => {
  const quick = { retries: 2 };

  it('is tried again with the same ids, whatever the trouble is', async () => {
    for (const trouble of [{ status: 500 }, { status: 503 }, { status: 429 }, { status: 408 }, { destroy: true }]) {
      const { server, client } = await pair((_, count) => (count === 1 ? trouble : {}));
      const { id } = await client.track(event());
      assert.deepEqual(server.events().map((sent) => sent.id), [id, id]);
    }
  });

  it('is given up after the last try, with its last words', async () => {
    const body = { code: 'stream_unavailable', detail: 'the stream is away' };
    const { server, client } = await pair(() => ({ status: 503, body }), quick);
    await fails(client.track(event()), 'stream_unavailable', /503: the stream is away/, 503);
    assert.equal(server.requests.length, 3);
  });

  it('may have stored a part of a batch', async () => {
    const results = [
      { status: 'accepted', id: 'a' },
      { status: 'retry', index: 1, id: 'b' },
      { status: 'rejected', index: 2, code: 'odd', detail: 'it is odd' },
    ];
    const { client } = await pair(() => ({ status: 503, body: { results } }), quick);
    const calls = ['a', 'b', 'c'].map((id) => client.track({ ...event(), id }));
    await fails(calls[1], 'http_503', /503/, 503);
    await fails(calls[2], 'odd', /it is odd/, undefined);
    assert.deepEqual(await calls[0], { id: 'a' });
  });

  it('is not tried again when it refuses', async () => {
    for (const status of [400, 401, 403, 413]) {
      const { server, client } = await pair(() => ({ status, body: { code: 'no', detail: 'not like that' } }), quick);
      const both = [client.track(event(1)), client.track(event(2))];
      for (const call of both) await fails(call, 'no', /not like that/, status);
      assert.equal(server.requests.length, 1);
    }
    const { client } = await pair(() => ({ status: 404, body: '<html>' }), quick);
    await fails(client.identify({ customerId: 'c' }), 'http_404', /<html>/, 404);
  });

  it('has the pauses that it asks for, for all requests', async () => {
    const { server, client } = await pair((_, count) =>
      count === 1 ? { status: 429, headers: { 'retry-after': '1' } } : {}
    );
    const first = client.track(event());
    await new Promise((resolve) => setTimeout(resolve, 100));
    await Promise.all([first, client.risk('c'), client.track(event())]);
    const [refused, ...others] = server.requests.map(({ at }) => at);
    for (const at of others) assert.ok(at - refused >= 990, `after ${at - refused} ms`);
  });

  it('may be away at first', async () => {
    const { server } = await pair();
    const { host } = server;
    await server.stop();
    const client = new ChurnPredictor('sk_test', { host });
    const call = client.track(event());
    await new Promise((resolve) => setTimeout(resolve, 100));
    await client.close({ timeout: 50 });
    await fails(call, 'unreachable', /ECONNREFUSED/, undefined);
  });

  it('must answer in time', async () => {
    const { client } = await pair(() => new Promise(() => {}), { timeout: 50, retries: 0 });
    await fails(client.track(event()), 'unreachable', /no answer within 50 ms/, undefined);
  });

  it('must say what became of each event', async () => {
    for (const body of ['', '{}', '{"results":[]}', 'x']) {
      const { client } = await pair(() => ({ body }), quick);
      await assert.rejects(client.track(event()), { code: 'bad_answer' });
    }
  });

  it('does not make the queue grow without bound', async () => {
    let open;
    const gate = new Promise((resolve) => (open = resolve));
    const { server, client } = await pair(() => gate, { queue: 3 });
    const calls = [1, 2, 3].map((n) => client.track(event(n)));
    await fails(client.track(event(4)), 'queue_full', /3 events/, undefined);
    open({});
    await Promise.all(calls);
    await client.track(event(5));
    assert.equal(server.events().length, 4);
  });
});

describe('the other calls', () => {
  it('ask and tell as the API wants it', async () => {
    const { server, client } = await pair(() => ({ status: 200, body: { score: 7 } }));
    await client.identify({ customerId: 'c', traits: { plan: 'team' }, stripeCustomerId: 'cus_1' });
    assert.deepEqual(await client.risk('a/b c'), { score: 7 });
    await client.risk('..', { asOf: new Date(0) });
    await client.customers({ level: 'high', limit: 5, cursor: undefined });
    await client.customers();
    assert.deepEqual(server.requests.map(({ method, path }) => `${method} ${path}`), [
      'POST /api/identify',
      'GET /api/customers/a%2Fb%20c/risk',
      'GET /api/customers/%2E%2E/risk?as_of=1970-01-01T00%3A00%3A00.000Z',
      'GET /api/customers?level=high&limit=5',
      'GET /api/customers',
    ]);
    assert.deepEqual(server.requests[0].json, { customerId: 'c', traits: { plan: 'team' }, stripeCustomerId: 'cus_1' });
  });

  it('find the server below a path and by the environment', async () => {
    const { server } = await pair();
    const below = new ChurnPredictor('sk_test', { host: `${server.host}/churn` });
    await below.track(event());
    process.env.CHURNPREDICTOR_HOST = server.host;
    const named = new ChurnPredictor('sk_test');
    delete process.env.CHURNPREDICTOR_HOST;
    await named.track(event());
    assert.deepEqual(server.requests.map(({ path }) => path), ['/churn/api/track/batch', '/api/track/batch']);
    await Promise.all([below.close(), named.close()]);
  });

  it('flush and close wait for what is under way', async () => {
    let taken = 0;
    const { client } = await pair(async () => {
      await new Promise((resolve) => setTimeout(resolve, 30));
      return {};
    });
    const count = () => taken++;
    client.track(event()).then(count);
    client.identify({ customerId: 'c' }).then(count);
    await client.flush();
    assert.equal(taken, 2);
    client.track(event()).then(count);
    await client.close();
    assert.equal(taken, 3);
    await fails(client.track(event()), 'closed', /closed/, undefined);
    await fails(client.risk('c'), 'closed', /closed/, undefined);
  });

  it('are made with a key and known options only', () => {
    for (const [arguments_, message] of [
      [[], /key/],
      [[''], /key/],
      [['sk', { hots: 'x' }], /no option hots/],
      [['sk', { host: 'nowhere' }], /host/],
      [['sk', { host: 'ftp://x' }], /host/],
    ]) {
      assert.throws(() => new ChurnPredictor(...arguments_), message);
    }
  });
});

describe('the package', () => {
  it('can be imported too, and lets the process end when it is done', async () => {
    const { server } = await pair();
    const script = `
      import ChurnPredictor, { ChurnPredictorError, ChurnPredictor as same } from './index.mjs';
      const cp = new ChurnPredictor('sk_test', { host: '${server.host}' });
      await cp.track({ customerId: 'c', event: 'login' });
      if (same !== ChurnPredictor || !(new ChurnPredictorError('a', 'b') instanceof Error)) process.exit(3);`;
    const run = require('node:util').promisify(require('node:child_process').execFile);
    await run(process.execPath, ['--input-type=module', '-e', script], { cwd: join(__dirname, '..'), timeout: 10_000 });
    assert.equal(server.events().length, 1);
  });

  it('brings nothing with it', () => {
    const { dependencies, files } = require('../package.json');
    assert.equal(dependencies, undefined);
    for (const file of files) assert.ok(execFileSync('ls', [join(__dirname, '..', file)]));
  });
});
