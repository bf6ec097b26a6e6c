package activities

import (
	"context"
	"time"

	"github.com/google/uuid"
)

const (
	// groupPatience is how long DeliverGroup waits for the next of its deliveries to end. What ends in time costs the
	// engine nothing of its own; the others are waited for one by one, each in its own line of the history.
	groupPatience = time.Second
	// groupRoom is how many deliveries of groups are under way at once in a process.
	groupRoom = 4000
)

// Group names the first attempts to deliver one event to several webhooks.
type Group struct {
	EventID    string
	WebhookIDs []uuid.UUID
}

// GroupResult is how a group's attempts ended.
type GroupResult struct {
	// Delivered counts those that ended so; of the others, Ended says how.
	Delivered int                  `json:"delivered"`
	Ended     map[uuid.UUID]Result `json:"ended,omitempty"`
	// Open are still under way, or our own side failed: Deliver goes on with them.
	Open []uuid.UUID `json:"open,omitempty"`
}

// DeliverGroup is Deliver for many webhooks at once: all attempts begin together, and none waits for another. In a
// workflow, each pending activity costs the SDK work at every other's end, so that a hundred of them cost far more than
// their POSTs (docs/performance.md).
func (a *Activities) DeliverGroup(ctx context.Context, g Group) (GroupResult, error) {
	defer failpoint("before-completion")
	type landed struct {
		webhookID uuid.UUID
		result    Result
		err       error
	}
	waiting, leave := context.WithCancel(ctx)
	defer leave()
	ended := make(chan landed, len(g.WebhookIDs))
	var sum GroupResult
	land := func(l landed) {
		switch {
		case l.err != nil:
			sum.Open = append(sum.Open, l.webhookID)
		case l.result.Status == Delivered:
			sum.Delivered++
		default:
			if sum.Ended == nil {
				sum.Ended = map[uuid.UUID]Result{}
			}
			sum.Ended[l.webhookID] = l.result
		}
	}
	left := len(g.WebhookIDs)
	for _, id := range g.WebhookIDs {
		select {
		case a.groups <- struct{}{}:
		case <-ctx.Done():
			return GroupResult{}, ctx.Err()
		}
		go func() {
			defer func() { <-a.groups }()
			r, err := a.fly(waiting, Delivery{EventID: g.EventID, WebhookID: id, Attempt: 1}, fastLane, false)
			ended <- landed{id, r, err}
		}()
	}
	patience := time.NewTimer(groupPatience)
	defer patience.Stop()
	for ; left > 0; left-- {
		select {
		case l := <-ended:
			land(l)
			patience.Reset(groupPatience)
		case <-patience.C:
			leave() // those still under way answer at once, and stay under way
			land(<-ended)
		}
	}
	return sum, ctx.Err()
}
