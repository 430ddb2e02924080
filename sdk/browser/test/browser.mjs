// As much of a browser as track.js touches: storage shared between tabs, locks, timers that the test moves, a server
// that answers as it is told.
import { readFileSync } from 'node:fs';
import { Script, createContext } from 'node:vm';

const files = ['track.js', 'track.min.js'];
export const sources = files.map((name) => {
  const text = readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');
  return { name, script: new Script(text, { filename: name }) };
});

/** What outlives a page: the origin's storage, its locks, and the server. */
export class World {
  constructor() {
    this.storage = new Map();
    this.locks = new Set();
    this.requests = [];
    this.warnings = [];
    this.time = Date.parse('2026-03-01T12:00:00Z');
    this.timers = [];
    /** Decides on each request: `{status, headers, body}`, or throws as a lost network does. */
    this.answer = () => ({ status: 202 });
  }

  /** All events that the server took, in the order of their arrival. */
  get events() {
    const taken = this.requests.filter((request) => request.status >= 200 && request.status < 300);
    return taken.flatMap((request) => request.json.events ?? [request.json]);
  }

  /** Lets time go on: timers fire in order, and what they start is done before the next. */
  async pass(ms) {
    const until = this.time + ms;
    await settle();
    for (;;) {
      const next = this.timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.time = Math.max(this.time, next.at);
      this.timers.splice(this.timers.indexOf(next), 1);
      next.run();
      await settle();
    }
    this.time = until;
  }
}

/** A page that has loaded the script. */
export class Page {
  constructor(world, source, options = {}) {
    this.world = world;
    this.listeners = {};
    this.open = true;
    this.document = {
      currentScript: { src: 'https://churn.example/track.js?v=1' },
      visibilityState: 'visible',
      addEventListener: (name, listener) => this.listen(name, listener),
    };
    this.window = createContext({
      document: this.document,
      location: 'https://shop.example/',
      navigator: this.navigator(options),
      console: { warn: (...what) => world.warnings.push(what.map(String).join(' ')) },
      crypto: globalThis.crypto,
      Blob, URL,
      Date: datesOf(world),
      AbortSignal: {},
      Request: options.noKeepalive ? class {} : class { get keepalive() { return false; } },
      addEventListener: (name, listener) => this.listen(name, listener),
      setTimeout: (run, delay) => this.later(run, delay),
      clearTimeout: (timer) => world.timers.splice(0, Infinity, ...world.timers.filter((other) => other !== timer)),
      fetch: (url, request) => this.fetch(url, request),
    });
    this.window.window = this.window;
    Object.defineProperty(this.window, 'localStorage', { get: () => storageOf(world, options.storage) });
    options.before?.(this.window);
    source.script.runInContext(this.window);
  }

  get churn() { return this.window.ChurnPredictor; }

  /** Closed as a tab is: nothing runs in it any more, what it sent is still under way. */
  close() {
    this.document.visibilityState = 'hidden';
    for (const name of ['visibilitychange', 'pagehide']) this.fire(name);
    this.open = false;
    this.world.timers = this.world.timers.filter((timer) => timer.page !== this);
  }

  fire(name) { for (const listener of this.listeners[name] ?? []) listener({ type: name }); }

  listen(name, listener) { (this.listeners[name] ??= []).push(listener); }

  later(run, delay) {
    const timer = { page: this, at: this.world.time + Math.max(0, delay || 0), run };
    this.world.timers.push(timer);
    return timer;
  }

  navigator({ doNotTrack = null, globalPrivacyControl, noLocks }) {
    const { world } = this;
    const request = async (name, { ifAvailable }, work) => {
      if (!ifAvailable) throw new Error('not made for that');
      if (world.locks.has(name)) return work(null);
      world.locks.add(name);
      try { return await work({ name }); } finally { world.locks.delete(name); }
    };
    const sendBeacon = (url, body) => {
      this.world.requests.push({ url, beacon: true, status: 202, json: JSON.parse(body) });
      return true;
    };
    return { doNotTrack, globalPrivacyControl, onLine: true, sendBeacon, ...(noLocks ? {} : { locks: { request } }) };
  }

  async fetch(url, { body, ...rest }) {
    const request = { url, ...rest, json: JSON.parse(body), bytes: Buffer.byteLength(body), at: this.world.time };
    this.world.requests.push(request);
    const { status, headers = {}, body: said = '' } = await this.world.answer(request);
    request.status = status;
    if (!this.open) return new Promise(() => {});
    return { status, ok: status >= 200 && status < 300, headers: new Headers(headers), text: async () => said };
  }
}

/** Dates of the world's time. */
function datesOf(world) {
  return class extends Date {
    constructor(...given) { super(...(given.length ? given : [world.time])); }
    static now() { return world.time; }
  };
}

/** The origin's storage as a page sees it: ready, `full`, or `forbidden`. */
function storageOf(world, kind = 'ready') {
  if (kind === 'forbidden') throw new Error('SecurityError');
  const methods = {
    getItem: (name) => world.storage.get(name) ?? null,
    removeItem: (name) => void world.storage.delete(name),
    setItem: (name, value) => {
      if (kind === 'full') throw new Error('QuotaExceededError');
      world.storage.set(name, String(value));
    },
  };
  return new Proxy(methods, {
    ownKeys: () => [...world.storage.keys()],
    getOwnPropertyDescriptor: (_, name) => ({ value: world.storage.get(name), enumerable: true, configurable: true }),
  });
}

/** Everything that waits for nothing but itself is done afterwards. */
async function settle() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
