'use strict';

const { randomUUID } = require('node:crypto');
const { version } = require('./package.json');
const { Batcher } = require('./lib/batcher.js');
const { Connection } = require('./lib/connection.js');
const { ChurnPredictorError } = require('./lib/error.js');

const DEFAULTS = {
  host: 'http://127.0.0.1:8080', // where churnd listens by default
  timeout: 15_000, // ms for one try
  retries: 8, // after the first try, about a minute in all
  linger: 5, // ms in which concurrent calls gather
  batchEvents: 500,
  batchBytes: 400_000,
  connections: 4,
  queue: 10_000, // events held at the most
};

/** A client of churnd: it tells what customers do, and asks how likely they are to leave. */
class ChurnPredictor {
  #connection;
  #batcher;
  #pending = new Set();
  #closed = false;

  constructor(key, options = {}) {
    if (typeof key !== 'string' || key === '') {
      throw invalid('a key is needed, such as new ChurnPredictor("sk_...")');
    }
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const unknown = given.find(([name]) => !(name in DEFAULTS));
    if (unknown) throw invalid(`there is no option ${unknown[0]}`);
    const settings = { ...DEFAULTS, ...hostOf(process.env), ...Object.fromEntries(given) };
    this.#connection = new Connection({ ...settings, key, version });
    const { linger, batchEvents: events, batchBytes: bytes, connections: requests, queue } = settings;
    this.#batcher = new Batcher({ linger, events, bytes, requests, queue }, (bodies) => this.#sendBatch(bodies));
  }

  /** Resolves with the event's id once the server has stored it. */
  async track({ customerId, event, properties, timestamp, id = randomUUID(), userId } = {}) {
    this.#mustBeOpen();
    const item = {
      customerId: idOf(customerId, 'customerId'),
      event: textOf(event, 'event'),
      properties: objectOf(properties, 'properties'),
      timestamp: timeOf(timestamp ?? new Date(), 'timestamp'),
      id: textOf(id, 'id'),
      userId: userId === undefined || userId === null ? undefined : idOf(userId, 'userId'),
    };
    await this.#batcher.add(jsonOf(item));
    return { id };
  }

  /** Says what is known of a customer, and which of Stripe's it is. */
  async identify({ customerId, traits, stripeCustomerId } = {}) {
    const item = {
      customerId: idOf(customerId, 'customerId'),
      traits: objectOf(traits, 'traits'),
      stripeCustomerId: stripeCustomerId === undefined ? undefined : textOf(stripeCustomerId, 'stripeCustomerId'),
    };
    return this.#request('POST', 'api/identify', jsonOf(item));
  }

  /** A customer's score, its reasons and its forecast; as of another instant if asked so. */
  async risk(customerId, { asOf } = {}) {
    const query = queryOf({ as_of: asOf === undefined ? undefined : timeOf(asOf, 'asOf') });
    return this.#request('GET', `api/customers/${segmentOf(idOf(customerId, 'customerId'))}/risk${query}`);
  }

  /** A page of customers; the parameters are those of GET /api/customers. */
  async customers(parameters = {}) {
    return this.#request('GET', `api/customers${queryOf(parameters)}`);
  }

  /** Resolves when everything under way is settled. Each call's own promise says how it went. */
  async flush() {
    await this.#batcher.flush();
    await Promise.allSettled(this.#pending);
  }

  /** Takes nothing more, waits for what is under way, at most `timeout` ms, and closes the connections. */
  async close({ timeout } = {}) {
    this.#closed = true;
    const timer = timeout === undefined ? undefined : setTimeout(() => this.#connection.close(), timeout);
    await this.flush();
    clearTimeout(timer);
    this.#connection.close();
  }

  /** The error of each event, in order; nothing for those that the server has stored. */
  async #sendBatch(bodies) {
    let answer, failure;
    try {
      answer = await this.#connection.request('POST', 'api/track/batch', `{"events":[${bodies.join()}]}`);
    } catch (error) {
      // After the last try some events may be stored although others are not.
      if (!error.answer?.results) throw error;
      ({ answer } = failure = error);
    }
    const results = answer?.results;
    if (!Array.isArray(results) || results.length !== bodies.length) {
      throw new ChurnPredictorError('bad_answer', 'the server did not say what became of each event');
    }
    return results.map((result) => {
      if (result?.status === 'accepted') return undefined;
      if (result?.status === 'retry' && failure) return failure;
      const message = `the event was rejected: ${result?.detail || result?.code || 'no explanation'}`;
      return new ChurnPredictorError(result?.code || 'rejected', message);
    });
  }

  async #request(...request) {
    this.#mustBeOpen();
    const pending = this.#connection.request(...request);
    this.#pending.add(pending);
    try {
      return await pending;
    } finally {
      this.#pending.delete(pending);
    }
  }

  #mustBeOpen() {
    if (this.#closed) throw new ChurnPredictorError('closed', 'the client is closed');
  }
}

function hostOf({ CHURNPREDICTOR_HOST: host }) {
  return host ? { host } : {};
}

function invalid(message) {
  return new ChurnPredictorError('invalid_argument', message);
}

function textOf(value, name) {
  if (typeof value !== 'string' || value === '') throw invalid(`${name} must be a text that is not empty`);
  return value;
}

/** Ids are often numbers. */
function idOf(value, name) {
  return textOf(typeof value === 'number' || typeof value === 'bigint' ? String(value) : value, name);
}

function objectOf(value, name) {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw invalid(`${name} must be an object`);
  return value;
}

/** A Date, milliseconds since 1970, or RFC 3339. */
function timeOf(value, name) {
  const time = new Date(value);
  if (Number.isNaN(time.getTime())) throw invalid(`${name} is not a time`);
  return time.toISOString();
}

function jsonOf(value) {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw invalid(`it cannot be written as JSON: ${error.message}`);
  }
}

/** As a part of a path; dots too, which may mean a step up. */
function segmentOf(id) {
  return encodeURIComponent(id).replaceAll('.', '%2E');
}

function queryOf(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return query && `?${query}`;
}

module.exports = ChurnPredictor;
module.exports.ChurnPredictor = ChurnPredictor;
module.exports.ChurnPredictorError = ChurnPredictorError;
