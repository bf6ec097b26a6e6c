package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Batch is 1 to MaxBatchEvents events that are known to be valid and to have no id twice. ReadEvent, ReadBatch and NewBatch
// make it, so that whoever is given one need not check them again.
type Batch struct{ events []Event }

// ReadEvent is ParseEvent for who emits the event.
func ReadEvent(raw []byte) (Batch, error) {
	e, err := ParseEvent(raw)
	if err != nil {
		return Batch{}, err
	}
	return Batch{[]Event{e}}, nil
}

// ReadBatch is ParseBatch for who emits the events.
func ReadBatch(raw []byte) (Batch, error) {
	events, err := ParseBatch(raw)
	return Batch{events}, err
}

// NewBatch is ValidateBatch for who emits the events.
func NewBatch(events []Event) (Batch, error) {
	if err := ValidateBatch(events); err != nil {
		return Batch{}, err
	}
	return Batch{slices.Clone(events)}, nil
}

// Identify returns the events with an id each, see Event.Identify.
func (b Batch) Identify() Batch {
	all := make([]Event, len(b.events))
	for i, e := range b.events {
		all[i] = e.Identify()
	}
	return Batch{all}
}

// Events are the batch's, in their order.
func (b Batch) Events() []Event { return slices.Clone(b.events) }

// ParseBatch reads and checks a batch of emitted events, {"events": […]}: 1 to MaxBatchEvents of them, in MaxBatchBytes.
// The error is a *SyntaxError where the input is no such object at all, else an *InvalidError, which names an event's place,
// such as "events[3].data". No event's id may stand twice.
func ParseBatch(raw []byte) ([]Event, error) {
	if len(raw) > MaxBatchBytes {
		return nil, errBatchTooLarge
	}
	members, err := readObject(lenient(raw), []string{"events"})
	if err != nil {
		return nil, err
	}
	list, ok := members["events"]
	if !ok || isNull(list) {
		return nil, invalid("events", "is required")
	}
	items, err := elements(list)
	if err != nil {
		return nil, err
	}
	var faults InvalidError
	events := make([]Event, len(items))
	for i, item := range items {
		e, err := parseEvent(item, MaxEventBytes)
		faults.addOf(i, err)
		events[i] = e
	}
	faults.addRepeats(events)
	if err := faults.orNil(); err != nil {
		return nil, err
	}
	return events, nil
}

// ParseAcceptedBatch reads the array of events that a door has accepted. What one of them is at fault for is in faults, by
// its place, and concerns no other.
func ParseAcceptedBatch(raw []byte) (events []Event, faults map[int]error, err error) {
	if len(raw) > MaxBatchBytes+MaxBatchEvents*maxCompletionBytes {
		return nil, nil, errBatchTooLarge
	}
	items, err := elements(raw)
	if err != nil {
		return nil, nil, err
	}
	for i, item := range items {
		e, err := ParseAccepted(item)
		if err != nil {
			if faults == nil {
				faults = map[int]error{}
			}
			faults[i] = err
		}
		events = append(events, e)
	}
	return events, faults, nil
}

var errBatchTooLarge = invalid("events", fmt.Sprintf("must have at most %d bytes of JSON in total", MaxBatchBytes))

// elements splits a JSON array of events. What is wrong within one of them is found when that is read.
func elements(list []byte) ([]json.RawMessage, error) {
	var items []json.RawMessage
	dec := lenient(list)
	if dec.PeekKind() != '[' {
		return nil, invalid("events", "must be an array of events")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err)
	}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntaxError(err)
		}
		if len(items) == MaxBatchEvents {
			return nil, invalid("events", fmt.Sprintf("must have at most %d events", MaxBatchEvents))
		}
		items = append(items, bytes.Clone(value))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err)
	}
	end := dec.InputOffset()
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &SyntaxError{Message: "unexpected data after the array", Offset: end}
	}
	if len(items) == 0 {
		return nil, invalid("events", "must have at least one event")
	}
	return items, nil
}

// aroundBatch is what ParseBatch reads around the array.
const aroundBatch = len(`{"events":}`)

// ValidateBatch checks events made in Go as ParseBatch does: their number and size, and each by Event.Validate.
func ValidateBatch(events []Event) error {
	var faults InvalidError
	size := 0
	switch {
	case len(events) == 0:
		return invalid("events", "must have at least one event")
	case len(events) > MaxBatchEvents:
		return invalid("events", fmt.Sprintf("must have at most %d events", MaxBatchEvents))
	}
	for i, e := range events {
		faults.addOf(i, e.Validate())
		size += len(e.Data)
	}
	faults.addRepeats(events)
	if err := faults.orNil(); err != nil {
		return err
	}
	if size > MaxBatchBytes || len(BatchJSON(events))+aroundBatch > MaxBatchBytes {
		return errBatchTooLarge
	}
	return nil
}

// BatchLen is how many of events, from the first on, make a batch: as many as ParseBatch takes at once, and no id twice.
// Events that are more are so many batches, in their order. It is at least 1 where there are events.
func BatchLen(events []Event) int {
	ids := make(map[string]bool, MaxBatchEvents)
	size := aroundBatch + len("[]") - len(",")
	for n, e := range events {
		size += len(",") + len(e.JSON())
		id := CanonicalID(e.ID)
		if n > 0 && (n == MaxBatchEvents || size > MaxBatchBytes || id != "" && ids[id]) {
			return n
		}
		ids[id] = true
	}
	return len(events)
}

// BatchPlace reads the name of a field of a batch: "events[3].data" is the field "data" of the event at place 3.
func BatchPlace(field string) (place int, of string, ok bool) {
	rest, ok := strings.CutPrefix(field, "events[")
	if !ok {
		return 0, "", false
	}
	digits, of, ok := strings.Cut(rest, "]")
	if !ok {
		return 0, "", false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return int(n), strings.TrimPrefix(of, "."), err == nil
}

// addOf adds what is wrong with the event at place i.
func (e *InvalidError) addOf(i int, err error) {
	var fields *InvalidError
	var syntax *SyntaxError
	at := fmt.Sprintf("events[%d]", i)
	switch {
	case errors.As(err, &fields):
		for _, f := range fields.Fields {
			e.add(at+"."+f.Field, f.Message)
		}
		e.More += fields.More
	case errors.As(err, &syntax) && syntax.Field != "":
		e.add(at, fmt.Sprintf("%s %q", syntax.Message, syntax.Field))
	case errors.As(err, &syntax):
		e.add(at, syntax.Message)
	}
}

// addRepeats adds the events whose id stands before them already.
func (e *InvalidError) addRepeats(events []Event) {
	first := make(map[string]int, len(events))
	for i, event := range events {
		id := CanonicalID(event.ID)
		if id == "" {
			continue
		}
		if n, repeated := first[id]; repeated {
			e.add(fmt.Sprintf("events[%d].id", i), fmt.Sprintf("is the same as that of events[%d]", n))
			continue
		}
		first[id] = i
	}
}

// BatchJSON encodes events as an array, each as Event.JSON does.
func BatchJSON(events []Event) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.JSON())
	}
	b.WriteByte(']')
	return b.Bytes()
}

// BatchSummary names events for people, such as "64 events · 60 post.created, 4 mention", in the order of the catalog.
func BatchSummary(events []Event) string {
	if len(events) == 1 {
		return events[0].Summary()
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d events", len(events))
	separator := " · "
	for _, t := range TypesOf(events) {
		n := 0
		for _, e := range events {
			if e.Type == t {
				n++
			}
		}
		fmt.Fprintf(&b, "%s%d %s", separator, n, t)
		separator = ", "
	}
	return b.String()
}

// TypesOf are the types of events, each once, in the order of the catalog.
func TypesOf(events []Event) []EventType {
	var types []EventType
	for _, spec := range catalog {
		for _, e := range events {
			if e.Type == spec.Type {
				types = append(types, spec.Type)
				break
			}
		}
	}
	return types
}
