'use strict';

const { ChurnPredictorError } = require('./error.js');

/**
 * Gathers calls of the same moment into one request each, a bounded number of requests at a time.
 *
 * What is queued is bounded by number, whether it waits or is under way: memory stays small while the server is away.
 */
class Batcher {
  #send; // (items) => results, one for each
  #limits;
  #waiting = [];
  #requests = new Set();
  #held = 0;
  #timer;

  /**
   * @param {{linger: number, events: number, bytes: number, requests: number, queue: number}} limits
   * @param {(bodies: string[]) => Promise<Array<Error | undefined>>} send
   */
  constructor(limits, send) {
    this.#limits = limits;
    this.#send = send;
  }

  /** Resolves when the server took it. */
  add(body) {
    if (this.#held >= this.#limits.queue) {
      const message = `${this.#held} events wait for the server already`;
      return Promise.reject(new ChurnPredictorError('queue_full', message));
    }
    this.#held++;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ body, bytes: Buffer.byteLength(body) + 1, resolve, reject });
      if (this.#waiting.length >= this.#limits.events) this.#pump();
      else this.#timer ??= setTimeout(() => this.#pump(), this.#limits.linger);
    });
  }

  /** Resolves when everything that was added is settled, one way or the other. */
  async flush() {
    while (this.#held > 0) {
      this.#pump();
      await Promise.race(this.#requests);
    }
  }

  #pump() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#waiting.length > 0 && this.#requests.size < this.#limits.requests) {
      const request = this.#deliver(this.#next()).finally(() => {
        this.#requests.delete(request);
        if (this.#waiting.length > 0) this.#pump();
      });
      this.#requests.add(request);
    }
  }

  /** As many as fit into one request. */
  #next() {
    let count = 0;
    let bytes = 0;
    for (const item of this.#waiting) {
      bytes += item.bytes;
      if (count > 0 && (bytes > this.#limits.bytes || count === this.#limits.events)) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #deliver(items) {
    let outcome;
    try {
      const errors = await this.#send(items.map((item) => item.body));
      outcome = (index) => errors[index];
    } catch (error) {
      outcome = () => error;
    }
    this.#held -= items.length;
    items.forEach((item, index) => {
      const error = outcome(index);
      if (error) item.reject(error);
      else item.resolve();
    });
  }
}

module.exports = { Batcher };
