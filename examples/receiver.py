"""A webhook receiver in Python's standard library: python3 receiver.py SECRET [PORT]"""

import hashlib
import hmac
import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = sys.argv[1].encode()
PORT = int(sys.argv[2] if len(sys.argv) > 2 else os.environ.get("PORT", 9000))

todo = queue.Queue()  # in production: a table or a queue that survives a crash, written before the answer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))  # the raw bytes: what was signed
        expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        genuine = hmac.compare_digest(expected.encode(), self.headers.get("X-Mathub-Signature", "").encode())
        if genuine:
            todo.put((self.headers["webhook-id"], body))  # the work comes after the answer
        self.send_response(204 if genuine else 401)
        self.end_headers()


def work():
    seen = set()  # in production: a unique key in the database, set in the transaction that does the work
    while True:
        event_id, body = todo.get()
        if event_id in seen:
            continue  # the same webhook-id may come twice: do the work once
        seen.add(event_id)
        event = json.loads(body)
        print(event_id, event["event"], event["data"], flush=True)


threading.Thread(target=work, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
