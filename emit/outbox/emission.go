package outbox

import (
	"context"
	"fmt"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// emission is the emitting of one transaction's rows.
type emission struct {
	emit     func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error)
	finish   context.Context // ends when what is in progress is to be given up
	rows     []row
	outcomes []outcome
	over     func() bool // nothing more is to be begun: what is left is for the next transaction
}

// batch is the places of rows whose events are emitted by one call.
type batch []int

// batches finds the rows that are at fault by themselves, so that none of them is sent, and parts the others, in their
// order. Of rows with one id, each is in a batch of its own: the service takes no id twice in one.
func (e emission) batches() (batches []batch) {
	var events []webhook.Event
	var places batch
	for i, row := range e.rows {
		event := row.event()
		if err := event.Validate(); err != nil {
			e.outcomes[i].fault = err
			continue
		}
		events, places = append(events, event), append(places, i)
	}
	for len(places) > 0 {
		n := webhook.BatchLen(events)
		batches = append(batches, places[:n])
		events, places = events[n:], places[n:]
	}
	return batches
}

// send emits a batch. One that the service finds at fault, none of which it has accepted then, is sent in parts, until the
// rows at fault stand alone. The error is trouble, of whatever kind may pass.
func (e emission) send(b batch) error {
	if e.over() {
		return nil
	}
	events := make([]webhook.Event, len(b))
	for n, place := range b {
		events[n] = e.rows[place].event()
	}
	switch receipts, err := e.call(events); {
	case err == nil:
		for n, place := range b {
			e.outcomes[place].accepted = true
			if n < len(receipts) {
				e.outcomes[place].receipt = receipts[n]
			}
		}
	case !emit.IsInvalid(err):
		return fmt.Errorf("row %d: %w", e.rows[b[0]].Seq, err)
	case len(b) == 1:
		e.outcomes[b[0]].fault = err
	default:
		for _, part := range b.around(culprits(err, len(b))) {
			if err := e.send(part); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e emission) call(events []webhook.Event) ([]emit.Receipt, error) {
	ctx, cancel := context.WithTimeout(e.finish, callTime)
	defer cancel()
	return e.emit(ctx, events)
}

// around parts a batch so that each culprit stands alone, or all of its rows where none is known.
func (b batch) around(culprits map[int]bool) (parts []batch) {
	begin := 0
	for n := range b {
		if n > begin && (len(culprits) == 0 || culprits[n] || culprits[n-1]) {
			parts, begin = append(parts, b[begin:n]), n
		}
	}
	return append(parts, b[begin:])
}

// culprits are the places of the events that an error names, of a batch of so many.
func culprits(err error, of int) map[int]bool {
	places := map[int]bool{}
	for _, f := range emit.Faults(err) {
		if place, _, ok := webhook.BatchPlace(f.Field); ok && place < of {
			places[place] = true
		}
	}
	return places
}
