// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

package emit

import "github.com/mathub/webhooks/webhook"

// ThreadCreated is the data of thread.created. A discussion thread was opened in a project. It goes to every subscribed webhook.
type ThreadCreated struct {
	ThreadID    string `json:"threadId"`    // The thread's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The thread's title.
	AuthorID    string `json:"authorId"`    // The id of the user who wrote it.
	Extra       `json:"-"`
}

// PostCreated is the data of post.created. A post was written in a thread. It goes to every subscribed webhook.
type PostCreated struct {
	PostID   string `json:"postId"`   // The post's id.
	ThreadID string `json:"threadId"` // The thread's id.
	Body     string `json:"body"`     // The post's text, in Markdown.
	AuthorID string `json:"authorId"` // The id of the user who wrote it.
	Extra    `json:"-"`
}

// EffortCreated is the data of effort.created. An effort, a piece of work towards a result, was started in a project. It goes to every subscribed webhook.
type EffortCreated struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The effort's title.
	AuthorID    string `json:"authorId"`    // The id of the user who wrote it.
	Extra       `json:"-"`
}

// EffortStatusChanged is the data of effort.status_changed. An effort's status changed. It goes to every subscribed webhook.
type EffortStatusChanged struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	Title       string `json:"title"`       // The effort's title.
	OldStatus   string `json:"oldStatus"`   // The status before.
	NewStatus   string `json:"newStatus"`   // The status now.
	Extra       `json:"-"`
}

// WikiEdited is the data of wiki.edited. A page of a project's wiki was edited. It goes to every subscribed webhook.
type WikiEdited struct {
	ProjectSlug string `json:"projectSlug"` // The project's slug, as in its address.
	PageSlug    string `json:"pageSlug"`    // The page's slug, as in its address.
	Title       string `json:"title"`       // The page's title.
	EditorID    string `json:"editorId"`    // The id of the user who edited it.
	Extra       `json:"-"`
}

// Mention is the data of mention. A post mentions the bot. The event's BotIDs have to name the bots.
type Mention struct {
	PostID   string `json:"postId"`   // The post's id.
	ThreadID string `json:"threadId"` // The thread's id.
	Body     string `json:"body"`     // The post's text, in Markdown.
	AuthorID string `json:"authorId"` // The id of the user who wrote it.
	Extra    `json:"-"`
}

// ReviewRequested is the data of review.requested. The bot was asked to review an effort. The event's BotIDs have to name the bots.
type ReviewRequested struct {
	EffortID    string `json:"effortId"`    // The effort's id.
	RequestedBy string `json:"requestedBy"` // The id of the user who asks.
	Title       string `json:"title"`       // The effort's title.
	Extra       `json:"-"`
}

// ReviewSubmitted is the data of review.submitted. A review of the bot's own effort was submitted. The event's BotIDs have to name the bots.
type ReviewSubmitted struct {
	EffortID   string `json:"effortId"`   // The effort's id.
	ReviewID   string `json:"reviewId"`   // The review's id.
	ReviewerID string `json:"reviewerId"` // The id of the reviewer.
	Verdict    string `json:"verdict"`    // The reviewer's verdict.
	Extra      `json:"-"`
}

// EventType is webhook.ThreadCreated.
func (ThreadCreated) EventType() webhook.EventType { return webhook.ThreadCreated }

// EventType is webhook.PostCreated.
func (PostCreated) EventType() webhook.EventType { return webhook.PostCreated }

// EventType is webhook.EffortCreated.
func (EffortCreated) EventType() webhook.EventType { return webhook.EffortCreated }

// EventType is webhook.EffortStatusChanged.
func (EffortStatusChanged) EventType() webhook.EventType { return webhook.EffortStatusChanged }

// EventType is webhook.WikiEdited.
func (WikiEdited) EventType() webhook.EventType { return webhook.WikiEdited }

// EventType is webhook.Mention.
func (Mention) EventType() webhook.EventType { return webhook.Mention }

// EventType is webhook.ReviewRequested.
func (ReviewRequested) EventType() webhook.EventType { return webhook.ReviewRequested }

// EventType is webhook.ReviewSubmitted.
func (ReviewSubmitted) EventType() webhook.EventType { return webhook.ReviewSubmitted }
