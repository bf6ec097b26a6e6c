package delivery

import (
	"context"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/failpoint"
)

// groupRoom is how many deliveries of groups are in flight, or wait for a place, at once in a process.
const groupRoom = 4000

// Group names the first attempts to deliver one event to several webhooks.
type Group struct {
	EventID    string
	WebhookIDs []uuid.UUID
}

// GroupResult is how a group's attempts ended.
type GroupResult struct {
	// Delivered counts those that ended so; Ended says how the others did.
	Delivered int                  `json:"delivered"`
	Ended     map[uuid.UUID]Result `json:"ended,omitempty"`
}

// RunGroup is Run for many webhooks at once: all attempts begin together, and none waits for another. In a workflow, each
// pending activity costs the SDK work at every other's end, so that a hundred of them cost far more than their POSTs
// (docs/performance.md). An error of one is the group's: calling again goes on with what is in flight, and repeats nothing
// that is recorded.
func (d *Deliverer) RunGroup(ctx context.Context, g Group) (GroupResult, error) {
	defer failpoint.Here("before-completion")
	type ended struct {
		webhookID uuid.UUID
		result    Result
		err       error
	}
	all := make(chan ended, len(g.WebhookIDs))
	for _, id := range g.WebhookIDs {
		select {
		case d.group <- struct{}{}:
		case <-ctx.Done():
			return GroupResult{}, ctx.Err()
		}
		go func() {
			defer func() { <-d.group }()
			r, err := d.Run(ctx, First(g.EventID, id))
			all <- ended{id, r, err}
		}()
	}
	var sum GroupResult
	var fault error
	for range g.WebhookIDs {
		e := <-all
		switch {
		case e.err != nil:
			fault = e.err
		case e.result.Status == Delivered:
			sum.Delivered++
		default:
			if sum.Ended == nil {
				sum.Ended = map[uuid.UUID]Result{}
			}
			sum.Ended[e.webhookID] = e.result
		}
	}
	return sum, fault
}
