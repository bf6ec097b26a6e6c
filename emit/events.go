package emit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// Data is the data of one event type: one of this package's structs.
type Data interface {
	// EventType is the type of the events that have such data.
	EventType() webhook.EventType

	extra() Extra
}

// Extra are fields of an event's data beyond the documented ones, by their JSON names. Receivers must expect them.
type Extra map[string]any

func (e Extra) extra() Extra { return e }

// ThreadCreated says that a discussion thread was opened in a project. It goes to every subscribed webhook.
type ThreadCreated struct {
	ThreadID    string `json:"threadId"`
	ProjectSlug string `json:"projectSlug"` // as in the project's address
	Title       string `json:"title"`
	AuthorID    string `json:"authorId"` // a user's
	Extra       `json:"-"`
}

// PostCreated says that a post was written in a thread. It goes to every subscribed webhook.
type PostCreated struct {
	PostID   string `json:"postId"`
	ThreadID string `json:"threadId"`
	Body     string `json:"body"`     // Markdown
	AuthorID string `json:"authorId"` // a user's
	Extra    `json:"-"`
}

// EffortCreated says that an effort, a piece of work towards a result, was started in a project. It goes to every
// subscribed webhook.
type EffortCreated struct {
	EffortID    string `json:"effortId"`
	ProjectSlug string `json:"projectSlug"` // as in the project's address
	Title       string `json:"title"`
	AuthorID    string `json:"authorId"` // a user's
	Extra       `json:"-"`
}

// EffortStatusChanged says that an effort's status changed. It goes to every subscribed webhook.
type EffortStatusChanged struct {
	EffortID    string `json:"effortId"`
	ProjectSlug string `json:"projectSlug"` // as in the project's address
	Title       string `json:"title"`
	OldStatus   string `json:"oldStatus"`
	NewStatus   string `json:"newStatus"`
	Extra       `json:"-"`
}

// WikiEdited says that a page of a project's wiki was edited. It goes to every subscribed webhook.
type WikiEdited struct {
	ProjectSlug string `json:"projectSlug"` // as in the project's address
	PageSlug    string `json:"pageSlug"`    // as in the page's address
	Title       string `json:"title"`
	EditorID    string `json:"editorId"` // a user's
	Extra       `json:"-"`
}

// Mention says that a post mentions bots, which the event's BotIDs have to name.
type Mention struct {
	PostID   string `json:"postId"`
	ThreadID string `json:"threadId"`
	Body     string `json:"body"`     // Markdown
	AuthorID string `json:"authorId"` // a user's
	Extra    `json:"-"`
}

// ReviewRequested says that bots were asked to review an effort; the event's BotIDs have to name them.
type ReviewRequested struct {
	EffortID    string `json:"effortId"`
	RequestedBy string `json:"requestedBy"` // a user's id
	Title       string `json:"title"`       // the effort's
	Extra       `json:"-"`
}

// ReviewSubmitted says that a review of an effort was submitted. The event's BotIDs have to name the bots that are the
// effort's authors.
type ReviewSubmitted struct {
	EffortID   string `json:"effortId"`
	ReviewID   string `json:"reviewId"`
	ReviewerID string `json:"reviewerId"` // a user's
	Verdict    string `json:"verdict"`
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

// New makes an event of data that has happened now, to be emitted with [Event] or [HTTP.Event], or stored in an outbox.
// It has an id, so it can be emitted again after an error and is still delivered once. The caller may set another ID (see
// [ID]) or Timestamp (see [webhook.FormatTime]). BotIDs names or narrows the audience.
//
// The error is one of encoding: Extra holds what JSON cannot, or a documented field.
func New(data Data) (webhook.Event, error) {
	encoded, err := encode(data)
	if err != nil {
		return webhook.Event{}, fmt.Errorf("data of %s: %w", data.EventType(), err)
	}
	return webhook.Event{
		ID: webhook.NewID(), Type: data.EventType(), Timestamp: webhook.FormatTime(time.Now()), Data: encoded,
	}, nil
}

func encode(data Data) (json.RawMessage, error) {
	documented, err := marshal(data)
	if err != nil || len(data.extra()) == 0 {
		return documented, err
	}
	spec, _ := webhook.Spec(data.EventType())
	for _, field := range spec.Fields {
		if _, ok := data.extra()[field.Name]; ok {
			return nil, fmt.Errorf("extra field %q is a documented field; set it in the struct", field.Name)
		}
	}
	more, err := marshal(data.extra())
	if err != nil {
		return nil, err
	}
	return append(append(documented[:len(documented)-1], ','), more[1:]...), nil // two JSON objects made one
}

// marshal leaves < > & as they are, which json.Marshal does not.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// ID derives an event's id from what happened, such as ID("post.created", post.ID): the same for the same parts, and for
// no others. A backend that derives its ids needs to remember none: whatever emits again after a crash, the event is
// delivered once. Name all that makes the event a different one: ID("wiki.edited", page.ID, revision).
func ID(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		hash.Write([]byte(strconv.Quote(part))) // quoted, so that ("a", "bc") is not ("ab", "c")
	}
	return "evt_" + base64.RawURLEncoding.EncodeToString(hash.Sum(nil))
}
