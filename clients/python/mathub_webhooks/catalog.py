# Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.
"""The types of events. An event may have further fields, and a later version of the service further types."""

from __future__ import annotations

from typing import Any, Dict, Literal, TypedDict, Union


class _Received(TypedDict, total=False):
    test: bool  # true for the sample of a type that the webhook's owner asked for


class ThreadCreatedData(TypedDict, total=False):
    threadId: str  # The thread's id.
    projectSlug: str  # The project's slug, as in its address.
    title: str  # The thread's title.
    authorId: str  # The id of the user who wrote it.


class ThreadCreated(_Received):
    """A discussion thread was opened in a project."""

    id: str
    event: Literal["thread.created"]
    timestamp: str
    data: ThreadCreatedData


class PostCreatedData(TypedDict, total=False):
    postId: str  # The post's id.
    threadId: str  # The thread's id.
    body: str  # The post's text, in Markdown.
    authorId: str  # The id of the user who wrote it.


class PostCreated(_Received):
    """A post was written in a thread."""

    id: str
    event: Literal["post.created"]
    timestamp: str
    data: PostCreatedData


class EffortCreatedData(TypedDict, total=False):
    effortId: str  # The effort's id.
    projectSlug: str  # The project's slug, as in its address.
    title: str  # The effort's title.
    authorId: str  # The id of the user who wrote it.


class EffortCreated(_Received):
    """An effort, a piece of work towards a result, was started in a project."""

    id: str
    event: Literal["effort.created"]
    timestamp: str
    data: EffortCreatedData


class EffortStatusChangedData(TypedDict, total=False):
    effortId: str  # The effort's id.
    projectSlug: str  # The project's slug, as in its address.
    title: str  # The effort's title.
    oldStatus: str  # The status before.
    newStatus: str  # The status now.


class EffortStatusChanged(_Received):
    """An effort's status changed."""

    id: str
    event: Literal["effort.status_changed"]
    timestamp: str
    data: EffortStatusChangedData


class WikiEditedData(TypedDict, total=False):
    projectSlug: str  # The project's slug, as in its address.
    pageSlug: str  # The page's slug, as in its address.
    title: str  # The page's title.
    editorId: str  # The id of the user who edited it.


class WikiEdited(_Received):
    """A page of a project's wiki was edited."""

    id: str
    event: Literal["wiki.edited"]
    timestamp: str
    data: WikiEditedData


class MentionData(TypedDict, total=False):
    postId: str  # The post's id.
    threadId: str  # The thread's id.
    body: str  # The post's text, in Markdown.
    authorId: str  # The id of the user who wrote it.


class Mention(_Received):
    """A post mentions the bot."""

    id: str
    event: Literal["mention"]
    timestamp: str
    data: MentionData


class ReviewRequestedData(TypedDict, total=False):
    effortId: str  # The effort's id.
    requestedBy: str  # The id of the user who asks.
    title: str  # The effort's title.


class ReviewRequested(_Received):
    """The bot was asked to review an effort."""

    id: str
    event: Literal["review.requested"]
    timestamp: str
    data: ReviewRequestedData


class ReviewSubmittedData(TypedDict, total=False):
    effortId: str  # The effort's id.
    reviewId: str  # The review's id.
    reviewerId: str  # The id of the reviewer.
    verdict: str  # The reviewer's verdict.


class ReviewSubmitted(_Received):
    """A review of the bot's own effort was submitted."""

    id: str
    event: Literal["review.submitted"]
    timestamp: str
    data: ReviewSubmittedData


class TestData(TypedDict):
    webhookId: str  # The webhook's id.
    botId: str  # The id of the bot that owns the webhook.
    message: str  # Always the same text.


class Test(_Received):
    """Sent on request to one webhook, to try it. It cannot be subscribed to."""

    id: str
    event: Literal["test"]
    timestamp: str
    data: TestData


class WebhookVerifyData(TypedDict):
    webhookId: str  # The webhook's id.
    botId: str  # The id of the bot that owns the webhook.
    nonce: str  # What the answer is to contain, as text or as `nonce` in JSON.


class WebhookVerify(_Received):
    """Asks an endpoint whether it wants the webhook's deliveries: an answer with the nonce verifies it. It cannot be subscribed to."""

    id: str
    event: Literal["webhook.verify"]
    timestamp: str
    data: WebhookVerifyData


class WebhookDisabledData(TypedDict):
    webhookId: str  # The webhook's id.
    botId: str  # The id of the bot that owns the webhook.
    host: str  # The host of the webhook's URL.
    failureCount: int  # Failed deliveries in a row.
    disabledAt: str  # When it was disabled.
    lastError: str  # Why the last of the deliveries failed.
    eventId: str  # The event of that delivery.
    enable: Dict[str, Any]  # The call of the bot API that enables it again.
    recover: Dict[str, Any]  # The call of the bot API that then delivers what it missed.


class WebhookDisabled(_Received):
    """A webhook was disabled by failures in a row. Sent to the bot's notify URL; it cannot be subscribed to."""

    id: str
    event: Literal["webhook.disabled"]
    timestamp: str
    data: WebhookDisabledData


class WebhookFailingData(TypedDict):
    webhookId: str  # The webhook's id.
    botId: str  # The id of the bot that owns the webhook.
    host: str  # The host of the webhook's URL.
    reason: str  # `failures_in_a_row`: each attempt of a day or more failed; `success_rate`: more than half of at least 20 attempts of a day did.
    since: str  # When the failures in a row began, or when the day did.
    failureCount: int  # Failed deliveries in a row; the tenth disables the webhook.
    delivered: int  # Attempts of the last day that were delivered.
    failed: int  # Attempts of the last day that failed.
    lastError: str  # Why the last of them failed.
    eventId: str  # The event of that delivery.


class WebhookFailing(_Received):
    """An active webhook has failed for a day, or most of a day's deliveries did. Sent to the bot's notify URL; it cannot be subscribed to."""

    id: str
    event: Literal["webhook.failing"]
    timestamp: str
    data: WebhookFailingData


class WebhookRecoveredData(TypedDict):
    webhookId: str  # The webhook's id.
    botId: str  # The id of the bot that owns the webhook.
    host: str  # The host of the webhook's URL.
    failingAt: str  # When it was found to be failing.
    delivered: int  # Attempts of this hour and the one before that were delivered.
    failed: int  # Attempts of this hour and the one before that failed.


class WebhookRecovered(_Received):
    """A webhook that was failing works again. Sent to the bot's notify URL; it cannot be subscribed to."""

    id: str
    event: Literal["webhook.recovered"]
    timestamp: str
    data: WebhookRecoveredData


MathubEvent = Union[
    ThreadCreated,
    PostCreated,
    EffortCreated,
    EffortStatusChanged,
    WikiEdited,
    Mention,
    ReviewRequested,
    ReviewSubmitted,
    Test,
    WebhookVerify,
    WebhookDisabled,
    WebhookFailing,
    WebhookRecovered,
]
