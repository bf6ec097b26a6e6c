package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// NoticeKind says what a bot's owner is notified of.
type NoticeKind string

// The kinds of notices.
const (
	NoticeDisabled  NoticeKind = "disabled"  // failures in a row disabled a webhook
	NoticeFailing   NoticeKind = "failing"   // an active webhook has failed for a day, or most of a day's deliveries did
	NoticeRecovered NoticeKind = "recovered" // one that was said to be failing works again
)

// Valid reports whether it is one of the kinds.
func (k NoticeKind) Valid() bool {
	return k == NoticeDisabled || k == NoticeFailing || k == NoticeRecovered
}

// Why a webhook is said to be failing.
const (
	// FailingInARow says that each attempt of a day has failed.
	FailingInARow = "failures_in_a_row"
	// FailingMostly says that more than half of a day's attempts have failed.
	FailingMostly = "success_rate"
)

// Notice is what a bot's owner is notified of about a webhook.
type Notice struct {
	Kind      NoticeKind
	WebhookID uuid.UUID
	// Generation is the webhook's, which each enabling raises: failures disable it once in a generation. Of the other kinds it
	// counts the times that the webhook was found failing.
	Generation   int
	BotID        string
	Host         string // of the webhook's URL, which as a whole may hold a token
	FailureCount int
	At           time.Time // when it was disabled, or found failing or recovered
	LastError    string    // of the delivery that disabled it, or that failed last
	EventID      string    // of that delivery
	Reason       string    // of NoticeFailing: FailingInARow or FailingMostly
	// Since is when its failures began; of NoticeRecovered, when it was found failing.
	Since time.Time
	// Delivered and Failed are its attempts of the last day; of NoticeRecovered, those of this hour and the one before.
	Delivered, Failed int64
}

// NoticeID is the id of the event that tells the owner: the same on every attempt, another for every notice.
func (n Notice) NoticeID() string {
	return fmt.Sprintf("%s-%s-%d", n.Kind, n.WebhookID, n.Generation)
}

// sampleWebhook is the webhook of the docs' examples.
var sampleWebhook = uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71")

// DisabledTest is what the owner is sent to try its endpoint: a disabling that did not happen, whose body says `"test":true`.
func DisabledTest(botID, eventID string, at time.Time) Event {
	e := Notice{
		Kind: NoticeDisabled, WebhookID: sampleWebhook, BotID: botID, Host: "bots.example.org", FailureCount: MaxFailures, At: at, LastError: "HTTP 503", EventID: eventID,
	}.Event()
	e.ID, e.isSample = eventID, true
	return e
}

// Event is what the owner is sent. It depends on the notice alone, so that each attempt sends the same bytes.
func (n Notice) Event() Event {
	path := "/api/bot/v1/webhooks/" + n.WebhookID.String() // an id needs no escaping
	data := &members{}
	data.text("webhookId", n.WebhookID.String())
	data.text("botId", n.BotID)
	data.text("host", n.Host)
	kind := Disabled
	switch n.Kind {
	case NoticeFailing:
		kind = Failing
		data.text("reason", n.Reason)
		data.text("since", FormatTime(n.Since))
		data.number("failureCount", int64(n.FailureCount))
		data.number("delivered", n.Delivered)
		data.number("failed", n.Failed)
		data.text("lastError", n.LastError)
		data.text("eventId", n.EventID)
	case NoticeRecovered:
		kind = Recovered
		data.text("failingAt", FormatTime(n.Since))
		data.number("delivered", n.Delivered)
		data.number("failed", n.Failed)
	default:
		data.number("failureCount", int64(n.FailureCount))
		data.text("disabledAt", FormatTime(n.At))
		data.text("lastError", n.LastError)
		data.text("eventId", n.EventID)
		data.raw("enable", `{"method":"PATCH","path":"`+path+`","body":{"isActive":true}}`)
		data.raw("recover", `{"method":"POST","path":"`+path+`/recover"}`)
	}
	return Event{ID: n.NoticeID(), Type: kind, Timestamp: FormatTime(n.At), Data: data.object()}
}

// members are those of a JSON object, in their order.
type members struct{ b bytes.Buffer }

func (m *members) comma() {
	if m.b.Len() > 0 {
		m.b.WriteByte(',')
	}
}

func (m *members) text(name, value string) {
	m.comma()
	writeMember(&m.b, name, value)
}

func (m *members) number(name string, value int64) { m.raw(name, strconv.FormatInt(value, 10)) }

func (m *members) raw(name, value string) {
	m.comma()
	m.b.WriteString(`"` + name + `":` + value)
}

func (m *members) object() json.RawMessage { return json.RawMessage("{" + m.b.String() + "}") }
