package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Disabling is that failures in a row disabled a webhook.
type Disabling struct {
	WebhookID uuid.UUID `json:"webhookId"`
	// Generation is the webhook's, which each enabling raises: failures disable it once in a generation.
	Generation   int       `json:"generation"`
	BotID        string    `json:"botId"`
	Host         string    `json:"host"` // of the webhook's URL, which as a whole may hold a token
	FailureCount int       `json:"failureCount"`
	DisabledAt   time.Time `json:"disabledAt"`
	LastError    string    `json:"lastError"` // of the delivery that disabled it
	EventID      string    `json:"eventId"`   // of that delivery
}

// NoticeID is the id of the event that tells the owner: the same on every attempt, another for every disabling.
func (d Disabling) NoticeID() string {
	return fmt.Sprintf("disabled-%s-%d", d.WebhookID, d.Generation)
}

// sampleWebhook is the webhook of the docs' examples.
var sampleWebhook = uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71")

// DisabledTest is what the owner is sent to try its endpoint: a disabling that did not happen, whose body says `"test":true`.
func DisabledTest(botID, eventID string, at time.Time) Event {
	e := Disabling{
		WebhookID: sampleWebhook, BotID: botID, Host: "bots.example.org", FailureCount: MaxFailures, DisabledAt: at, LastError: "HTTP 503", EventID: eventID,
	}.Event()
	e.ID, e.isSample = eventID, true
	return e
}

// Event is what the owner is sent. It depends on the disabling alone, so that each attempt sends the same bytes.
func (d Disabling) Event() Event {
	path := "/api/bot/v1/webhooks/" + d.WebhookID.String()
	var data bytes.Buffer
	data.WriteByte('{')
	for _, m := range [][2]string{
		{"webhookId", d.WebhookID.String()}, {"botId", d.BotID}, {"host", d.Host},
	} {
		writeMember(&data, m[0], m[1])
		data.WriteByte(',')
	}
	data.WriteString(`"failureCount":` + strconv.Itoa(d.FailureCount) + `,`)
	for _, m := range [][2]string{
		{"disabledAt", FormatTime(d.DisabledAt)}, {"lastError", d.LastError}, {"eventId", d.EventID},
	} {
		writeMember(&data, m[0], m[1])
		data.WriteByte(',')
	}
	// An id needs no escaping.
	data.WriteString(`"enable":{"method":"PATCH","path":"` + path + `","body":{"isActive":true}},"recover":{"method":"POST","path":"` + path + `/recover"}}`)
	return Event{ID: d.NoticeID(), Type: Disabled, Timestamp: FormatTime(d.DisabledAt), Data: json.RawMessage(data.Bytes())}
}
