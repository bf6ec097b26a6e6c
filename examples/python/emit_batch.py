"""Emits several events at once over the service API, with Python's standard library: python3 emit_batch.py

MATHUB_API says where the API is (http://127.0.0.1:8080), MATHUB_SERVICE_TOKEN is the service token.
"""

import json
import os
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone


def emit_batch(events, deadline):
    """Emits up to 100 events, of 1 MiB of JSON in all: the service accepts all of them, or none.

    While it is away or busy, they are emitted again with the same ids, until the deadline (of time.monotonic). No id may
    stand twice among them.
    """
    request = urllib.request.Request(
        os.environ.get("MATHUB_API", "http://127.0.0.1:8080") + "/api/internal/v1/events/batch",
        data=json.dumps({"events": events}).encode(),
        headers={"Authorization": "Bearer " + os.environ["MATHUB_SERVICE_TOKEN"], "Content-Type": "application/json"},
    )
    pause = 0.1
    while True:
        wait = pause
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                receipts = json.load(response)
            if [receipt["id"] for receipt in receipts] != [event["id"] for event in events]:
                raise RuntimeError("the answer is not the service's, but such as a proxy's")
            return receipts
        except urllib.error.HTTPError as error:
            trouble = f"HTTP {error.code}: {error.read().decode(errors='replace')}"
            if error.code < 500 and error.code not in (408, 429):
                raise RuntimeError(trouble) from None  # an event is at fault, or the token: again would be in vain
            after = error.headers.get("Retry-After") or ""
            wait = max(wait, int(after) if after.isdigit() else 0)  # that of a proxy may be a date
        except OSError as error:  # no answer
            trouble = str(error)
        if time.monotonic() + wait > deadline:
            raise TimeoutError("not accepted in time; the last answer: " + trouble)
        time.sleep(wait)
        pause = min(2 * pause, 10)


events = [
    {
        "id": event_id,  # derived from what happened: whoever emits it again, after an error or a crash, emits the same event
        "event": "post.created",
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "data": {"postId": f"pst_{n}", "threadId": "thr_1", "body": "The bound in (3) can be improved.", "authorId": "usr_1"},
    }
    for n, event_id in enumerate(os.environ.get("EVENT_IDS", "post-created-pst_1,post-created-pst_2").split(","), start=1)
]
for receipt in emit_batch(events, time.monotonic() + 60):
    print("accepted before" if receipt["duplicate"] else "accepted", receipt["id"])
