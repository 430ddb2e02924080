"""nats-py publishes events, and reads the alerts that they raise."""

import asyncio
import json
import os

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

ACCOUNT = os.environ["CHURND_ACCOUNT"]


async def main() -> dict:
    connection = await nats.connect(os.environ["CHURND_NATS_URL"])
    jetstream = connection.jetstream()

    async def publish(token: str, body: dict):
        headers = {"Nats-Msg-Id": f"{ACCOUNT}:{body['id']}"}
        return await jetstream.publish(f"churn.events.{ACCOUNT}.{token}", json.dumps(body).encode(), headers=headers)

    events = [{"event": f"natspy_{n}", "id": f"natspy-{n}"} for n in range(200)]
    for n, event in enumerate(events):
        await publish(f"npy-{n % 10}", event)
    again = await publish("npy-0", events[0])
    assert again.duplicate, "a repeated event was stored again"
    await publish("npy", {"event": "payment_failed", "id": "natspy-failed"})

    subject = f"churn.alerts.{ACCOUNT}.*.npy.*"
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, deliver_policy=DeliverPolicy.ALL)
    alerts = await jetstream.pull_subscribe(subject, stream="CHURN_ALERTS", config=config)
    [alert] = await alerts.fetch(1, timeout=30)
    await alert.ack_sync()
    body = json.loads(alert.data)
    found = {name: body[name] for name in ("kind", "customerId", "score", "level")}
    wanted = {"kind": "risk.raised", "customerId": "npy", "score": 40, "level": "medium"}
    assert found == wanted, f"an unexpected alert: {body}"
    await connection.drain()
    return {"events": [event["event"] for event in events] + ["payment_failed"]}


print(json.dumps(asyncio.run(main())))
