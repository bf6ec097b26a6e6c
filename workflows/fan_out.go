package workflows

import (
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// Summary is how a fan-out went, as the workflow's result shows it.
type Summary struct {
	// EventID, or Events, how many they are.
	EventID string `json:"eventId,omitempty"`
	Events  int    `json:"events,omitempty"`
	// Duplicate: the event was accepted before, by another workflow; nothing was delivered. Duplicates are such of several
	// events.
	Duplicate  bool     `json:"duplicate,omitempty"`
	Duplicates []string `json:"duplicates,omitempty"`
	// Conflicts are those of the duplicates that say something else than what was accepted. It stands; they are not delivered.
	Conflicts []string `json:"conflicts,omitempty"`
	// UnknownBots are bots that the events are for and that do not exist, of events that go to no webhook.
	UnknownBots []string `json:"unknownBots,omitempty"`
	// Webhooks is the size of the audience, of several events their sum. What it came to for them is counted; the others are
	// in flight.
	Webhooks int `json:"webhooks"`
	delivery.Counts
	// NotDelivered says of each webhook that did not take it at once why, by the webhook's id, after the event's where they
	// are several; of the first maxListed of them, and of NotListed more it does not.
	NotDelivered map[string]string `json:"notDelivered,omitempty"`
	NotListed    int               `json:"notListed,omitempty"`
	// Batches is how many DeliverBatch workflows share a large audience; their results have the counts.
	Batches int `json:"batches,omitempty"`
}

// fanOut is what the deliveries of one or several events have come to.
type fanOut struct {
	events     []webhook.Event
	group      bool   // they are several as a rule
	batch      bool   // it is a part of a large audience
	summary    string // what they are about, as operators see it
	sum        Summary
	searchable bool
	troubled   []undelivered // what was not taken, the first of it
	failed     []undelivered // the failed of it
	firstBatch string        // the id of the first workflow that has a part of a large audience
}

// first is the first attempt to deliver an event to a webhook.
type first struct {
	event  webhook.Event
	target delivery.Target
}

func (p first) pair() delivery.Pair {
	return delivery.Pair{EventID: p.event.ID, WebhookID: p.target.WebhookID}
}

// run accepts the events and makes their first attempts.
func (f *fanOut) run(ctx workflow.Context) error {
	f.summary = webhook.BatchSummary(f.events)
	workflow.SetCurrentDetails(ctx, f.summary)
	err := f.accept(ctx, f.events, 0)
	f.updateDetails(ctx)
	return err
}

// accept accepts events and makes their first attempts. Where one of them may be at fault that they cannot be accepted
// together, each is by itself, one of so many: what can be delivered is, and what cannot be accepted is tried until it can.
func (f *fanOut) accept(ctx workflow.Context, events []webhook.Event, of int) error {
	info := workflow.GetInfo(ctx)
	// A reset run is the same run to an event: what it has delivered is not sent again.
	in := delivery.EventsToAccept{Events: events, WorkflowID: info.WorkflowExecution.ID, RunID: info.OriginalRunID, At: info.WorkflowStartTime, Of: of, Typed: isTyped(ctx)}
	var audience delivery.Audience
	err := workflow.ExecuteLocalActivity(databaseActivity(ctx, "accept, look up the webhooks"), act.AcceptEvents, in).Get(ctx, &audience)
	var together *temporal.ApplicationError
	switch {
	case errors.As(err, &together) && together.Type() == activities.NotTogether:
		return f.acceptEach(ctx, events)
	case err != nil:
		return err
	}
	if audience.Untyped { // it was started without search attributes, as by another SDK
		if err := workflow.UpsertTypedSearchAttributes(ctx, searchattr.EventType.ValueSet(searchattr.Types(f.events))); err != nil {
			return err
		}
	}
	for i, event := range events {
		f.noteFaults(event, audience.Events[i])
		if !audience.Events[i].Duplicate {
			continue
		}
		if f.sum.Duplicate = !f.group; f.group {
			f.sum.Duplicates = append(f.sum.Duplicates, event.ID)
		}
	}
	batches := f.startBatches(ctx, events, audience.Events)
	if err := f.deliver(ctx, events, audience); err != nil {
		return err
	}
	return batches()
}

// noteFaults keeps what the emitter seems to have got wrong.
func (f *fanOut) noteFaults(event webhook.Event, a delivery.EventAudience) {
	if a.Conflict {
		f.sum.Conflicts = append(f.sum.Conflicts, event.ID)
	}
	for _, bot := range a.UnknownBots {
		if len(f.sum.UnknownBots) < maxListed && !slices.Contains(f.sum.UnknownBots, bot) {
			f.sum.UnknownBots = append(f.sum.UnknownBots, bot)
		}
	}
}

func (f *fanOut) acceptEach(ctx workflow.Context, events []webhook.Event) (err error) {
	all := workflow.NewWaitGroup(ctx)
	for _, e := range events {
		all.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer all.Done()
			err = errors.Join(err, f.accept(ctx, []webhook.Event{e}, len(events)))
		})
	}
	all.Wait(ctx)
	return err
}

const (
	// oneByOne is how many deliveries have a line of their own each in a workflow's history. More share one: each pending
	// activity costs the SDK work at every other's end.
	oneByOne = 3
)

// deliver makes the first attempts at the direct webhooks of an audience. What does not end there stands in the webhooks'
// queues when it returns.
func (f *fanOut) deliver(ctx workflow.Context, events []webhook.Event, audience delivery.Audience) error {
	f.searchable = audience.Searchable
	var attempts []first
	for i, e := range audience.Events {
		f.sum.Webhooks += len(e.Targets) + e.Queued
		f.sum.Queued += e.Queued
		for _, n := range e.Targets {
			attempts = append(attempts, first{events[i], audience.Targets[n]})
		}
	}
	f.updateDetails(ctx)
	failedBefore := len(f.failed)
	var err error
	if len(attempts) > oneByOne {
		err = f.deliverTogether(ctx, attempts)
	} else {
		err = f.deliverEach(ctx, attempts)
	}
	if err != nil || len(f.failed) == failedBefore {
		return err
	}
	return f.upsertFailed(ctx)
}

func (f *fanOut) deliverEach(ctx workflow.Context, attempts []first) error {
	ends := make([]workflow.Future, len(attempts))
	for i, p := range attempts {
		ends[i] = workflow.ExecuteLocalActivity(databaseActivity(ctx, f.label(p)), act.Deliver, delivery.First(p.event.ID, p.target.WebhookID))
	}
	for i, p := range attempts {
		var r delivery.Result
		if err := ends[i].Get(ctx, &r); err != nil {
			return err
		}
		f.sum.Add(r)
		if r.Status != delivery.Delivered {
			f.recordUndelivered(p, r)
		}
	}
	return nil
}

func (f *fanOut) deliverTogether(ctx workflow.Context, attempts []first) error {
	type group struct {
		from, upto int
		ended      workflow.Future
	}
	begin := func(from, upto int) group {
		pairs := make([]delivery.Pair, 0, upto-from)
		for _, p := range attempts[from:upto] {
			pairs = append(pairs, p.pair())
		}
		options := localActivity(ctx, activities.GroupTimeout, fmt.Sprintf("%d first attempts", len(pairs)))
		return group{from, upto, workflow.ExecuteLocalActivity(options, act.DeliverGroup, delivery.Group{Deliveries: pairs, Batch: f.batch})}
	}
	var groups []group
	for from := 0; from < len(attempts); from += delivery.MaxGroup {
		groups = append(groups, begin(from, min(from+delivery.MaxGroup, len(attempts))))
	}
	for ; len(groups) > 0; groups = groups[1:] {
		var r delivery.GroupResult
		g := groups[0]
		if err := g.ended.Get(ctx, &r); err != nil {
			return err
		}
		f.sum.Counts = f.sum.Plus(r.Counts)
		for _, e := range r.Ended {
			f.recordUndelivered(attempts[g.from+e.Delivery], e.Result)
		}
		f.sum.NotListed += r.Total() - r.Delivered - len(r.Ended)
		if r.Left > 0 {
			groups = append(groups, begin(g.upto-r.Left, g.upto))
		}
	}
	return nil
}

// label names a delivery in the UI.
func (f *fanOut) label(p first) string {
	if f.group {
		return p.event.ID + " to " + targetLabel(p.target)
	}
	return targetLabel(p.target)
}
