"""A webhook receiver in Python's standard library: python3 receiver.py SECRET [PORT]

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
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if len(sys.argv) < 2:
    sys.exit("usage: python3 receiver.py SECRET [PORT]")
SECRET = sys.argv[1]
if "whpk_" in SECRET:
    sys.exit("that is a public key: anyone could sign with it as a secret")
# The key of a secret whsec_… is what the base64 says; any other is its own key.
KEY = base64.b64decode(SECRET.removeprefix("whsec_")) if SECRET.startswith("whsec_") else SECRET.encode()
if not KEY:
    sys.exit("the secret is empty: anyone could sign with it")
PORT = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PORT", 9000))
TOLERANCE = 5 * 60  # seconds, either way
LIMIT = 300 << 10  # bytes of a body: no event is so large

todo = queue.Queue()  # in production: a table or a queue that survives a crash, written before the answer


def genuine(headers, body):
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False  # too old or too new: a replay, or a clock that is wrong
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    # Several signatures come while a secret is changed; one that is right will do.
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any([hmac.compare_digest(expected, signature) for signature in signatures])


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        if "Content-Length" not in self.headers:
            return self.send_error(411)  # a proxy's chunks, which http.server does not read; the package mathub-webhooks does
        length = int(self.headers["Content-Length"])
        if not 0 <= length <= LIMIT:
            return self.send_error(413)
        body = self.rfile.read(length)  # the raw bytes: what was signed
        ok = genuine(self.headers, body)
        if ok:
            todo.put((self.headers["webhook-id"], body))  # the work comes after the answer
        self.send_response(200 if ok else 401)
        self.end_headers()
        if ok and self.headers["X-Mathub-Event"] == "webhook.verify":
            self.wfile.write(json.loads(body)["data"]["nonce"].encode())  # yes, this endpoint wants the webhook's deliveries


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
    server = ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
except OSError as error:
    sys.exit(f"port {PORT}: {error.strerror}; give another as PORT or as the last argument")
threading.Thread(target=work, daemon=True).start()
server.serve_forever()
