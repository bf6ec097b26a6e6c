"""Receive and poll for Mathub's events, typed. Helpers for frameworks are mathub_webhooks.flask, .fastapi and .django."""

from .catalog import MathubEvent
from .polling import MathubError, Page, poll
from .server import http_handler
from .signature import Answer, VerificationError, receive, sign, verify

__all__ = ["Answer", "MathubError", "MathubEvent", "Page", "VerificationError", "http_handler", "poll", "receive", "sign", "verify"]
