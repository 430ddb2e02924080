declare class ChurnPredictor {
  /** @param key a secret key (`sk_…`); a publishable one may only track and identify */
  constructor(key: string, options?: ChurnPredictor.Options);

  /** Resolves once the server has stored the event. */
  track(event: ChurnPredictor.Event): Promise<{ id: string }>;

  /** Says what is known of a customer, and which of Stripe's it is. */
  identify(customer: ChurnPredictor.Identity): Promise<unknown>;

  /** A customer's score, its reasons and its forecast. */
  risk(customerId: ChurnPredictor.Id, options?: { asOf?: ChurnPredictor.Time }): Promise<ChurnPredictor.Risk>;

  /** A page of customers; the parameters are those of `GET /api/customers`. */
  customers(parameters?: ChurnPredictor.CustomersQuery): Promise<ChurnPredictor.CustomersPage>;

  /** Resolves when everything under way is settled; each call's own promise says how it went. */
  flush(): Promise<void>;

  /** Takes nothing more, waits for what is under way, at most `timeout` ms, and closes the connections. */
  close(options?: { timeout?: number }): Promise<void>;
}

declare namespace ChurnPredictor {
  export { ChurnPredictor };

  /** Why a call failed. */
  export class ChurnPredictorError extends Error {
    /** For programs: the server's own code, or `invalid_argument`, `queue_full`, `unreachable`, `bad_answer`, `closed`. */
    readonly code: string;
    /** The HTTP status, if the server answered. */
    readonly status?: number;
  }

  export interface Options {
    /** Where churnd is. Default: `$CHURNPREDICTOR_HOST`, else `http://127.0.0.1:8080`. */
    host?: string;
    /** Milliseconds that one try may take. Default: 15000. */
    timeout?: number;
    /** Tries after the first one. Default: 8, about a minute in all. */
    retries?: number;
    /** Milliseconds in which concurrent calls gather into one request. Default: 5. */
    linger?: number;
    /** Events in one request. Default: 500. */
    batchEvents?: number;
    /** Bytes in one request. Default: 400000. */
    batchBytes?: number;
    /** Connections, and requests at a time. Default: 4. */
    connections?: number;
    /** Events that may be under way before `track` is refused. Default: 10000. */
    queue?: number;
  }

  /** Numbers are written as text. */
  export type Id = string | number | bigint;
  /** A Date, milliseconds since 1970, or RFC 3339. */
  export type Time = Date | number | string;

  export interface Event {
    customerId: Id;
    event: string;
    properties?: object | null;
    /** When it happened. Default: now. */
    timestamp?: Time;
    /** Repeats under the same id count once. Default: a random one. */
    id?: string;
    userId?: Id | null;
  }

  export interface Identity {
    customerId: Id;
    traits?: object | null;
    stripeCustomerId?: string;
  }

  export type Level = 'low' | 'medium' | 'high';

  export interface Risk {
    customerId: string;
    /** 0 is safe, 100 is at risk. */
    score: number;
    level: Level;
    /** In plain words, such as `No login for 20 days`. */
    factors: string[];
    suggestedAction: string | null;
    asOf: string;
    /** Everything else that the server tells. */
    [field: string]: unknown;
  }

  export interface CustomersQuery {
    level?: Level;
    sort?: string;
    limit?: number;
    cursor?: string;
    [parameter: string]: string | number | boolean | null | undefined;
  }

  export interface CustomersPage {
    [field: string]: unknown;
  }
}

export = ChurnPredictor;
