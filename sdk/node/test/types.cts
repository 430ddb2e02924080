// Checked by the compiler only: what the types allow, and what they do not.
import ChurnPredictor = require('@churnpredictor/node');

export async function use(): Promise<string[]> {
  const cp = new ChurnPredictor('sk_...', { host: 'https://churn.example.com', retries: 3 });
  const { id }: { id: string } = await cp.track({ customerId: 'cus_123', event: 'login', properties: {} });
  await cp.track({ customerId: 5, event: id, timestamp: new Date(), userId: null });
  await cp.identify({ customerId: 'cus_123', traits: { plan: 'team' }, stripeCustomerId: 'cus_1' });
  const risk: ChurnPredictor.Risk = await cp.risk('cus_123', { asOf: '2026-03-01T12:00:00Z' });
  const level: 'low' | 'medium' | 'high' = risk.level;
  await cp.customers({ level, limit: 10 });
  await cp.close({ timeout: 1000 });
  // @ts-expect-error: an event needs a name
  await cp.track({ customerId: 'cus_123' });
  // @ts-expect-error: a key is needed
  new ChurnPredictor();
  // @ts-expect-error: there is no such option
  new ChurnPredictor('sk_...', { hots: '' });
  return risk.factors;
}
