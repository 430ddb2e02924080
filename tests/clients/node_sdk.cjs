// @churnpredictor/node as its documentation shows it, and what else it can do. The host comes from $CHURNPREDICTOR_HOST.
const ChurnPredictor = require('@churnpredictor/node');

async function main() {
  const cp = new ChurnPredictor(process.env.CHURND_SECRET_KEY);
  await cp.track({ customerId: 'cus_123', event: 'login', properties: {} });

  const events = Array.from({ length: 2_000 }, (_, n) => ({ customerId: `sdk-${n % 20}`, event: `sdk_${n}`, id: `sdk-${n}` }));
  await Promise.all(events.map((event) => cp.track(event)));
  await Promise.all(events.slice(0, 100).map((event) => cp.track(event)));

  await cp.identify({ customerId: 'sdk-odd/.. id', traits: { plan: 'team' } });
  await cp.track({ customerId: 'sdk-odd/.. id', event: 'payment_failed' });

  await refused(cp.track({ customerId: 'c'.repeat(256), event: 'login' }));
  await refused(cp.track({ customerId: 'c', event: 'login', properties: { text: 'x'.repeat(40_000) } }));
  const stranger = new ChurnPredictor('sk_of_nobody');
  const error = await refused(stranger.track({ customerId: 'c', event: 'login' }));
  if (error.status !== 401) throw new Error(`a key that does not exist was answered with ${error.status}`);
  await Promise.all([cp.close(), stranger.close()]);
  return { events: ['login', 'payment_failed', ...events.map(({ event }) => event)] };
}

async function refused(call) {
  const error = await call.then(
    () => { throw new Error('it was taken'); },
    (error) => error
  );
  if (!(error instanceof ChurnPredictor.ChurnPredictorError) || !error.code) throw error;
  return error;
}

main().then(
  (report) => console.log(JSON.stringify(report)),
  (error) => {
    console.error(error);
    process.exitCode = 1;
  }
);
