// The `stripe` package signs webhooks, as Stripe does, and they are sent as Stripe sends them: some twice, one wrongly signed.
import Stripe from 'stripe';
import { env, run } from './harness.mjs';

const ADDRESS = `${env('CHURND_URL')}/webhooks/stripe?key=${env('CHURND_PUBLISHABLE_KEY')}`;
const SECRET = env('CHURND_STRIPE_SECRET');
const CUSTOMER = 'cus_stripejs';

const stripe = new Stripe('sk_test_unused');
const now = Math.floor(Date.now() / 1000);
const month = 30 * 86_400;

const webhook = (id, type, created, object) => ({
  id,
  object: 'event',
  api_version: '2026-03-25.dahlia',
  created,
  livemode: false,
  pending_webhooks: 1,
  request: { id: null, idempotency_key: null },
  type,
  data: { object },
});

const subscription = {
  id: 'sub_stripejs',
  object: 'subscription',
  customer: CUSTOMER,
  status: 'active',
  currency: 'usd',
  cancel_at: null,
  cancel_at_period_end: false,
  items: {
    object: 'list',
    data: [
      {
        id: 'si_stripejs',
        object: 'subscription_item',
        current_period_end: now + month,
        quantity: 2,
        price: {
          id: 'price_stripejs',
          object: 'price',
          currency: 'usd',
          type: 'recurring',
          unit_amount: 2_500,
          recurring: { interval: 'month', interval_count: 1, usage_type: 'licensed' },
        },
      },
    ],
  },
};
const invoice = {
  id: 'in_stripejs',
  object: 'invoice',
  customer: CUSTOMER,
  amount_due: 5_000,
  currency: 'usd',
  description: 'ümläut — 漢字 😀',
};

/** Sends the very bytes that were signed. */
async function send(event, { secret = SECRET, timestamp, payload = JSON.stringify(event, undefined, 2) } = {}) {
  const header = stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp });
  const headers = { 'content-type': 'application/json; charset=utf-8', 'stripe-signature': header };
  const answer = await fetch(ADDRESS, { method: 'POST', headers, body: payload });
  await answer.arrayBuffer();
  return answer.status;
}

async function expectStatus(wanted, what, ...given) {
  const status = await send(...given);
  if (status !== wanted) throw new Error(`${what}: answered ${status} instead of ${wanted}`);
}

await run(async () => {
  const events = [
    webhook('evt_stripejs_1', 'customer.subscription.created', now - 60, subscription),
    webhook('evt_stripejs_2', 'invoice.payment_failed', now - 30, invoice),
    webhook('evt_stripejs_3', 'a.type.of.tomorrow', now - 20, { id: 'x_1', object: 'x', customer: CUSTOMER }),
  ];
  for (const event of events) {
    // The package itself takes what it signed; churnd must as well.
    const payload = JSON.stringify(event);
    stripe.webhooks.constructEvent(payload, stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET }), SECRET);
    await expectStatus(200, event.type, event);
    await expectStatus(200, `${event.type}, once more`, event);
  }
  const forged = webhook('evt_forged', 'invoice.payment_failed', now, { ...invoice, customer: 'cus_forged' });
  await expectStatus(400, 'signed with another secret', forged, { secret: 'whsec_of_somebody_else' });
  await expectStatus(400, 'signed ten minutes ago', forged, { timestamp: now - 600 });
  return { webhooks: events.map(({ id }) => id), customer: CUSTOMER };
});
