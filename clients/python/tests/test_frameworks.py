import asyncio
import unittest

import django.conf
import django.test
from fastapi import FastAPI
from flask import Flask
from mathub_webhooks import sign
from mathub_webhooks.django import django_view
from mathub_webhooks.fastapi import fastapi_route
from mathub_webhooks.flask import flask_view

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}'


class FastAPIRoute(unittest.TestCase):
    def post(self, handle, body=BODY, headers=None, **options):
        app = FastAPI()
        app.post("/")(fastapi_route(SECRET, handle, **options))
        sent, headers = [], sign(body, SECRET, event_id="e") if headers is None else headers
        scope = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http", "http_version": "1.1", "root_path": "",
            "server": ("h", 80), "client": ("c", 1), "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        parts = [{"type": "http.request", "body": body[:9], "more_body": True}, {"type": "http.request", "body": body[9:]}]

        async def take():
            return parts.pop(0) if parts else {"type": "http.disconnect"}

        async def give(message):
            sent.append(message)

        asyncio.run(app(scope, take, give))
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def test_answers(self):
        seen = []

        async def handle(event):
            seen.append(event["id"])

        self.assertEqual(self.post(handle), (204, b""))
        self.assertEqual(self.post(lambda event: seen.append("in a thread")), (204, b""))

        class Handler:
            async def __call__(self, event):
                await handle(event)

        self.assertEqual(self.post(Handler()), (204, b""))
        self.assertEqual(self.post(handle, headers={})[0], 401)
        self.assertEqual(self.post(handle, limit=len(BODY) - 1)[0], 413)
        asks = b'{"event":"webhook.verify","timestamp":"t","data":{"nonce":"n0nce"}}'
        self.assertEqual(self.post(handle, asks), (200, b"n0nce"))
        self.assertEqual(seen, ["e", "in a thread", "e"])
        self.assertRaises(ValueError, fastapi_route, "", handle)


class FlaskView(unittest.TestCase):
    def test_an_app_has_several(self):
        app, seen = Flask(__name__), []
        for secret in (SECRET, "another"):
            app.post("/" + secret)(flask_view(secret, lambda event: seen.append(event["id"])))
        for secret in (SECRET, "another"):
            post = lambda by: app.test_client().post("/" + secret, data=BODY, headers=sign(BODY, by, event_id=secret)).status_code
            self.assertEqual([post(secret), post("neither")], [204, 401])
        self.assertEqual(seen, [SECRET, "another"])


class DjangoView(unittest.TestCase):
    def test_answers(self):
        django.conf.settings.configure(ALLOWED_HOSTS=["*"])
        seen, factory = [], django.test.RequestFactory(enforce_csrf_checks=True)
        view = django_view(SECRET, lambda event: seen.append(event["id"]), limit=len(BODY))

        def post(body, headers, **more):
            meta = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items() if name != "content-type"}
            answer = view(factory.post("/", body, "application/json", **meta, **more))
            return answer.status_code, answer.content

        self.assertEqual(post(BODY, sign(BODY, SECRET, event_id="e")), (204, b""))
        self.assertEqual(post(BODY, {})[0], 401)
        self.assertEqual(post(BODY + b" ", sign(BODY + b" ", SECRET))[0], 413)
        self.assertEqual(post(b"", sign(BODY, SECRET), HTTP_TRANSFER_ENCODING="chunked")[0], 411)
        asks = b'{"event":"webhook.verify","timestamp":"t","data":{"nonce":"n0nce"}}'
        self.assertEqual(post(asks, sign(asks, SECRET)), (200, b"n0nce"))
        self.assertEqual(view(factory.get("/")).status_code, 405)
        self.assertEqual(seen, ["e"])
        self.assertRaises(ValueError, django_view, "", print)


if __name__ == "__main__":
    unittest.main()
