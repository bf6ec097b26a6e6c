"""A receiver for Flask."""

from __future__ import annotations

from typing import Any, Callable, Optional

import flask

from .catalog import MathubEvent
from .signature import LIMIT, TOO_LARGE, Secret, _secrets, receive


def flask_view(secret: Secret, handle: Callable[[MathubEvent], Any], *, limit: int = LIMIT, **options: Any) -> Callable[[], flask.Response]:
    """A view of POST requests to a webhook: app.post("/mathub")(flask_view(secret, handle)). See receive.

    A body of more than limit bytes is answered with 413.
    """
    _secrets(secret)

    def mathub_webhook() -> flask.Response:
        body = _body(flask.request, limit)
        if body is None:
            return flask.Response(TOO_LARGE, 413, mimetype="text/plain")
        status, text = receive(body, list(flask.request.headers), secret, handle, **options)
        return flask.Response(text, status, mimetype="text/plain")

    mathub_webhook.__name__ += f"_{id(mathub_webhook)}"  # by which Flask tells an app's views apart
    return mathub_webhook


def _body(request: flask.Request, limit: int) -> Optional[bytes]:
    """The body, or None where it is larger than the limit."""
    if request.content_length is not None:
        return request.get_data() if request.content_length <= limit else None
    body = bytearray()  # it comes in chunks
    while len(body) <= limit:
        part = request.stream.read(limit + 1 - len(body))
        if not part:
            return bytes(body)
        body += part
    return None
