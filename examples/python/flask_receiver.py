"""A webhook receiver in Flask: python3 flask_receiver.py whsec_… [PORT]

It verifies the Standard Webhooks signature, which covers the event's id and the time: a request that is sent again under
another webhook-id, or later, is refused.
"""

import base64
import hashlib
import hmac
import json
import logging
import os
import queue
import socket
import sys
import threading
import time

from flask import Flask, abort, request

if len(sys.argv) < 2:
    sys.exit("usage: python3 flask_receiver.py whsec_… [PORT]")
KEY = base64.b64decode(sys.argv[1].removeprefix("whsec_"))  # the key is what the base64 says, not its letters
if not KEY:
    sys.exit("the secret is empty: anyone could sign with it")
PORT = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PORT", 9000))
TOLERANCE = 5 * 60  # seconds, either way
LIMIT = 300 << 10  # bytes of a body: no event is so large

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = LIMIT
todo = queue.Queue()  # in production: a table or a queue that survives a crash, written before the answer


@app.post("/")
def receive():
    if (request.content_length or 0) > LIMIT:
        abort(413)  # for an old Flask, MAX_CONTENT_LENGTH is of forms only
    body = request.get_data()  # the raw bytes, not request.json: what was signed
    timestamp = request.headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        abort(401)  # too old or too new: a replay, or a clock that is wrong
    signed = f"{request.headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    # Several signatures come while a secret is changed; one that is right will do.
    signatures = request.headers.get("webhook-signature", "").encode().split(b" ")
    if not any([hmac.compare_digest(expected, signature) for signature in signatures]):
        abort(401)
    todo.put((request.headers["webhook-id"], body))  # the work comes after the answer
    # A webhook.verify is answered with its nonce: yes, this endpoint wants the webhook's deliveries.
    return json.loads(body)["data"]["nonce"] if request.headers.get("X-Mathub-Event") == "webhook.verify" else ""


def work():
    seen = set()  # in production: a unique key in the database, set in the transaction that does the work
    while True:
        event_id, body = todo.get()
        if event_id in seen:
            continue  # the same webhook-id may come twice: do the work once
        seen.add(event_id)
        try:
            event = json.loads(body)
            print(event_id, event["event"], event["data"], flush=True)
        except Exception:  # the others' work goes on; in production, try this one again
            logging.exception("event %s", event_id)


try:
    socket.create_server(("127.0.0.1", PORT)).close()
except OSError as error:
    sys.exit(f"port {PORT}: {error.strerror}; give another as PORT or as the last argument")
threading.Thread(target=work, daemon=True).start()
app.run("127.0.0.1", PORT)
