// nats.js publishes events, and reads the alerts that they raise.
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, headers } from '@nats-io/transport-node';
import { env, run } from './harness.mjs';

const ACCOUNT = env('CHURND_ACCOUNT');

await run(async () => {
  const connection = await connect({ servers: env('CHURND_NATS_URL') });
  const js = jetstream(connection);

  const publish = async (token, body) => {
    const message = headers();
    message.set('Nats-Msg-Id', `${ACCOUNT}:${body.id}`);
    return js.publish(`churn.events.${ACCOUNT}.${token}`, JSON.stringify(body), { headers: message });
  };
  const events = Array.from({ length: 200 }, (_, n) => ({ event: `natsjs_${n}`, id: `natsjs-${n}` }));
  for (const [n, event] of events.entries()) await publish(`njs-${n % 10}`, event);
  const again = await publish('njs-0', events[0]);
  if (!again.duplicate) throw new Error('a repeated event was stored again');
  await publish('njs=40x=2Eorg', { event: 'payment_failed', id: 'natsjs-failed', customerId: 'njs@x.org' });

  const manager = await jetstreamManager(connection);
  const { name } = await manager.consumers.add('CHURN_ALERTS', {
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    filter_subject: `churn.alerts.${ACCOUNT}.*.njs=40x=2Eorg.*`,
    inactive_threshold: 60e9,
  });
  const consumer = await js.consumers.get('CHURN_ALERTS', name);
  const alert = await consumer.next({ expires: 30_000 });
  if (!alert) throw new Error('no alert came');
  await alert.ackAck();
  const body = alert.json();
  if (body.kind !== 'risk.raised' || body.customerId !== 'njs@x.org' || body.score !== 40 || body.level !== 'medium') {
    throw new Error(`an unexpected alert: ${JSON.stringify(body)}`);
  }
  await connection.drain();
  return { events: [...events.map(({ event }) => event), 'payment_failed'] };
});
