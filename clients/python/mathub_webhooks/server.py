"""A receiver for http.server, of the standard library."""

from __future__ import annotations

import re
import traceback
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO, Callable, Optional, Type

from .catalog import MathubEvent
from .signature import LIMIT, TOO_LARGE, Answer, Secret, _secrets, receive

_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}\s*(;.*)?\r?\n\Z")


def http_handler(secret: Secret, handle: Callable[[MathubEvent], Any], *, limit: int = LIMIT, **options: Any) -> Type[BaseHTTPRequestHandler]:
    """A handler of POST requests to a webhook: ThreadingHTTPServer(("127.0.0.1", 9000), http_handler(secret, handle)). See receive.

    It reads bodies in chunks too, as some proxies send them, and answers 413 where one has more than limit bytes. What handle raises is
    answered with 500 and printed.
    """
    _secrets(secret)

    class Receiver(BaseHTTPRequestHandler):
        timeout = 30  # for a sender that says nothing

        def do_POST(self) -> None:
            status, text = self._answer()
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _answer(self) -> Answer:
            try:
                body = _body(self, limit)
            except (ValueError, EOFError):
                return Answer(400, "the body is incomplete")
            if body is None:
                return Answer(413, TOO_LARGE)
            try:
                return receive(body, self.headers.items(), secret, handle, **options)
            except Exception:
                traceback.print_exc()
                return Answer(500, "")

    return Receiver


def _body(request: BaseHTTPRequestHandler, limit: int) -> Optional[bytes]:
    """The body, or None where it is larger than the limit."""
    coding = request.headers.get("Transfer-Encoding")
    if coding is None:
        length = int(request.headers.get("Content-Length", 0))
        return _read(request.rfile, length) if length <= limit else None
    if coding.strip().lower() != "chunked":
        raise ValueError(coding)
    return _chunks(request.rfile, limit)


def _chunks(file: BinaryIO, limit: int) -> Optional[bytes]:
    """A body in chunks (RFC 9112, section 7.1)."""
    parts, total = [], 0
    while True:
        line = file.readline(1000)
        if not _SIZE.match(line):
            raise ValueError(line)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            while file.readline(10000).strip():  # trailers
                pass
            return b"".join(parts)
        total += size
        if total > limit:
            return None
        parts.append(_read(file, size))
        if file.readline(3).strip():
            raise ValueError("a chunk's end")


def _read(file: BinaryIO, size: int) -> bytes:
    if size < 0:
        raise ValueError(size)
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content
