"""A receiver for Flask."""

from __future__ import annotations

from typing import Any, Callable

import flask

from .catalog import MathubEvent
from .signature import Secret, _secrets, receive


def flask_view(secret: Secret, handle: Callable[[MathubEvent], Any], **options: Any) -> Callable[[], flask.Response]:
    """A view of POST requests to a webhook: app.post("/mathub")(flask_view(secret, handle)). See receive."""
    _secrets(secret)

    def mathub_webhook() -> flask.Response:
        status, text = receive(flask.request.get_data(), list(flask.request.headers), secret, handle, **options)
        return flask.Response(text, status, mimetype="text/plain")

    return mathub_webhook
