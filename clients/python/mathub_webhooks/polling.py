"""Reads a bot's events."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from .catalog import MathubEvent

_SLACK = 20  # seconds beyond what a call waits for events
_NOT_THE_API = "The answer is not from the API."
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGEST_ASKED = 0.1, 10.0, 60.0


class MathubError(Exception):
    """An error that the API answered: its HTTP status, and why."""

    def __init__(self, status: int, detail: str):
        super().__init__(f"HTTP {status}: {detail}")
        self.status, self.detail = status, detail


class Page(NamedTuple):
    """Some events, and the cursor behind them. Keep it once the events are processed."""

    events: List[MathubEvent]
    cursor: str


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args, **_kwargs):  # type: ignore[no-untyped-def]
        return None  # a key goes to no other host


_opener = urllib.request.build_opener(_NoRedirect)


def poll(
    url: str,
    key: str,
    *,
    after: Optional[str] = None,
    types: Sequence[str] = (),
    filter: Optional[Mapping[str, Sequence[str]]] = None,
    limit: int = 100,
    wait: int = 20,
) -> Iterator[Page]:
    """Yields a bot's events in their order, page by page, and waits for further ones, for ever.

    url is the API's, such as https://webhooks.example.org; after the cursor that you kept, or "latest"; filter, by fields of the events'
    data, the values of which any will do, such as {"projectSlug": ["number-theory"]}; wait 1 to 30 seconds. While the
    API is away or busy, it tries again. A MathubError of status 401 is for the key, of 410 for a cursor that is too old.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("url must be an http or https URL")
    key = key.strip()  # a file ends with a line break
    if not key:
        raise ValueError("the key is empty")
    if not (key.isascii() and key.isprintable()):  # of which urllib's own error quotes the key
        raise ValueError("the key has a character that no key has, such as a line break")
    if not 1 <= wait <= 30:
        raise ValueError("wait must be 1 to 30 seconds")
    for name, values in (filter or {}).items():
        if name in ("after", "limit", "types", "wait"):
            raise ValueError(f"filter: {name} is not a field of any event type")
        if isinstance(values, str) or not values:  # no value would let every event pass
            raise ValueError(f"filter: {name} needs a list of values")
    while True:
        query: Dict[str, object] = {**(filter or {}), "limit": str(limit)}
        if after != "latest":  # which does not wait: what happened meanwhile would be lost with its answer
            query["wait"] = f"{wait}s"
        if after is not None:
            query["after"] = after
        if types:
            query["types"] = ",".join(types)
        page = _patiently(f"{url.rstrip('/')}/api/bot/v1/events?{urllib.parse.urlencode(query, doseq=True)}", key, wait + _SLACK)
        moved, after = page.cursor != after, page.cursor
        if moved:
            yield page


def _patiently(url: str, key: str, timeout: float) -> Page:
    pause = _FIRST_PAUSE
    while True:
        asked = 0.0
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
        try:
            with _opener.open(request, timeout=timeout) as response:
                return _page(response)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in (408, 429) and error.code < 500:
                    raise MathubError(error.code, _detail(error)) from None
                asked = _seconds(error.headers.get("Retry-After"))
        except http.client.InvalidURL:
            raise ValueError("url must be an http or https URL") from None
        except (OSError, http.client.HTTPException):
            pass  # no answer: it restarts, or the network is away
        time.sleep(max(random.uniform(pause / 2, pause), asked))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _page(response: http.client.HTTPResponse) -> Page:
    try:
        answer = json.load(response)
        return Page(answer["events"], answer["cursor"])
    except (ValueError, KeyError, TypeError):  # a proxy may answer anything
        raise MathubError(response.status, _NOT_THE_API) from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError, OSError):
        return _NOT_THE_API


def _seconds(retry_after: Optional[str]) -> float:
    return min(float(retry_after), _LONGEST_ASKED) if retry_after and retry_after.isdecimal() else 0.0
