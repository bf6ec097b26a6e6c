"""Receive and poll for Mathub's events, typed. The helper for Flask is mathub_webhooks.flask."""

from .catalog import MathubEvent
from .polling import MathubError, Page, poll
from .signature import Answer, VerificationError, receive, sign, verify

__all__ = ["Answer", "MathubError", "MathubEvent", "Page", "VerificationError", "poll", "receive", "sign", "verify"]
