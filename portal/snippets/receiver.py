# receiver.py: python3 receiver.py
import base64, hashlib, hmac, json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = {{.Secret}}
KEY = base64.b64decode(SECRET[6:]) if SECRET.startswith("whsec_") else SECRET.encode()
if not KEY:
    raise SystemExit("the secret is empty: anyone could sign with it")

def genuine(headers, body):
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > 300:
        return False  # a replay, or a wrong clock
    signed = f"{event_id}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest())
    signatures = headers.get("webhook-signature", "").encode().split(b" ")
    return any([hmac.compare_digest(expected, s) for s in signatures])

class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        if "Content-Length" not in self.headers:
            return self.send_error(411)  # http.server reads no chunks, as some proxies send them
        length = int(self.headers["Content-Length"])
        if not 0 <= length <= 300 << 10:
            return self.send_error(413)  # a stranger's: no event is so large
        body = self.rfile.read(length)  # verify the raw bytes
        ok = genuine(self.headers, body)
        event = json.loads(body) if ok else {}
        self.send_response(200 if ok else 401)
        self.end_headers()
        if event.get("event") == "webhook.verify":
            self.wfile.write(event["data"]["nonce"].encode())  # this endpoint wants the deliveries
        print(f"{self.headers['webhook-id']} {event}" if ok else "wrong signature", flush=True)  # a stranger's id may command a terminal

port = int(os.environ.get("PORT", 9000))
try:
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
except OSError as error:
    raise SystemExit(f"port {port}: {error.strerror}; give another as PORT")
print(f"listening on http://127.0.0.1:{port}/", flush=True)
server.serve_forever()
