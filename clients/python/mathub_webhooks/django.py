"""A receiver for Django."""

from __future__ import annotations

from typing import Any, Callable

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .catalog import MathubEvent
from .signature import LIMIT, TOO_LARGE, Secret, _secrets, receive


def django_view(secret: Secret, handle: Callable[[MathubEvent], Any], *, limit: int = LIMIT, **options: Any) -> Callable[..., HttpResponse]:
    """A view of POST requests to a webhook: path("mathub", django_view(secret, handle)). See receive.

    A body of more than limit bytes is answered with 413. Under WSGI, Django reads no body that comes in chunks: it is answered with 411.
    """
    _secrets(secret)

    @csrf_exempt
    @require_POST
    def mathub_webhook(request: HttpRequest) -> HttpResponse:
        if "Transfer-Encoding" in request.headers and not request.body:
            return HttpResponse("Django reads no chunked body under WSGI: use ASGI, or a proxy that buffers", status=411, content_type="text/plain")
        if len(request.body) > limit:
            return HttpResponse(TOO_LARGE, status=413, content_type="text/plain")
        status, text = receive(request.body, request.headers, secret, handle, **options)
        return HttpResponse(text, status=status, content_type="text/plain")

    return mathub_webhook
