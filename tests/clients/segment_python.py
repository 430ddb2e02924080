"""segment-analytics-python, told another host and nothing else; with gzip and without."""

import json
import os

from segment.analytics.client import Client

failures = []
events = []
for name, gzip in (("plain", False), ("gzip", True)):
    client = Client(
        os.environ["CHURND_PUBLISHABLE_KEY"],
        host=os.environ["CHURND_URL"],
        gzip=gzip,
        max_retries=2,
        on_error=lambda error, items: failures.append(f"{error} for {len(items)} items"),
    )
    for n in range(250):
        event = f"segpy_{name}_{n}"
        events.append(event)
        client.track(f"segpy-{n % 10}", event, {"n": n}, message_id=event)
    client.track("segpy-0", f"segpy_{name}_0", {"n": 0}, message_id=f"segpy_{name}_0")
    client.identify("segpy-0", {"plan": "team"})
    client.shutdown()

assert not failures, failures
print(json.dumps({"events": events}))
