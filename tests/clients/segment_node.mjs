// @segment/analytics-node, told another host and nothing else.
import { Analytics } from '@segment/analytics-node';
import { env, run } from './harness.mjs';

await run(async () => {
  const analytics = new Analytics({ writeKey: env('CHURND_PUBLISHABLE_KEY'), host: env('CHURND_URL') });
  const failures = [];
  analytics.on('error', (error) => failures.push(JSON.stringify(error)));
  const events = Array.from({ length: 500 }, (_, n) => `segnode_${n}`);
  for (const [n, event] of events.entries()) {
    analytics.track({ userId: `segnode-${n % 10}`, event, properties: { n }, messageId: `segnode-${n}` });
  }
  analytics.track({ userId: 'segnode-0', event: events[0], messageId: 'segnode-0' });
  analytics.identify({ userId: 'segnode-0', traits: { plan: 'team' } });
  analytics.group({ userId: 'segnode-0', groupId: 'segnode-group', traits: { seats: 5 } });
  analytics.page({ userId: 'segnode-0', name: 'home' });
  await analytics.closeAndFlush({ timeout: 30_000 });
  if (failures.length > 0) throw new Error(`failures: ${failures}`);
  return { events: [...events, 'page_view'] };
});
