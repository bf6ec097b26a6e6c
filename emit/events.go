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

//go:generate go run ../clients/go/gentypes emit events_gen.go

// Data is the data of one event type: one of the structs of events_gen.go.
type Data interface {
	// EventType is the type of the events that have such data.
	EventType() webhook.EventType

	extra() Extra
}

// Extra are fields of an event's data beyond the documented ones, by their JSON names. Receivers must expect them.
type Extra map[string]any

func (e Extra) extra() Extra { return e }

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
