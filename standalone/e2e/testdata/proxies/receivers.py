"""Receivers of the Python package, each on a port of its own, in the order of the arguments."""

import sys
import threading
from http.server import ThreadingHTTPServer

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path
from fastapi import FastAPI
from flask import Flask
from mathub_webhooks import http_handler
from mathub_webhooks.django import django_view
from mathub_webhooks.fastapi import fastapi_route
from mathub_webhooks.flask import flask_view

SECRET, PORTS = sys.argv[1], [int(port) for port in sys.argv[2:]]


def handle(name):
    return lambda event: print(name, event["id"], len(event["data"]["body"]), flush=True)


def uvicorn_server(app, port):
    return uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).run


urlpatterns = [path("", django_view(SECRET, handle("django")))]
settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="s", ALLOWED_HOSTS=["*"])
flask, fast = Flask(__name__), FastAPI()
flask.post("/")(flask_view(SECRET, handle("flask")))
fast.post("/")(fastapi_route(SECRET, handle("fastapi")))
servers = [
    ThreadingHTTPServer(("127.0.0.1", PORTS[0]), http_handler(SECRET, handle("http.server"))).serve_forever,
    lambda: flask.run(port=PORTS[1]),
    uvicorn_server(fast, PORTS[2]),
]
for serve in servers:
    threading.Thread(target=serve, daemon=True).start()
uvicorn_server(get_asgi_application(), PORTS[3])()
