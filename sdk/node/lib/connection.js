'use strict';

const { setMaxListeners } = require('node:events');
const http = require('node:http');
const https = require('node:https');
const { setTimeout: sleep } = require('node:timers/promises');
const { urlToHttpOptions } = require('node:url');
const { ChurnPredictorError } = require('./error.js');

const FIRST_PAUSE = 200; // ms
const LONGEST_PAUSE = 30_000; // ms, before jitter
const LONGEST_RETRY_AFTER = 300_000; // ms

/** Requests over kept connections, each tried again while that may help. */
class Connection {
  #base;
  #headers;
  #agent;
  #timeout;
  #retries;
  #notBefore = 0; // the server asked for a pause: no request before
  #closing = new AbortController();

  constructor({ host, key, timeout, retries, connections, version }) {
    setMaxListeners(0, this.#closing.signal);
    this.#base = baseOf(host);
    this.#headers = { 'x-api-key': key, accept: 'application/json', 'user-agent': `churnpredictor-node/${version}` };
    this.#timeout = timeout;
    this.#retries = retries;
    const { Agent } = this.#base.protocol === 'https:' ? https : http;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  /** The answer's JSON; fails when the server refuses, or does not answer well in any of the tries. */
  async request(method, path, body) {
    for (let attempt = 0; ; attempt++) {
      await this.#wait(this.#notBefore - Date.now());
      let failure, pause = 0;
      try {
        const answer = await this.#once(method, path, body);
        if (answer.status >= 200 && answer.status < 300) return bodyOf(answer);
        failure = ChurnPredictorError.fromAnswer(answer);
        if (!isTransient(answer.status)) throw failure;
        pause = retryAfter(answer.headers['retry-after']);
        this.#notBefore = Math.max(this.#notBefore, Date.now() + pause);
      } catch (error) {
        if (error === failure || error.code === 'bad_answer') throw error;
        const message = `${this.#base.origin} cannot be reached: ${error.message || error.code}`;
        failure = new ChurnPredictorError('unreachable', message, { cause: error });
      }
      if (attempt >= this.#retries) throw failure;
      await this.#wait(Math.max(pause, backoff(attempt)), failure);
    }
  }

  /** Ends pauses and connections; requests under way fail. */
  close() {
    this.#closing.abort();
    this.#agent.destroy();
  }

  async #wait(ms, failure) {
    if (ms > 0) await sleep(ms, undefined, { signal: this.#closing.signal }).catch(() => {});
    if (this.#closing.signal.aborted) throw failure ?? new ChurnPredictorError('closed', 'the client is closed');
  }

  #once(method, path, body) {
    return new Promise((resolve, reject) => {
      const headers = { ...this.#headers };
      if (body !== undefined) {
        headers['content-type'] = 'application/json';
        headers['content-length'] = Buffer.byteLength(body);
      }
      const { request } = this.#base.protocol === 'https:' ? https : http;
      // The path is put together as text: a URL would take a customer called `..` for a step up.
      const whole = { ...urlToHttpOptions(this.#base), path: this.#base.pathname + path };
      const asked = request({ ...whole, method, headers, agent: this.#agent }, (response) => {
        const parts = [];
        response.on('data', (part) => parts.push(part));
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode, headers: response.headers, text: Buffer.concat(parts).toString() });
        });
      });
      const timer = setTimeout(() => asked.destroy(new Error(`no answer within ${this.#timeout} ms`)), this.#timeout);
      function fail(error) {
        clearTimeout(timer);
        reject(error);
      }
      asked.on('error', fail);
      asked.end(body);
    });
  }
}

/** The address with a slash at its end, so that paths are taken below it. */
function baseOf(host) {
  let base;
  try {
    base = new URL(host.endsWith('/') ? host : `${host}/`);
  } catch {
    base = undefined;
  }
  if (!base || !/^https?:$/.test(base.protocol)) {
    throw new ChurnPredictorError('invalid_argument', 'host must be an address such as https://churn.example.com');
  }
  return base;
}

function bodyOf({ status, text }) {
  if (!text) return undefined;
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = `the server answered ${status} with something that is not JSON`;
    throw new ChurnPredictorError('bad_answer', message, { status, cause });
  }
}

/** Answers after which the same request may succeed. */
function isTransient(status) {
  return status === 408 || status === 429 || status >= 500;
}

/** Milliseconds that the header asks for: seconds, or a date. */
function retryAfter(header) {
  if (!header) return 0;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Math.min(Math.max(ms || 0, 0), LONGEST_RETRY_AFTER);
}

function backoff(attempt) {
  return Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt) * (0.5 + Math.random());
}

module.exports = { Connection };
