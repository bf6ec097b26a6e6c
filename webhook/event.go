package webhook

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Event is an event as the backend emits it.
type Event struct {
	// ID is accepted once: emitting it again delivers nothing. See ValidID and CanonicalID; a UUIDv7 when left out.
	ID   string    `json:"id,omitempty"`
	Type EventType `json:"event"`
	// Timestamp is when it happened, in RFC 3339; the time of acceptance when left out.
	Timestamp string `json:"timestamp,omitempty"`
	// Data is a JSON object, forwarded as it stands but for white space between tokens.
	Data json.RawMessage `json:"data"`
	// BotIDs names the audience: required for targeted events, narrowing for broadcast ones. Nil means every bot.
	BotIDs []string `json:"botIds,omitzero"`

	// isSample: the data is the catalog's, and the body says `"test":true`.
	isSample bool
}

// ParseEvent reads and checks an emitted event. The error is a *SyntaxError where the input is not such an object at
// all (HTTP 400; see ParseObject), or an *InvalidError that names every field at fault (HTTP 422).
// A member that is null is as if it were left out. Repeated botIds are dropped. Ids are as CanonicalID has them.
func ParseEvent(raw []byte) (Event, error) { return parseEvent(raw, MaxEventBytes) }

// ParseAccepted is ParseEvent for what a door has accepted: a Complete event may be larger than an emitted one.
func ParseAccepted(raw []byte) (Event, error) {
	return parseEvent(raw, MaxEventBytes+maxCompletionBytes)
}

func parseEvent(raw []byte, limit int) (Event, error) {
	if len(raw) > limit {
		return Event{}, errTooLarge()
	}
	members, err := ParseObject(raw, "id", "event", "timestamp", "data", "botIds")
	if err != nil {
		return Event{}, err
	}
	maps.DeleteFunc(members, func(_ string, value json.RawMessage) bool { return isNull(value) })
	var faults InvalidError
	text := func(field string) string {
		value, ok := members[field]
		if !ok {
			return ""
		}
		s, ok := stringValue(value)
		switch {
		case !ok:
			faults.add(field, "must be a string")
		case s == "" && field != "event":
			faults.add(field, "must not be empty; leave it out")
		}
		return s
	}
	e := Event{ID: text("id"), Type: EventType(text("event")), Timestamp: text("timestamp"), Data: members["data"]}
	if value, ok := members["botIds"]; ok {
		e.BotIDs = botIDs(value, &faults)
	}
	var invalid *InvalidError
	if errors.As(e.validate(isObject), &invalid) {
		// What was found while reading comes first: a member of the wrong type is also an invalid one.
		for _, f := range invalid.Fields {
			if !slices.ContainsFunc(faults.Fields, func(g FieldError) bool { return g.Field == f.Field }) {
				faults.add(f.Field, f.Message)
			}
		}
		faults.More += invalid.More
	}
	if err := faults.orNil(); err != nil {
		return Event{}, err
	}
	e.ID, e.BotIDs = CanonicalID(e.ID), audience(e.BotIDs)
	return e, nil
}

func isNull(value json.RawMessage) bool { return string(value) == "null" }

// stringValue unquotes a JSON string that is known to be well-formed.
func stringValue(value json.RawMessage) (string, bool) {
	if jsontext.Value(value).Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, value)
	return string(s), err == nil
}

// botIDs reads the audience. It returns nil only beside a fault, since nil would mean every bot.
func botIDs(value json.RawMessage, faults *InvalidError) []string {
	var items []json.RawMessage
	if jsontext.Value(value).Kind() != '[' || json.Unmarshal(value, &items) != nil {
		faults.add("botIds", "must be an array of strings")
		return nil
	}
	if len(items) > MaxBotIDs {
		faults.add("botIds", tooManyBots)
		return nil
	}
	ids := make([]string, len(items))
	for i, item := range items {
		id, ok := stringValue(item)
		if !ok {
			faults.addIndexed("botIds", i, "must be a string")
			id = "-" // valid, so that this element is not complained of twice
		}
		ids[i] = id
	}
	return ids
}

// audience is each of the bots once, by its CanonicalID; nil stays nil.
func audience(ids []string) []string {
	if ids == nil {
		return nil
	}
	seen := make(map[string]bool, len(ids))
	once := make([]string, 0, len(ids))
	for _, id := range ids {
		if id = CanonicalID(id); !seen[id] {
			seen[id] = true
			once = append(once, id)
		}
	}
	return once
}

var tooManyBots = fmt.Sprintf("must name at most %d bots", MaxBotIDs)

func errTooLarge() error {
	return invalid("data", fmt.Sprintf("is too large: the event must have at most %d bytes of JSON", MaxEventBytes))
}

// Validate checks an event made in Go; ParseEvent has done so already. The error is nil or an *InvalidError that
// names every field at fault. An id or a timestamp may be missing, see Complete. Direct events are refused: they cannot be emitted.
func (e Event) Validate() error {
	if len(e.Data) > MaxEventBytes || len(e.JSON()) > MaxEventBytes {
		return errTooLarge()
	}
	return e.validate(isValidObject)
}

// validate checks all of an event; checkData says what is wrong with its data.
func (e Event) validate(checkData func(data jsontext.Value) string) error {
	var faults InvalidError
	if e.ID != "" && !ValidID(e.ID) {
		faults.add("id", idMessage)
	}
	e.validateType(&faults)
	if e.Timestamp != "" {
		if _, err := ParseTime(e.Timestamp); err != nil {
			faults.add("timestamp", err.Error())
		}
	}
	if len(e.Data) == 0 {
		faults.add("data", "is required and "+mustBeObject)
	} else if fault := checkData(jsontext.Value(e.Data)); fault != "" {
		faults.add("data", fault)
	} else if hasLongNumber(e.Data) {
		faults.add("data", fmt.Sprintf("must not have a number of more than %d characters: common receivers refuse it", MaxNumberBytes))
	}
	e.validateAudience(&faults)
	return faults.orNil()
}

func (e Event) validateType(faults *InvalidError) {
	spec, ok := specs[e.Type]
	switch {
	case e.Type == "":
		faults.add("event", "is required; must be one of: "+subscribableList)
	case !ok:
		faults.add("event", "is not an event type; must be one of: "+subscribableList)
	case spec.Audience == Direct:
		faults.add("event", "cannot be emitted; must be one of: "+subscribableList)
	}
}

func (e Event) validateAudience(faults *InvalidError) {
	spec, ok := specs[e.Type]
	switch {
	case len(e.BotIDs) > MaxBotIDs:
		faults.add("botIds", tooManyBots)
	case e.BotIDs != nil && len(e.BotIDs) == 0:
		// Encoded again without the empty list, the event would go to everyone instead of to no one.
		faults.add("botIds", "must name at least one bot, or be left out")
	case ok && spec.Audience == Targeted && len(e.BotIDs) == 0:
		faults.add("botIds", fmt.Sprintf("is required: %s events go only to the bots named", e.Type))
	}
	for i, id := range e.BotIDs {
		if !ValidID(id) {
			faults.addIndexed("botIds", i, idMessage)
		}
	}
}

const mustBeObject = "must be a JSON object"

// isObject checks data that is well-formed, as what the parser has read is.
func isObject(data jsontext.Value) (fault string) {
	if data.Kind() != '{' {
		return mustBeObject
	}
	return ""
}

// isValidObject checks data that nothing is known of.
func isValidObject(data jsontext.Value) (fault string) {
	switch {
	case checkDepth(data, maxDataDepth) != nil:
		return fmt.Sprintf("must not be nested deeper than %d levels", maxDataDepth)
	case !data.IsValid():
		return mustBeObject + " in valid UTF-8, without duplicate names or unpaired surrogates"
	}
	return isObject(data)
}

// Complete returns the event as it is accepted at the given time: with a new id if it has none, with a timestamp in
// the envelope's form, with each bot named once, and with each id as CanonicalID has it.
func (e Event) Complete(acceptedAt time.Time) Event {
	if e.ID == "" {
		e.ID = NewID()
	}
	e.Timestamp = e.envelopeTime(acceptedAt)
	e.ID, e.BotIDs = CanonicalID(e.ID), audience(e.BotIDs)
	return e
}

// Identify is Complete but for a missing timestamp: one that a door makes up is no part of what the emitter says, and
// differs each time.
func (e Event) Identify() Event {
	dated := e.Timestamp != ""
	if e = e.Complete(time.Time{}); !dated {
		e.Timestamp = ""
	}
	return e
}

// envelopeTime is the timestamp in the envelope's form, or instead of a missing or unreadable one.
func (e Event) envelopeTime(instead time.Time) string {
	if t, err := ParseTime(e.Timestamp); err == nil {
		return FormatTime(t)
	}
	return FormatTime(instead)
}

// Body is what is sent to receivers, {"event":…,"timestamp":…,"data":…} without white space between tokens. Nothing
// within data's tokens is changed: digits, escapes and the order of members stay as emitted. The body is made once and
// stored, so every attempt sends the same bytes. An event without a timestamp gets the current time; call Complete first if
// the body may be made twice. The event must be valid.
func (e Event) Body() []byte {
	var b bytes.Buffer
	b.Grow(len(`{"event":"","timestamp":"","data":}`) + len(e.Type) + len(timeLayout) + len(e.Data))
	b.WriteString(`{"event":"`)
	b.WriteString(string(e.Type)) // a type of the catalog needs no escaping
	b.WriteString(`","timestamp":"`)
	b.WriteString(e.envelopeTime(time.Now()))
	b.WriteString(`","data":`)
	// json.Compact, unlike json.Marshal of a RawMessage, does not escape < > & U+2028 U+2029.
	if err := json.Compact(&b, e.Data); err != nil {
		b.WriteString("null") // not reached with a valid event
	}
	if e.isSample {
		b.WriteString(`,"test":true`)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// IsStored says whether a stored event, of which head is the payload's beginning, digest the payload's SHA-256 and botIDs the
// audience, is what e says. Of the timestamp e says nothing where it has none.
func (e Event) IsStored(head, digest []byte, botIDs []string) bool {
	if e.Timestamp == "" {
		_, rest, _ := bytes.Cut(head, []byte(`"timestamp":"`))
		e.Timestamp = string(rest[:min(len(rest), len(timeLayout))])
	}
	sum := sha256.Sum256(e.Body())
	return bytes.Equal(sum[:], digest) && slices.Equal(sortedIDs(e.BotIDs), sortedIDs(botIDs))
}

// DataOf is the data of a Body.
func DataOf(body []byte) json.RawMessage {
	_, data, _ := bytes.Cut(body, []byte(`","data":`))
	return bytes.TrimSuffix(data, []byte("}"))
}

func sortedIDs(ids []string) []string { return slices.Compact(slices.Sorted(slices.Values(ids))) }

// JSON encodes the event with its data byte for byte, as ParseEvent reads it. json.Marshal would escape < > & U+2028
// U+2029 within data.
func (e Event) JSON() []byte {
	var b bytes.Buffer
	b.Grow(len(e.Data) + 128 + 40*len(e.BotIDs))
	b.WriteByte('{')
	if e.ID != "" {
		writeMember(&b, "id", e.ID)
		b.WriteByte(',')
	}
	writeMember(&b, "event", string(e.Type))
	if e.Timestamp != "" {
		b.WriteByte(',')
		writeMember(&b, "timestamp", e.Timestamp)
	}
	b.WriteString(`,"data":`)
	if len(e.Data) == 0 {
		b.WriteString("null")
	}
	b.Write(e.Data)
	if e.BotIDs != nil {
		b.WriteString(`,"botIds":[`)
		for i, id := range e.BotIDs {
			if i > 0 {
				b.WriteByte(',')
			}
			writeString(&b, id)
		}
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.Bytes()
}

func writeMember(b *bytes.Buffer, name, value string) {
	writeString(b, name)
	b.WriteByte(':')
	writeString(b, value)
}

func writeString(b *bytes.Buffer, s string) {
	// The error is about invalid UTF-8 only, which is then replaced by U+FFFD; no valid event has any here.
	quoted, _ := jsontext.AppendQuote(b.AvailableBuffer(), s)
	b.Write(quoted)
}

// TestEvent is the event that POST /webhooks/:id/test sends: the one event that Validate refuses.
func TestEvent(webhookID uuid.UUID, botID string, at time.Time) Event {
	var data bytes.Buffer
	data.WriteByte('{')
	writeMember(&data, "webhookId", webhookID.String())
	data.WriteByte(',')
	writeMember(&data, "botId", botID)
	data.WriteByte(',')
	writeMember(&data, "message", testMessage)
	data.WriteByte('}')
	return Event{ID: NewID(), Type: Test, Timestamp: FormatTime(at), Data: data.Bytes()}
}
