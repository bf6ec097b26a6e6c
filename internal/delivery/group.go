package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

// groupRoom is how many deliveries of groups are in flight, or wait for a place, at once in a process.
const groupRoom = 8000

// batchRoom is how many of them may be of large audiences, so that other events' do not wait for those in turn.
const batchRoom = groupRoom / 2

// groupStint is how long one call begins with deliveries of a group, so that they have ended well within its activity's time.
const groupStint = 30 * time.Second

// MaxGroup is how many deliveries share one local activity, and a line of a workflow's history, at most.
const MaxGroup = 1000

// Group names first attempts: each event to each of its webhooks.
type Group struct {
	Deliveries []Pair
	// Batch: they are part of a large audience.
	Batch bool `json:",omitempty"`
}

// Pair is an event and a webhook that it goes to.
type Pair struct {
	EventID   string
	WebhookID uuid.UUID
}

// GroupResult is how a group's attempts ended.
type GroupResult struct {
	Counts
	// Ended are the first maxEnded of those that were not taken.
	Ended []Ended `json:"ended,omitempty"`
	// Left is how many of the deliveries, the last of them, are yet to be begun.
	Left int `json:"left,omitempty"`
}

// Counts are numbers of deliveries: delivered, failed for good, failed with a retry planned, queued for the first attempt, or
// skipped because there was nothing to send.
type Counts struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"`
	Retrying  int `json:"retrying"`
	Queued    int `json:"queued"`
	Skipped   int `json:"skipped"`
}

// Ended is how one delivery of a group ended, by its place in Group.Deliveries.
type Ended struct {
	Delivery int `json:"delivery"`
	Result
}

// maxEnded bounds a group's result, to some 10 KB.
const maxEnded = 60

// Add counts how an attempt ended.
func (c *Counts) Add(r Result) {
	switch {
	case r.Status == Delivered:
		c.Delivered++
	case r.Status == Skipped:
		c.Skipped++
	case r.Status == Queued:
		c.Queued++
	case r.Retrying:
		c.Retrying++
	default:
		c.Failed++
	}
}

// Plus adds up.
func (c Counts) Plus(o Counts) Counts {
	return Counts{c.Delivered + o.Delivered, c.Failed + o.Failed, c.Retrying + o.Retrying, c.Queued + o.Queued, c.Skipped + o.Skipped}
}

// Total is how many were counted.
func (c Counts) Total() int { return c.Delivered + c.Failed + c.Retrying + c.Queued + c.Skipped }

// RunGroup is Run for many deliveries at once: all attempts begin together, and none waits for another. In a workflow, each
// pending activity costs the SDK work at every other's end, so that a hundred of them cost far more than their POSTs
// (docs/performance.md). An error of one is the group's: calling again goes on with what is in flight, and repeats nothing
// that is recorded. What finds no room in time is left: where all groups began again, each after a minute, they would only
// read what they have sent.
func (d *Deliverer) RunGroup(ctx context.Context, g Group) (GroupResult, error) {
	if len(g.Deliveries) > MaxGroup {
		return GroupResult{}, webhook.Invalid("deliveries", fmt.Sprintf("must be at most %d", MaxGroup))
	}
	defer failpoint.Here("before-completion")
	type ended struct {
		Ended
		err error
	}
	all := make(chan ended, len(g.Deliveries))
	stint, cancel := context.WithTimeout(ctx, d.stint)
	defer cancel()
	rooms, begun := []chan struct{}{d.group}, 0
	if g.Batch {
		rooms = []chan struct{}{d.batch, d.group}
	}
	for i, pair := range g.Deliveries {
		if !enter(stint, rooms) {
			break
		}
		begun++
		go func() {
			defer leave(rooms)
			r, err := d.Run(ctx, First(pair.EventID, pair.WebhookID))
			all <- ended{Ended{i, r}, err}
		}()
		if i+1 == len(g.Deliveries) || g.Deliveries[i+1].EventID != pair.EventID {
			d.begun(pair.EventID)
		}
	}
	sum := GroupResult{Left: len(g.Deliveries) - begun}
	var fault error
	for range begun {
		e := <-all
		if e.err != nil {
			fault = e.err
			continue
		}
		sum.Add(e.Result)
		if e.Status != Delivered && len(sum.Ended) < maxEnded {
			sum.Ended = append(sum.Ended, e.Ended)
		}
	}
	slices.SortFunc(sum.Ended, func(a, b Ended) int { return a.Delivery - b.Delivery })
	return sum, fault
}

// enter takes a place in each room. false: ctx ended before.
func enter(ctx context.Context, rooms []chan struct{}) bool {
	for i, room := range rooms {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			leave(rooms[:i])
			return false
		}
	}
	return true
}

func leave(rooms []chan struct{}) {
	for _, room := range rooms {
		<-room
	}
}
