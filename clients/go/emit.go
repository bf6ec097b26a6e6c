package mathub

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	// emitTimeout is for how long to try where the context has no deadline.
	emitTimeout = time.Minute
	// tryTimeout bounds a try: the service answers within 15 s.
	tryTimeout = 20 * time.Second

	maxBatchEvents = 100
	maxBatchBytes  = 1 << 20

	firstPause, longestPause, longestAsked = 100 * time.Millisecond, 10 * time.Second, time.Minute
)

// EventData is the data of an event that can be emitted: one of this package's structs, such as [PostCreatedData].
type EventData interface{ EventType() EventType }

// NewEvent is an event to emit. Derive id from what happened: an id is accepted once, so that the event can be emitted again after an error or a
// crash. botIDs is the audience, which mention, review.requested and review.submitted require; without any, other events go to every bot, so look
// first whether a list of yours is empty. For data with further fields, set
// the event's Data yourself.
func NewEvent(id string, data EventData, botIDs ...string) Event {
	var encoded bytes.Buffer
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(data) // the package's structs can be encoded
	return Event{ID: id, Type: data.EventType(), Data: bytes.TrimSpace(encoded.Bytes()), BotIDs: botIDs}
}

// Emit accepts an event for delivery: once it returns, the event is durable and will be delivered at least once. While the service is away or busy (no
// answer, 408, 429, 5xx), it tries again with the same id, until ctx ends, or for a minute where ctx has no deadline. The error is a *[Problem], such as
// of status 422 where the event is invalid, or says that no answer came, or none of the service's. After any, the event may be emitted again
// with the id that you gave it.
func (c *Service) Emit(ctx context.Context, event Event) (Receipt, error) {
	event = identified(event)
	answer, err := emitting(ctx, func(ctx context.Context) (*Response[Receipt], error) { return c.EmitEvent(ctx, event) })
	if err == nil {
		err = c.checkReceipts([]Event{event}, []Receipt{answer.Value})
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("emit %s: %w", event.ID, err)
	}
	return answer.Value, nil
}

// EmitBatch accepts 1 to 100 events of at most 1 MiB of JSON in all, as Emit does: all of them, or none. Receipts are in their order. No id may
// stand twice. For a longer list, see [Batches].
func (c *Service) EmitBatch(ctx context.Context, events []Event) ([]Receipt, error) {
	batch := EventBatch{Events: make([]Event, len(events))}
	for i, event := range events {
		batch.Events[i] = identified(event)
	}
	answer, err := emitting(ctx, func(ctx context.Context) (*Response[[]Receipt], error) { return c.EmitEvents(ctx, batch) })
	if err == nil {
		err = c.checkReceipts(batch.Events, answer.Value)
	}
	if err != nil {
		return nil, fmt.Errorf("emit %d events: %w", len(events), err)
	}
	return answer.Value, nil
}

// checkReceipts holds receipts against their events.
func (c *Service) checkReceipts(events []Event, receipts []Receipt) error {
	if !slices.EqualFunc(events, receipts, func(e Event, r Receipt) bool { return strings.EqualFold(e.ID, r.ID) }) { // a UUID may be in either case
		return c.notTheAPI(errors.New("it answered with no receipts of the events"))
	}
	return nil
}

// Batches divides events into batches that EmitBatch takes. Events without an id get one. An id that stands twice begins another batch. An event
// that cannot be encoded or is too large is a batch of its own, which the service refuses.
func Batches(events iter.Seq[Event]) iter.Seq[[]Event] {
	return func(yield func([]Event) bool) {
		const around = len(`{"events":[]}`)
		var batch []Event
		ids, size := map[string]bool{}, around
		for event := range events {
			event = identified(event)
			id := strings.ToLower(event.ID) // a UUID is the same id in either case; others are divided in vain
			encoded, _ := json.Marshal(event)
			if len(batch) > 0 && (len(batch) == maxBatchEvents || size+len(encoded)+1 > maxBatchBytes || ids[id]) {
				if !yield(batch) {
					return
				}
				batch, ids, size = nil, map[string]bool{}, around
			}
			batch, ids[id] = append(batch, event), true
			size += len(encoded) + 1
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}

// identified is an event with an id, so that each try has the same.
func identified(event Event) Event {
	if event.ID == "" {
		event.ID = newID()
	}
	return event
}

// newID is a UUIDv7 (RFC 9562, section 5.7): time-ordered, so that rows made together lie together.
func newID() string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(time.Now().UnixMilli())<<16)
	_, _ = rand.Read(id[6:]) // it does not fail
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func emitting[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, emitTimeout)
		defer cancel()
	}
	return patiently(ctx, tryTimeout, call)
}

// patiently makes a call until it is answered for good or ctx ends. A try may take as long as try.
func patiently[T any](ctx context.Context, try time.Duration, call func(context.Context) (T, error)) (T, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		bounded, cancel := context.WithTimeout(ctx, try)
		answer, err := call(bounded)
		cancel()
		if err == nil || !mayPass(err) {
			return answer, err
		}
		timer := time.NewTimer(waitAfter(err, pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, fmt.Errorf("%w; the last answer: %w", context.Cause(ctx), err)
		}
	}
}

// waitAfter is a pause with jitter, or a longer one that the service asks for, or a proxy before it: both may answer again at once.
func waitAfter(err error, pause time.Duration) time.Duration {
	wait := pause/2 + mathrand.N(pause/2)
	var refused *Problem
	if errors.As(err, &refused) {
		wait = max(wait, min(refused.RetryAfter, longestAsked))
	}
	return wait
}

func mayPass(err error) bool {
	var refused *Problem
	if errors.As(err, &refused) {
		return refused.Temporary()
	}
	return errors.As(err, &noAnswerError{})
}
