// Verifies webhooks with the reference package of Standard Webhooks: each request by each secret, and none that was changed.
import { Webhook } from 'standardwebhooks';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { requests, secrets, now } = JSON.parse(Buffer.concat(chunks).toString());

// The package compares with the clock.
Date.now = () => now * 1000;
const RealDate = Date;
globalThis.Date = class extends RealDate {
  constructor(...parts) {
    super(...(parts.length > 0 ? parts : [now * 1000]));
  }
  static now = () => now * 1000;
};

let [verified, refused] = [0, 0];
for (const { headers, body } of requests) {
  for (const secret of secrets) {
    new Webhook(secret).verify(body, headers);
    verified += 1;
    try {
      new Webhook(secret).verify(body.replace('score', 'scare'), headers);
    } catch {
      refused += 1;
    }
  }
}
console.log(JSON.stringify({ verified, refused }));
