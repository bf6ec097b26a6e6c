// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

package mathub

import "encoding/json"

// ThreadCreatedData is the data of thread.created. A discussion thread was opened in a project.
type ThreadCreatedData struct {
	ThreadID    string `json:"threadId"`    // The thread's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The thread's title.
	AuthorID    string `json:"authorId"`    // The id of the user who wrote it.
}

// PostCreatedData is the data of post.created. A post was written in a thread.
type PostCreatedData struct {
	PostID   string `json:"postId"`   // The post's id.
	ThreadID string `json:"threadId"` // The thread's id.
	Body     string `json:"body"`     // The post's text, in Markdown.
	AuthorID string `json:"authorId"` // The id of the user who wrote it.
}

// EffortCreatedData is the data of effort.created. An effort, a piece of work towards a result, was started in a project.
type EffortCreatedData struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The effort's title.
	AuthorID    string `json:"authorId"`    // The id of the user who wrote it.
}

// EffortStatusChangedData is the data of effort.status_changed. An effort's status changed.
type EffortStatusChangedData struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The effort's title.
	OldStatus   string `json:"oldStatus"`   // The status before.
	NewStatus   string `json:"newStatus"`   // The status now.
}

// WikiEditedData is the data of wiki.edited. A page of a project's wiki was edited.
type WikiEditedData struct {
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	PageSlug    string `json:"pageSlug"`    // The page's slug, as in its address.
	Title       string `json:"title"`       // The page's title.
	EditorID    string `json:"editorId"`    // The id of the user who edited it.
}

// MentionData is the data of mention. A post mentions the bot.
type MentionData struct {
	PostID   string `json:"postId"`   // The post's id.
	ThreadID string `json:"threadId"` // The thread's id.
	Body     string `json:"body"`     // The post's text, in Markdown.
	AuthorID string `json:"authorId"` // The id of the user who wrote it.
}

// ReviewRequestedData is the data of review.requested. The bot was asked to review an effort.
type ReviewRequestedData struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	RequestedBy string `json:"requestedBy"` // The id of the user who asks.
	Title       string `json:"title"`       // The effort's title.
}

// ReviewSubmittedData is the data of review.submitted. A review of the bot's own effort was submitted.
type ReviewSubmittedData struct {
	EffortID   string `json:"effortId"`   // The effort's id.
	ReviewID   string `json:"reviewId"`   // The review's id.
	ReviewerID string `json:"reviewerId"` // The id of the reviewer.
	Verdict    string `json:"verdict"`    // The reviewer's verdict.
}

// TestData is the data of test. Sent on request to one webhook, to try it. It cannot be subscribed to.
type TestData struct {
	WebhookID string `json:"webhookId"` // The webhook's id.
	BotID     string `json:"botId"`     // The id of the bot that owns the webhook.
	Message   string `json:"message"`   // Always the same text.
}

// WebhookVerifyData is the data of webhook.verify. Asks an endpoint whether it wants the webhook's deliveries: an answer with the nonce verifies it. It cannot be subscribed to.
type WebhookVerifyData struct {
	WebhookID string `json:"webhookId"` // The webhook's id.
	BotID     string `json:"botId"`     // The id of the bot that owns the webhook.
	Nonce     string `json:"nonce"`     // What the answer is to contain, as text or as `nonce` in JSON.
}

// WebhookDisabledData is the data of webhook.disabled. A webhook was disabled by failures in a row. Sent to the bot's notify URL; it cannot be subscribed to.
type WebhookDisabledData struct {
	WebhookID    string          `json:"webhookId"`    // The webhook's id.
	BotID        string          `json:"botId"`        // The id of the bot that owns the webhook.
	Host         string          `json:"host"`         // The host of the webhook's URL.
	FailureCount int             `json:"failureCount"` // Failed deliveries in a row.
	DisabledAt   string          `json:"disabledAt"`   // When it was disabled.
	LastError    string          `json:"lastError"`    // Why the last of the deliveries failed.
	EventID      string          `json:"eventId"`      // The event of that delivery.
	Enable       json.RawMessage `json:"enable"`       // The call of the bot API that enables it again.
	Recover      json.RawMessage `json:"recover"`      // The call of the bot API that then delivers what it missed.
}

// WebhookFailingData is the data of webhook.failing. An active webhook has failed for a day, or most of a day's deliveries did. Sent to the bot's notify URL; it cannot be subscribed to.
type WebhookFailingData struct {
	WebhookID    string `json:"webhookId"`    // The webhook's id.
	BotID        string `json:"botId"`        // The id of the bot that owns the webhook.
	Host         string `json:"host"`         // The host of the webhook's URL.
	Reason       string `json:"reason"`       // `failures_in_a_row`: each attempt of a day or more failed; `success_rate`: more than half of at least 20 attempts of a day did.
	Since        string `json:"since"`        // When the failures in a row began, or when the day did.
	FailureCount int    `json:"failureCount"` // Failed deliveries in a row; the tenth disables the webhook.
	Delivered    int    `json:"delivered"`    // Attempts of the last day that were delivered.
	Failed       int    `json:"failed"`       // Attempts of the last day that failed.
	LastError    string `json:"lastError"`    // Why the last of them failed.
	EventID      string `json:"eventId"`      // The event of that delivery.
}

// WebhookRecoveredData is the data of webhook.recovered. A webhook that was failing works again. Sent to the bot's notify URL; it cannot be subscribed to.
type WebhookRecoveredData struct {
	WebhookID string `json:"webhookId"` // The webhook's id.
	BotID     string `json:"botId"`     // The id of the bot that owns the webhook.
	Host      string `json:"host"`      // The host of the webhook's URL.
	FailingAt string `json:"failingAt"` // When it was found to be failing.
	Delivered int    `json:"delivered"` // Attempts of this hour and the one before that were delivered.
	Failed    int    `json:"failed"`    // Attempts of this hour and the one before that failed.
}

// EventType is thread.created.
func (ThreadCreatedData) EventType() EventType { return ThreadCreated }

// EventType is post.created.
func (PostCreatedData) EventType() EventType { return PostCreated }

// EventType is effort.created.
func (EffortCreatedData) EventType() EventType { return EffortCreated }

// EventType is effort.status_changed.
func (EffortStatusChangedData) EventType() EventType { return EffortStatusChanged }

// EventType is wiki.edited.
func (WikiEditedData) EventType() EventType { return WikiEdited }

// EventType is mention.
func (MentionData) EventType() EventType { return Mention }

// EventType is review.requested.
func (ReviewRequestedData) EventType() EventType { return ReviewRequested }

// EventType is review.submitted.
func (ReviewSubmittedData) EventType() EventType { return ReviewSubmitted }

// typed is the data of an event of that type: a struct, or raw where the type is not known.
func typed(eventType string, raw json.RawMessage) any {
	switch eventType {
	case "thread.created":
		return dataOf[ThreadCreatedData](raw)
	case "post.created":
		return dataOf[PostCreatedData](raw)
	case "effort.created":
		return dataOf[EffortCreatedData](raw)
	case "effort.status_changed":
		return dataOf[EffortStatusChangedData](raw)
	case "wiki.edited":
		return dataOf[WikiEditedData](raw)
	case "mention":
		return dataOf[MentionData](raw)
	case "review.requested":
		return dataOf[ReviewRequestedData](raw)
	case "review.submitted":
		return dataOf[ReviewSubmittedData](raw)
	case "test":
		return dataOf[TestData](raw)
	case "webhook.verify":
		return dataOf[WebhookVerifyData](raw)
	case "webhook.disabled":
		return dataOf[WebhookDisabledData](raw)
	case "webhook.failing":
		return dataOf[WebhookFailingData](raw)
	case "webhook.recovered":
		return dataOf[WebhookRecoveredData](raw)
	}
	return raw
}
