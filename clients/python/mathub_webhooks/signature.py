"""Verifies what is sent to a webhook."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import inspect
import json
import re
import time
import uuid
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union, cast

from .catalog import MathubEvent

Secret = Union[str, Sequence[str]]
Headers = Union[Mapping[str, str], Iterable[Tuple[str, str]]]

_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_TIMESTAMP = re.compile(r"[0-9]{1,15}\Z")
_PREFIX = "whsec_"
LIMIT = 300 << 10  # of a body that a handler reads: events have at most 256 KiB, and their envelope
TOO_LARGE = "the body is too large"
_PUBLIC = "whpk_"
_MOST_SIGNATURES = 10  # of a request: each costs work, whoever sends it


class VerificationError(Exception):
    """The request is not from Mathub, or not as it was sent: answer 401."""


def verify(body: bytes, headers: Headers, secret: Secret, *, signature: str = "standard", tolerance: float = 300) -> MathubEvent:
    """Verifies a request to a webhook and returns its event, with its id.

    body is what came, byte for byte; headers are a mapping or pairs, names in any letter case. secret may be several while it is
    changed, and a webhook's public key (whpk_…), which needs the package cryptography. signature is "standard" (webhook-signature, which covers id, time and body, so that a request cannot be sent again later
    or under another id) or "body" (X-Mathub-Signature, which covers the body alone). webhook-timestamp may be off by tolerance seconds.
    """
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise TypeError("the body must be bytes, as they came: verify it before it is parsed")
    body = bytes(body)
    secrets = _secrets(secret)
    found = _by_name(headers)
    event_id = _single(found, "webhook-id")
    if signature == "standard":
        _verify_standard(body, found, event_id, secrets, tolerance)
    elif signature == "body":
        given = _single(found, "x-mathub-signature")
        if any(one.startswith(_PUBLIC) for one in secrets):
            raise ValueError('a public key verifies the "standard" signature only')
        if not _matches([given], [_plain(one, body) for one in secrets]):
            raise VerificationError("X-Mathub-Signature is missing or wrong")
    else:
        raise ValueError('signature must be "standard" or "body"')
    return _parse(body, event_id)


def _verify_standard(body: bytes, found: Dict[str, List[str]], event_id: str, secrets: Sequence[str], tolerance: float) -> None:
    timestamp = _single(found, "webhook-timestamp")
    if not _VALID_ID.match(event_id):
        raise VerificationError("webhook-id is missing, or no event's id")
    if not _TIMESTAMP.match(timestamp):
        raise VerificationError("webhook-timestamp is missing, or not a time in Unix seconds")
    if not abs(time.time() - int(timestamp)) <= tolerance:
        raise VerificationError(f"webhook-timestamp is more than {tolerance:g} s off: the request is sent again, or the clock is wrong")
    given = [one for value in found.get("webhook-signature", []) for one in value.split(" ")][:_MOST_SIGNATURES]
    shared = [_standard(one, event_id, timestamp, body) for one in secrets if not one.startswith(_PUBLIC)]
    keys = [one for one in secrets if one.startswith(_PUBLIC)]
    if not _matches(given, shared) and not _signed_by(keys, given, _signed(event_id, timestamp, body)):
        raise VerificationError("webhook-signature is missing or wrong")


def sign(body: bytes, secret: str, *, event_id: Optional[str] = None, timestamp: Optional[int] = None) -> Dict[str, str]:
    """The headers of a body that Mathub would send: for the tests of a receiver."""
    (secret,) = _secrets(secret)
    if secret.startswith(_PUBLIC):
        raise ValueError("a public key cannot sign")
    event_id = str(uuid.uuid4()) if event_id is None else event_id
    at = str(int(time.time()) if timestamp is None else timestamp)
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": at,
        "webhook-signature": _standard(secret, event_id, at, body),
        "x-mathub-signature": _plain(secret, body),
    }


class Answer(NamedTuple):
    """What a receiver answers."""

    status: int
    text: str


def receive(body: bytes, headers: Headers, secret: Secret, handle: Callable[[MathubEvent], Any], *, signature: str = "standard", tolerance: float = 300) -> Answer:
    """Verifies a request, has its event handled, and returns the answer, for any framework.

    401 if the request is not genuine; the nonce for a webhook.verify; else 204 once handle returns. What handle raises is raised:
    answer 500, and the event comes again later. Mathub waits 5 seconds, so store the event and do slow work afterwards. Drop repeats by
    the event's id. handle must not be a coroutine function: nothing here would await it.
    """
    event, answer = _examine(body, headers, secret, signature=signature, tolerance=tolerance)
    if event is not None and inspect.isawaitable(handle(event)):
        raise TypeError("handle is a coroutine function, which is not awaited here: the event was not handled")
    return answer


def _examine(body: bytes, headers: Headers, secret: Secret, **options: Any) -> Tuple[Optional[MathubEvent], Answer]:
    """The event that is to be handled, if any, and the answer to its request once it is."""
    try:
        event = verify(body, headers, secret, **options)
    except VerificationError as error:
        return None, Answer(401, str(error))
    if event["event"] == "webhook.verify":
        return None, Answer(200, event["data"]["nonce"])  # yes, this endpoint wants the webhook's deliveries
    return event, Answer(204, "")


def _standard(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    signed = _signed(event_id, timestamp, body)
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _signed(event_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{event_id}.{timestamp}.".encode() + body


def _signed_by(keys: Sequence[str], given: Sequence[str], signed: bytes) -> bool:
    """Whether one of the signatures given is of one of the key pairs. Python's own library has no Ed25519."""
    if not keys:
        return False
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ValueError("a public key needs the package cryptography: pip install cryptography") from None
    for key in keys:
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key[len(_PUBLIC) :], validate=True))
        except (binascii.Error, ValueError):
            raise ValueError("a public key must be whpk_ and the base64 of 32 bytes") from None
        for one in given:
            try:
                if one.startswith("v1a,") and public.verify(base64.b64decode(one[4:], validate=True), signed) is None:
                    return True
            except (InvalidSignature, binascii.Error, ValueError):
                continue
    return False


def _plain(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _key(secret: str) -> bytes:
    """The key of webhook-signature: of a secret whsec_<base64> the bytes that it encodes, else the secret's own."""
    if secret.startswith(_PREFIX):
        try:
            key = base64.b64decode(secret[len(_PREFIX) :], validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if key:
            return key
    return secret.encode()


def _matches(given: Sequence[str], expected: Sequence[str]) -> bool:
    """Whether one of those given is expected, in constant time."""
    pairs = [(a.encode("utf-8", "surrogateescape"), b.encode()) for a in given for b in expected]
    return any([hmac.compare_digest(a, b) for a, b in pairs])


def _secrets(secret: Secret) -> Sequence[str]:
    secrets = [secret] if isinstance(secret, str) else list(secret or ())
    if not secrets or not all(isinstance(one, str) and one not in ("", _PREFIX) for one in secrets):
        raise ValueError("the secret is empty: anyone could sign with it")
    if any(one.rfind(_PUBLIC) > 0 for one in secrets):  # as a secret, it would be one that everybody knows
        raise ValueError("a public key must begin with whpk_: remove what stands before it, such as a quote or a space")
    if any(one.strip() != one for one in secrets):  # else each request would be refused
        raise ValueError("the secret begins or ends with white space, such as a file's last line break: no webhook has one like that")
    if any(one.startswith(_PREFIX) and _key(one) == one.encode() for one in secrets):
        raise ValueError("the secret has no padded base64 after whsec_, as each webhook's has: its end may be missing, such as a =")
    return secrets


def _by_name(headers: Headers) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    pairs = headers.items() if hasattr(headers, "items") else headers
    for name, value in cast("Iterable[Tuple[str, str]]", pairs):
        found.setdefault(name.lower(), []).append(value.strip(" \t"))  # http.server leaves white space at the end (RFC 9110, section 5.5)
    return found


def _single(found: Dict[str, List[str]], name: str) -> str:
    values = found.get(name, [""])
    if len(values) != 1:
        raise VerificationError(f"{name} is there more than once")
    return values[0]


def _parse(body: bytes, event_id: str) -> MathubEvent:
    try:
        event = json.loads(body.decode())
    except ValueError:
        raise VerificationError("the body is signed, but is no JSON") from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or not isinstance(event.get("data"), dict):
        raise VerificationError("the body is signed, but is no event")
    return cast(MathubEvent, {**event, "id": event_id})
