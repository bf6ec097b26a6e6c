"""A receiver for FastAPI and Starlette."""

from __future__ import annotations

import inspect
from typing import Any, Awaitable, Callable, Optional

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .catalog import MathubEvent
from .signature import LIMIT, TOO_LARGE, Secret, _examine, _secrets


def fastapi_route(secret: Secret, handle: Callable[[MathubEvent], Any], *, limit: int = LIMIT, **options: Any) -> Callable[[Request], Awaitable[Response]]:
    """A route of POST requests to a webhook: app.post("/mathub")(fastapi_route(secret, handle)). See receive.

    handle may be a coroutine function; another runs in a thread. A body of more than limit bytes is answered with 413.
    """
    _secrets(secret)

    async def mathub_webhook(request: Request) -> Response:
        body = await _body(request, limit)
        if body is None:
            return PlainTextResponse(TOO_LARGE, 413)
        event, answer = _examine(body, request.headers.items(), secret, **options)
        if event is not None:
            result = handle(event) if inspect.iscoroutinefunction(handle) else await run_in_threadpool(handle, event)
            if inspect.isawaitable(result):  # also of an object that is called as one
                await result
        return PlainTextResponse(answer.text, answer.status) if answer.text else Response(status_code=answer.status)

    return mathub_webhook


async def _body(request: Request, limit: int) -> Optional[bytes]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)
