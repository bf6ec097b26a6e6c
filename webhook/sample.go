package webhook

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// TestEventOf is the event that tries a webhook with the catalog's sample of a type that it could subscribe to. Its body has
// `"test":true` as a last member, which is signed with the rest and stays on a redelivery. It is stored as of type Test: no
// poll, recovery or other webhook has it.
func TestEventOf(t EventType, webhookID uuid.UUID, botID string, at time.Time) Event {
	if t == "" || t == Test {
		return TestEvent(webhookID, botID, at)
	}
	return Event{ID: NewID(), Type: t, Timestamp: FormatTime(at), Data: specs[t].ExampleData(), isSample: true}
}

// StoredType is the type that an event is stored under.
func (e Event) StoredType() EventType {
	if e.isSample {
		return Test
	}
	return e.Type
}

// SentType is the type that receivers see of an event that is stored as of type t: a test names another in its body.
func SentType(t EventType, body []byte) EventType {
	if t != Test {
		return t
	}
	_, rest, _ := bytes.Cut(body, []byte(`"event":"`))
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	return EventType(name)
}

// CheckTestType returns an *InvalidError unless a webhook can be tried with that type; "" stands for Test.
func CheckTestType(t EventType) error {
	if t == "" || t == Test || slices.Contains(Subscribable(), t) {
		return nil
	}
	return Invalid("eventType", "must be one of: "+strings.Join([]string{string(Test), subscribableList}, ", "))
}
