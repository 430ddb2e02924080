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

  export type Status = 'active' | 'churned' | (string & {});

  /** In the currency's minor units. */
  export interface Money {
    amount: number;
    currency: string;
  }

  export interface Risk {
    customerId: string;
    /** 0 is safe, 100 is at risk. */
    score: number;
    level: Level;
    /** In plain words, such as `No login for 20 days`. */
    factors: string[];
    suggestedAction: string | null;
    details: Array<{ factor: string; points: number; reason: string }>;
    status: Status;
    /** What the customer brings a month. */
    mrr: Money | null;
    asOf: string;
    /** What silence would do next. */
    forecast: Array<Record<string, unknown>>;
  }

  export interface CustomersQuery {
    level?: 'at_risk' | Level | 'any';
    status?: 'active' | 'churned' | 'any';
    /** The beginning of an id, or of a company's name. */
    search?: string;
    sort?: 'score' | 'mrr' | 'mrr_at_risk';
    limit?: number;
    /** `nextCursor` of the page before. */
    cursor?: string | null;
  }

  export interface CustomersPage {
    customers: CustomerEntry[];
    /** By level; on the first page only. */
    totals: Array<{ level: Level; customers: number; mrr: Money[] }> | null;
    truncated: boolean;
    /** Where the next page begins; null on the last. */
    nextCursor: string | null;
  }

  export interface CustomerEntry {
    customerId: string;
    companyName: string | null;
    score: number;
    level: Level;
    status: Status;
    mrr: Money | null;
    mrrAtRisk: Money | null;
    changesAt: string | null;
    updatedAt: string;
  }
}

export = ChurnPredictor;
