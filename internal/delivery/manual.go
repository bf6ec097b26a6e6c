package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// beforeAll is the delay of what a person waits for: it goes before all that is due.
const beforeAll = -time.Second

// Deliver is Run for a direct attempt in a workflow of its event.
func (d *Deliverer) Deliver(ctx context.Context, a Attempt) (Result, error) {
	defer failpoint.Here("before-completion")
	d.begun(a.EventID)
	return d.Run(ctx, a)
}

// WakeWebhook has the queue of a webhook looked at of which the id alone is known. One that is gone has none.
func (d *Deliverer) WakeWebhook(ctx context.Context, webhookID uuid.UUID) error {
	target, err := d.queries.GetTarget(ctx, d.cfg.Pool, db.GetTargetParams{ID: webhookID})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read webhook %s: %w", webhookID, err)
	}
	d.cfg.Wake(Target{WebhookID: webhookID, BotID: target.BotID, Host: webhook.HostOf(target.Origin)})
	return nil
}

// TestEvent names a test event, or a verification, and the workflow run that sends it.
type TestEvent struct {
	WebhookID  uuid.UUID
	EventID    string
	WorkflowID string
	RunID      string
	At         time.Time
	// Type is the type of a test's sample; "": none, it is a plain test.
	Type webhook.EventType `json:",omitempty"`
}

// Route is how an attempt that a person waits for is made.
type Route struct {
	Attempt Attempt `json:"attempt"`
	// Ended: there is nothing to send, for the reason that it gives.
	Ended *Result `json:"ended,omitempty"`
	// Queued: the webhook's queue makes it, before all that is due.
	Queued bool `json:"queued,omitempty"`
	// Searchable is as Audience has it.
	Searchable bool `json:"searchable,omitempty"`
}

// PrepareTest stores a test event and says how it is sent.
func (d *Deliverer) PrepareTest(ctx context.Context, in TestEvent) (Route, error) {
	return d.prepareManual(ctx, in, webhook.TriggerTest, func(botID string) webhook.Event {
		return webhook.TestEventOf(in.Type, in.WebhookID, botID, in.At)
	})
}

// prepareManual stores the event that is made for a webhook and says how it is sent.
func (d *Deliverer) prepareManual(ctx context.Context, in TestEvent, trigger webhook.Trigger, eventFor func(botID string) webhook.Event) (Route, error) {
	a := Attempt{EventID: webhook.CanonicalID(in.EventID), WebhookID: in.WebhookID, Number: 1, Trigger: trigger}
	target, ended, err := d.manualTarget(ctx, a)
	if ended != nil || err != nil {
		return Route{Ended: ended}, err
	}
	e := eventFor(target.BotID)
	e.ID = a.EventID
	inserted, err := d.queries.InsertEvents(ctx, d.cfg.Pool, db.InsertEventsParams{
		Ids: []string{e.ID}, Types: []string{string(e.StoredType())}, Payloads: [][]byte{e.Body()}, Bots: []string{textArray([]string{target.BotID})}, Places: []int32{0},
		RunID: in.RunID, WorkflowID: unusual(in.WorkflowID, e.ID),
	})
	if err != nil {
		return Route{}, fmt.Errorf("store %s event %s: %w", e.Type, e.ID, err)
	}
	if len(inserted) == 0 { // by an earlier run of this activity, or it is another's
		stored, err := d.stored(ctx, e.ID)
		if err != nil {
			return Route{}, err
		}
		if stored.RunID != in.RunID {
			return Route{}, webhook.Invalid("eventId", "must be that of no event yet")
		}
	}
	return d.routeManual(ctx, a, target)
}

// PrepareRedelivery says how an event is sent once more.
func (d *Deliverer) PrepareRedelivery(ctx context.Context, a Attempt) (Route, error) {
	a.Trigger = webhook.TriggerRedeliver
	if err := a.Check(); err != nil {
		return Route{}, err
	}
	target, ended, err := d.manualTarget(ctx, a)
	if ended != nil || err != nil {
		return Route{Ended: ended}, err
	}
	return d.routeManual(ctx, a, target)
}

// checkNumber refuses an attempt unless its number is the next one. So attempt numbers have no gaps, and an event cannot be
// redelivered to a webhook that never received it.
func (d *Deliverer) checkNumber(ctx context.Context, a Attempt) error {
	next, err := d.queries.NextNumber(ctx, d.cfg.Pool, db.NextNumberParams{EventID: a.EventID, WebhookID: a.WebhookID})
	switch {
	case err != nil:
		return fmt.Errorf("read what precedes attempt %v: %w", a, err)
	case next == 0:
		return webhook.Invalid("eventId", "must be that of an event which was sent to the webhook before")
	case a.Number > int(next):
		return webhook.Invalid("number", fmt.Sprintf("must be at most %d, that of the next attempt", next))
	}
	return nil
}

// routeManual says how an attempt that a person asked for is made: at once, or, where the webhook is queued, fails or is
// disabled, by its queue, which makes one attempt at a time. What is planned already is made by the queue too, in its place
// of the schedule: at once beside the queue, it could be sent twice, and would end the schedule by failing.
func (d *Deliverer) routeManual(ctx context.Context, a Attempt, target db.GetTargetRow) (Route, error) {
	row, _, planned, err := d.queue.Planned(ctx, a.WebhookID, a.EventID)
	if err != nil {
		return Route{}, fmt.Errorf("read what is planned of attempt %v: %w", a, err)
	}
	to := Target{WebhookID: a.WebhookID, BotID: target.BotID, Host: webhook.HostOf(target.Origin)}
	if planned && target.Ordered && row.Attempt == a.Number && !row.Trigger.Manual() {
		return d.retryHeadNow(ctx, a, to)
	}
	if target.IsActive && !target.Queued && target.FailureCount == 0 && !planned {
		return Route{Attempt: a, Searchable: d.cfg.Attributes.Known()}, nil
	}
	return d.queueOrEnd(ctx, a, to, planned)
}

// queueOrEnd gives an attempt that a person asked for to the queue, unless it is recorded, or is not the next one.
func (d *Deliverer) queueOrEnd(ctx context.Context, a Attempt, to Target, planned bool) (Route, error) {
	if recorded, err := d.recordedBefore(ctx, a); recorded != nil || err != nil { // by an earlier run of this activity
		return Route{Ended: recorded}, err
	}
	if a.Trigger == webhook.TriggerRedeliver && !planned {
		if err := d.checkNumber(ctx, a); err != nil {
			return Route{}, err
		}
	}
	return d.queueManual(ctx, a, to)
}

// retryHeadNow has an ordered webhook's queue make its next attempt now, if that is the one that a person asks for. Any other waits for
// those before it.
func (d *Deliverer) retryHeadNow(ctx context.Context, a Attempt, target Target) (Route, error) {
	n, err := d.queue.RetryNow(ctx, a.WebhookID, a.EventID)
	if err != nil {
		return Route{}, err
	}
	if n == 0 {
		return Route{Ended: &Result{Status: Skipped, Error: InOrder}}, nil
	}
	d.cfg.Wake(target)
	return Route{Attempt: a, Queued: true}, nil
}

// manualTarget reads the webhook of an attempt that a person asked for. ended is not nil where nothing may be sent to it.
func (d *Deliverer) manualTarget(ctx context.Context, a Attempt) (target db.GetTargetRow, ended *Result, err error) {
	target, err = d.queries.GetTarget(ctx, d.cfg.Pool, db.GetTargetParams{ID: a.WebhookID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return target, &Result{Status: Skipped, Error: WebhookGone}, nil
	case err != nil:
		return target, nil, fmt.Errorf("read webhook %s: %w", a.WebhookID, err)
	case target.Suspended:
		return target, &Result{Status: Skipped, Error: BotSuspended}, nil
	case target.Paused:
		return target, &Result{Status: Skipped, Error: Paused}, nil
	}
	ended, err = d.refuseManual(ctx, a, target)
	return target, ended, err
}

// queueManual gives an attempt that a person asked for to the webhook's queue, before all that waits there.
func (d *Deliverer) queueManual(ctx context.Context, a Attempt, target Target) (Route, error) {
	after, err := d.recorder.Enqueue(ctx, history.Plan{WebhookID: a.WebhookID, EventID: a.EventID, Number: a.Number, Trigger: a.Trigger, Delay: beforeAll})
	if err != nil {
		return Route{}, fmt.Errorf("queue attempt %v: %w", a, err)
	}
	switch {
	case after.Gone:
		return Route{Ended: &Result{Status: Skipped, Error: WebhookGone}}, nil
	case after.Suspended:
		return Route{Ended: &Result{Status: Skipped, Error: BotSuspended}}, nil
	}
	d.cfg.Wake(target) // whatever wakes it already: a person waits
	return Route{Attempt: a, Queued: true}, nil
}
