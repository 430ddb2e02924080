/*
 * track.js: tells churnd from a web page what a customer does.
 *
 *   <script src="https://HOST/track.js"></script>
 *   <script>
 *     ChurnPredictor.init('pk_...');
 *     ChurnPredictor.track('login', { userId: '123' });
 *     ChurnPredictor.identify('123', { plan: 'team' });
 *   </script>
 *
 * What was tracked is stored before it is sent and forgotten once the server has it, so that it survives a closed tab,
 * a lost network and a server that is away. Each event has an id: the server counts repeats once.
 *
 * An event is stored under a name of its own, so tabs never overwrite each other's:
 *
 *   churn:<key>:<time, base 36><page>-<number><kind>     kind: t = track, i = identify
 *
 * Names sort by time. The value is the JSON that is sent, so sending is joining. Nothing here may throw into the page.
 *
 * track.min.js, which the daemon serves, is made from this file by build.mjs and must stay within 2 KB gzipped.
 */
(() => {
  const MAX_EVENT = 32768; // bytes; the server refuses larger ones
  const MAX_BATCH = 60000; // bytes; browsers let 64 KiB outlive a page
  const MAX_STORED = 500; // events; the oldest are dropped
  const LINGER = 1000; // ms in which events gather
  const TIMEOUT = 30000; // ms that an answer may take
  const MAX_BACKOFF = 60000; // ms, before jitter
  const MAX_PAUSE = 3600000; // ms that the server may make us wait

  const global = window;
  const { document, navigator } = global;

  /** Who loads the script early leaves calls in `q`: [['init', ['pk_…']], …]. */
  const stub = global.ChurnPredictor || { q: [] };
  if (!stub.q) return;

  /** This load of the page: 128 random bits, so that page and number together are an event's id. */
  const page = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => (byte + 256).toString(16).slice(1)).join('');
  const script = document.currentScript;
  /** What localStorage does not take. */
  const memory = {};
  /** Names that are under way. */
  const flying = {};

  let host, key, prefix; // from init
  let silent; // the visitor asked not to be tracked
  let customer; // as identified
  let count = 0;
  let failures = 0; // in a row
  let timer; // of the next flush; while it is set nothing is sent, except when the page goes
  let notBefore = 0; // until then the server wants no requests

  // -- the store ------------------------------------------------------------------------------------------------------

  const quietly = (action) => {
    try {
      return action();
    } catch (error) {
      // Storage may be forbidden, locks may not exist.
    }
  };

  const put = (name, value) => {
    try {
      localStorage.setItem(name, value);
    } catch (error) {
      memory[name] = value;
    }
  };

  const get = (name) => memory[name] || quietly(() => localStorage.getItem(name));

  const drop = (name) => {
    delete memory[name];
    quietly(() => localStorage.removeItem(name));
  };

  /** All stored events, of other tabs and earlier pages too, the oldest first. */
  const names = () =>
    Object.keys(memory)
      .concat(quietly(() => Object.keys(localStorage)) || [])
      .filter((name) => name.startsWith(prefix + ':'))
      .sort();

  const waiting = () => names().filter((name) => !flying[name]);

  const bytes = (text) => new Blob([text]).size;

  const warn = (...what) => console.warn('ChurnPredictor:', ...what);

  // -- sending --------------------------------------------------------------------------------------------------------

  /** What one request can hold: one identify, or as many events as fit. */
  const fitting = (from) => {
    const kind = (from[0] || '').slice(-1);
    let size = 0;
    return from
      .filter((name) => name.endsWith(kind) && (size += bytes(get(name)) + 1) < MAX_BATCH)
      .slice(0, kind == 'i' ? 1 : MAX_STORED);
  };

  /** Sends a batch; true when the server is done with it. What it is not done with stays stored. */
  const transmit = async (batch, leaving) => {
    const isIdentify = batch[0].endsWith('i');
    const url = `${host}/api/${isIdentify ? 'identify' : 'track/batch'}?key=${encodeURIComponent(key)}`;
    const items = batch.map(get).filter(Boolean).join();
    const body = isIdentify ? items : `{"sentAt":"${new Date().toISOString()}","events":[${items}]}`;
    if (leaving && !('keepalive' in Request.prototype)) {
      // Older browsers send this after the page is gone, and never tell how it went.
      if (navigator.onLine && navigator.sendBeacon(url, body)) batch.forEach(drop);
      return;
    }
    batch.forEach((name) => (flying[name] = 1));
    let pause = 0;
    try {
      // A body that is a string needs no preflight: the request goes out even while the page is closing.
      const options = { method: 'POST', body, keepalive: true, credentials: 'omit' };
      if (AbortSignal.timeout) options.signal = AbortSignal.timeout(TIMEOUT);
      const answer = await fetch(url, options);
      const { status } = answer;
      if (status != 408 && status != 429 && status < 500) {
        batch.forEach(drop);
        failures = 0;
        const said = await answer.text();
        if (!answer.ok || said.includes('"rejected"')) warn(status, said);
        return true;
      }
      const after = answer.headers.get('Retry-After');
      pause = Math.min(after * 1e3 || Date.parse(after) - Date.now() || 0, MAX_PAUSE);
    } catch (error) {
      // No network, no server, or no answer in time.
    } finally {
      batch.forEach((name) => delete flying[name]);
    }
    notBefore = Date.now() + pause;
    later(Math.max(pause, Math.min(MAX_BACKOFF, 1e3 * 2 ** failures++) * (0.5 + Math.random())));
  };

  const drain = async () => {
    let batch;
    while ((batch = fitting(waiting())).length && (await transmit(batch)));
  };

  /** One tab at a time sends what all have stored; where browsers have no locks, ids make repeats harmless. */
  const flush = () => {
    timer = 0;
    if (silent || !waiting().length) return;
    const locked = quietly(() =>
      navigator.locks.request(prefix, { ifAvailable: true }, (lock) => (lock ? drain() : later(1e3)))
    );
    locked ? locked.catch(drain) : drain();
  };

  const later = (delay) => {
    timer = timer || setTimeout(flush, delay);
  };

  const now = () => {
    clearTimeout(timer);
    timer = 0;
    later(notBefore - Date.now());
  };

  /** The page may be gone in a moment: its own events leave at once, past locks and backoff. */
  const leave = () => {
    let own = !key || silent || Date.now() < notBefore ? [] : waiting().filter((name) => name.includes(page));
    while (own.length) {
      const batch = fitting(own);
      own = own.filter((name) => !batch.includes(name));
      transmit(batch, 1);
    }
  };

  // -- what pages call ------------------------------------------------------------------------------------------------

  const enqueue = (kind, item) => {
    const time = new Date();
    const id = page + '-' + ++count;
    const text = JSON.stringify({ ...item, timestamp: time.toISOString(), id });
    if (bytes(text) > MAX_EVENT) return warn('too large', item.event);
    put(prefix + ':' + time.getTime().toString(36) + id + kind, text);
    names().slice(0, -MAX_STORED).forEach(drop);
    later(LINGER);
  };

  const api = {
    /** Must come first. Options: `host` if the API is not where the script came from, `respectDnt`. */
    init(publishableKey, options = {}) {
      silent = options.respectDnt && (navigator.doNotTrack == 1 || navigator.globalPrivacyControl);
      host = options.host || new URL((script || location).src || location).origin;
      key = publishableKey;
      prefix = 'churn:' + key;
      customer = get(prefix);
      now();
    },

    /** Who the visitor is, from now on and on later pages. */
    identify(customerId, traits) {
      customer = customerId + '';
      put(prefix, customer);
      enqueue('i', { customerId: customer, traits, stripeCustomerId: (traits || {}).stripeCustomerId });
    },

    /** What the visitor did. Without identify, `properties.customerId` or `properties.userId` says who it was. */
    track(event, properties) {
      const { customerId, userId } = properties || {};
      const who = customer || customerId || userId;
      who ? enqueue('t', { customerId: who + '', event, properties }) : warn('nobody identified', event);
    },

    /** Forgets who the visitor is, for logging out. What was tracked before is still sent. */
    reset() {
      customer = '';
      drop(prefix);
    },
  };

  /** Calls that came before init. */
  const early = [];

  const call = (name, values) => {
    try {
      if (name == 'init') {
        api.init(...values);
        early.splice(0).forEach((it) => call(...it));
      } else if (!key) {
        if (early.length < MAX_STORED) early.push([name, values]);
      } else if (!silent) {
        api[name](...values);
      }
    } catch (error) {
      warn(name, error);
    }
  };

  const ChurnPredictor = {};
  Object.keys(api).forEach((name) => (ChurnPredictor[name] = (...values) => call(name, values)));
  global.ChurnPredictor = ChurnPredictor;
  stub.q.forEach((it) => call(...it));

  document.addEventListener('visibilitychange', () => document.visibilityState == 'hidden' && leave());
  global.addEventListener('pagehide', leave);
  global.addEventListener('online', () => key && now());
})();
