import ast
import base64
import hashlib
import hmac
import http.server
import json
import pathlib
import socket
import sys
import threading
import time
import unittest
import warnings

import mathub_webhooks
from mathub_webhooks import MathubError, VerificationError, http_handler, poll, receive, sign, verify
from mathub_webhooks.polling import _seconds

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"größer ≥"}}'.encode()


def serving(test, handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    test.addCleanup(server.server_close)
    test.addCleanup(server.shutdown)
    return server


class Signatures(unittest.TestCase):
    def test_genuine(self):
        headers = sign(BODY, SECRET, event_id="evt_1")
        for form in (headers, list(headers.items()), {name.upper(): value for name, value in headers.items()}):
            self.assertEqual(verify(BODY, form, SECRET), {**json.loads(BODY), "id": "evt_1"})
        self.assertEqual(verify(BODY, headers, ["old", SECRET], signature="body")["id"], "evt_1")
        key = base64.b64decode(SECRET[6:])
        signed = f"evt_1.{headers['webhook-timestamp']}.".encode() + BODY
        self.assertEqual(headers["webhook-signature"], "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode())
        self.assertEqual(headers["x-mathub-signature"], hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest())
        for secret in ("whsec_AA==", "pässwörd"):
            verify(BODY, sign(BODY, secret), secret)

    def test_forged(self):
        headers = sign(BODY, SECRET, event_id="evt_1")
        for change in (
            {"webhook-id": "evt_2"}, {"webhook-id": ""}, {"webhook-id": "evt.1"}, {"webhook-id": "evt_1\n"}, {"Webhook-Id": "evt_2"},
            {"webhook-timestamp": str(int(time.time()) + 100)}, {"webhook-timestamp": ""}, {"webhook-timestamp": "now"}, {"webhook-timestamp": "٣"},
            {"webhook-signature": ""}, {"webhook-signature": "v1,é"}, {"webhook-signature": headers["webhook-signature"][3:]},
        ):
            with self.assertRaises(VerificationError, msg=change):
                verify(BODY, {**headers, **change}, SECRET)
        for wrong in (BODY + b" ", b""):
            self.assertRaises(VerificationError, verify, wrong, headers, SECRET)
        self.assertRaises(VerificationError, verify, BODY, headers, "another")
        self.assertRaises(VerificationError, verify, BODY, {}, SECRET)
        self.assertRaises(VerificationError, verify, BODY, {"x-mathub-signature": headers["x-mathub-signature"]}, SECRET)
        for off in (-310, 310):
            self.assertRaises(VerificationError, verify, BODY, sign(BODY, SECRET, timestamp=int(time.time()) + off), SECRET)
        verify(BODY, sign(BODY, SECRET, timestamp=int(time.time()) - 310), SECRET, tolerance=400)
        for text in (b"", b"null", b'{"event":1,"data":{}}', b'{"event":"x"}', b'{"event":"x","data":{"a":"\xff"}}'):
            self.assertRaises(VerificationError, verify, text, sign(text, SECRET), SECRET)

    def test_first_ten_signatures(self):
        headers = sign(BODY, SECRET)
        after = lambda others: {**headers, "webhook-signature": "v1,AA== " * others + headers["webhook-signature"]}
        verify(BODY, after(9), SECRET)
        self.assertRaises(VerificationError, verify, BODY, after(10), SECRET)

    def test_public_key(self):
        headers = sign(BODY, SECRET, event_id="evt_1")
        signed = f"evt_1.{headers['webhook-timestamp']}.".encode() + BODY
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        except ImportError:
            with self.assertRaisesRegex(ValueError, "pip install cryptography"):
                verify(BODY, headers, "whpk_" + base64.b64encode(bytes(32)).decode())
        else:
            private = Ed25519PrivateKey.generate()
            key = "whpk_" + base64.b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
            own = "v1a," + base64.b64encode(private.sign(signed)).decode()
            for secret in (key, ["another", key]):
                verify(BODY, {**headers, "webhook-signature": headers["webhook-signature"] + " " + own}, secret)
            for wrong in (headers["webhook-signature"], "v1a,", own[:-4], own.replace("v1a,", "v1,")):
                self.assertRaises(VerificationError, verify, BODY, {**headers, "webhook-signature": wrong}, key)
            self.assertRaises(ValueError, verify, BODY, headers, "whpk_AAAA")
        self.assertRaises(ValueError, verify, BODY, headers, "whpk_AAAA", signature="body")
        self.assertRaises(ValueError, sign, BODY, "whpk_AAAA")
        for altered in (" %s", '"%s"', "\ufeff%s", "v1a,%s", "whpk_%s"):  # a secret that everybody knows
            self.assertRaisesRegex(ValueError, "must begin", verify, BODY, headers, altered % ("whpk_" + base64.b64encode(bytes(32)).decode()))

    def test_mistakes(self):
        for secret in ("", "whsec_", [], [""], None):
            self.assertRaises(ValueError, verify, BODY, sign(BODY, SECRET), secret)
        for altered in (SECRET + "\n", " " + SECRET):
            self.assertRaisesRegex(ValueError, "white space", http_handler, altered, print)
        for cut in ("whsec_!!", "whsec_AA", "whsec_AA=", "whsec_A\nA==", "whsec__w=="):
            self.assertRaisesRegex(ValueError, "its end may be missing", verify, BODY, sign(BODY, SECRET), cut)
        self.assertRaises(TypeError, verify, BODY.decode(), sign(BODY, SECRET), SECRET)
        self.assertRaises(ValueError, verify, BODY, sign(BODY, SECRET), SECRET, signature="both")

    def test_receive(self):
        seen = []
        self.assertEqual(receive(BODY, sign(BODY, SECRET, event_id="e"), SECRET, seen.append), (204, ""))
        self.assertEqual(receive(BODY, {}, SECRET, seen.append).status, 401)
        asks = b'{"event":"webhook.verify","timestamp":"t","data":{"nonce":"n0nce"}}'
        self.assertEqual(receive(asks, sign(asks, SECRET), SECRET, seen.append), (200, "n0nce"))
        self.assertEqual([event["id"] for event in seen], ["e"])

        async def never_awaited(event):
            seen.append(event)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.assertRaisesRegex(TypeError, "coroutine", receive, BODY, sign(BODY, SECRET), SECRET, never_awaited)


class Server(unittest.TestCase):
    def setUp(self):
        self.seen, self.raises = [], None

        def handle(event):
            self.seen.append(event["id"])
            if self.raises:
                raise self.raises

        handler = http_handler(["old", SECRET], handle, limit=1000)
        handler.log_message = lambda *_: None
        self.server = serving(self, handler)

    def send(self, body, headers=None, framing=None):
        headers = sign(BODY, SECRET, event_id="e") if headers is None else headers
        framing = f"Content-Length: {len(body)}" if framing is None else framing
        lines = ["POST /mathub HTTP/1.1", "Host: h", framing] + [f"{name.upper()}:{value} \t" for name, value in headers.items()]
        with socket.create_connection(self.server.server_address, 10) as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                head, _, text = file.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), text.decode()

    def test_bodies(self):
        chunked = "Transfer-Encoding: chunked"
        chunks = lambda size, end=b"0\r\n\r\n": b"".join(b"%x;ext=1\r\n%s\r\n" % (len(BODY[i : i + size]), BODY[i : i + size]) for i in range(0, len(BODY), size)) + end
        self.assertEqual(self.send(BODY), (204, ""))
        for size in (1, 7, 1000):
            self.assertEqual(self.send(chunks(size), framing=chunked), (204, ""))
        self.assertEqual(self.send(chunks(7, b"0\r\nTrailer: x\r\n\r\n"), framing=chunked), (204, ""))
        self.assertEqual(self.seen, ["e"] * 5)
        self.assertEqual(self.send(BODY, framing="Content-Length: 1001")[0], 413)
        self.assertEqual(self.send(b"3e9\r\n" + 1001 * b"a", framing=chunked)[0], 413)
        for body, framing in (
            (BODY, f"Content-Length: {len(BODY) + 1}"), (BODY, "Content-Length: -1"), (BODY, "Content-Length: x"), (BODY, "Transfer-Encoding: gzip"),
            (b"-1\r\n", chunked), (b"\r\n", chunked), (b"5\r\nab", chunked), (b"2\r\nabc\r\n0\r\n\r\n", chunked), (b"1" * 2000, chunked),
        ):
            self.assertEqual(self.send(body, framing=framing)[0], 400, (body, framing))
        self.assertEqual(len(self.seen), 5)

    def test_answers(self):
        self.assertEqual(self.send(BODY, {})[0], 401)
        self.assertEqual(self.send(BODY, {**sign(BODY, SECRET, event_id="e"), "webhook-id": "another"})[0], 401)
        asks = b'{"event":"webhook.verify","timestamp":"t","data":{"nonce":"n0nce"}}'
        self.assertEqual(self.send(asks, sign(asks, SECRET)), (200, "n0nce"))
        self.assertEqual(self.seen, [])
        self.raises, real = OSError("away"), sys.stderr
        sys.stderr = open("/dev/null", "w")
        try:
            self.assertEqual(self.send(BODY), (500, ""))
        finally:
            sys.stderr.close()
            sys.stderr = real
        self.assertRaises(ValueError, http_handler, "", print)


class Source(unittest.TestCase):
    def test_is_python_3_9(self):
        files = list(pathlib.Path(mathub_webhooks.__file__).parent.glob("*.py"))
        self.assertGreater(len(files), 5)
        for file in files:
            text = file.read_text("utf-8")
            ast.parse(text, feature_version=(3, 9))
            if file.name not in ("__init__.py", "catalog.py"):
                self.assertIn("from __future__ import annotations", text, "annotations are not evaluated: X | Y is one of 3.10")


class Polling(unittest.TestCase):
    def test_goes_on_through_trouble(self):
        page = lambda events, cursor: (200, {"events": events, "cursor": cursor, "hasMore": False})
        answers = [page([], "10"), None, (503, {}), (408, {}), page([], "10"), page([{"id": "e1"}], "11"), (410, {"detail": "Gone."})]
        asked = []

        class Api(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                answer = answers[len(asked)]
                asked.append(self.path)
                if answer is None:
                    return self.connection.close()
                self.send_response(answer[0])
                self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(json.dumps(answer[1]).encode())

            def log_message(self, *_):
                pass

        url = f"http://127.0.0.1:{serving(self, Api).server_port}"
        pages = []
        with self.assertRaises(MathubError) as raised:
            for events, cursor in poll(url + "/", "bot_k\n", after="latest", types=["mention"], filter={"threadId": ["t 1", "t2"]}, wait=7):
                pages.append((events, cursor))
        self.assertEqual((raised.exception.status, raised.exception.detail), (410, "Gone."))
        self.assertEqual(pages, [([], "10"), ([{"id": "e1"}], "11")])
        self.assertEqual(asked[0], "/api/bot/v1/events?threadId=t+1&threadId=t2&limit=100&after=latest&types=mention", "where it begins is known before it waits")
        self.assertTrue(all("&wait=7s&after=1" in path for path in asked[1:]), asked)
        self.assertEqual(len(asked), 7)

    def test_a_proxy_may_answer_anything(self):
        for status, body in ((204, b""), (200, b"<html>"), (200, b"null"), (200, b"{}"), (200, b'{"events":[]}')):

            class Proxy(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(status)
                    self.end_headers()
                    self.wfile.write(body)

                def log_message(self, *_):
                    pass

            url = f"http://127.0.0.1:{serving(self, Proxy).server_port}"
            with self.assertRaises(MathubError) as raised:
                next(poll(url, "bot_k"))
            self.assertEqual(raised.exception.status, status)
            self.assertIn("not from the API", str(raised.exception))

    def test_comes_back_within_a_minute(self):
        self.assertEqual([_seconds(asked) for asked in ("20", "3600", "soon", None)], [20, 60, 0, 0])

    def test_what_cannot_work(self):
        for url, key in (("ftp://localhost", "k"), ("http://127.0.0.1:port", "k"), ("http://127.0.0.1:1", "")):
            self.assertRaises(ValueError, next, poll(url, key))
        for key in ("bot_k\ny", "bot_k“"):
            with self.assertRaises(ValueError) as raised:
                next(poll("http://127.0.0.1:1", key))
            self.assertNotIn("bot_k", str(raised.exception))
        self.assertRaises(ValueError, next, poll("http://127.0.0.1:1", "k", wait=0))
        for field, values in (("threadId", []), ("threadId", ""), ("types", ["mention"])):
            with self.assertRaisesRegex(ValueError, f"filter: {field} "):
                next(poll("http://127.0.0.1:1", "k", filter={field: values}))


if __name__ == "__main__":
    unittest.main()
