package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// prepare finds out whether the attempt is to be made at all, and reads what it needs. done is not nil when nothing is to
// be sent. A queue's attempt becomes what its row in Postgres says.
func (d *Deliverer) prepare(ctx context.Context, a *Attempt) (in attemptInput, done *Result, err error) {
	in, prefetched := d.prefetch.take(a.key())
	if !prefetched {
		acceptedAt := in.acceptedAt
		if done, err = d.alreadyDone(ctx, a); done != nil || err != nil {
			return in, done, err
		}
		var skipped string
		in, skipped, err = d.load(ctx, *a)
		switch {
		case a.row == nil && !a.Trigger.Manual() && errors.Is(err, db.ErrDoesNotOpen):
			r, err := d.leaveToQueue(ctx, *a, err) // where it holds up no other webhook's delivery, and no other event
			return in, &r, err
		case err == nil && keepsPlace(*a, skipped):
			return in, &Result{Status: Queued}, nil // in its place
		case err != nil || skipped != "":
			return in, &Result{Status: Skipped, Error: skipped}, err
		}
		in.acceptedAt = acceptedAt
	}
	if in.queued && a.row == nil && !a.Trigger.Manual() {
		r, err := d.leaveToQueue(ctx, *a, nil)
		return in, &r, err
	}
	return in, nil, nil
}

// keepsPlace says whether an attempt of the queue, skipped for a reason, is to be made once that is over.
func keepsPlace(a Attempt, skipped string) bool {
	return a.row != nil && (skipped == Paused || skipped == NotVerified && !a.Trigger.Manual())
}

// renew reads again what the attempt needs, where that has become old while it waited. done is not nil when nothing is to be
// sent any more, or not from here: to another URL the webhook's queue sends, and what it has planned or another sent meanwhile.
func (d *Deliverer) renew(ctx context.Context, a Attempt, before attemptInput) (in attemptInput, done *Result, err error) {
	if time.Since(before.readAt) < inputFresh {
		return before, nil, nil
	}
	if a.row != nil || !a.Trigger.Manual() {
		if done, err := d.alreadyDone(ctx, &a); done != nil || err != nil {
			return before, done, err
		}
	}
	in, skipped, err := d.load(ctx, a)
	switch {
	case err != nil:
		return in, nil, err
	case keepsPlace(a, skipped):
		return in, &Result{Status: Queued}, nil // in its place
	case skipped != "":
		return in, &Result{Status: Skipped, Error: skipped}, nil
	case in.url != before.url, in.verified != before.verified, in.queued && a.row == nil && !a.Trigger.Manual():
		r, err := d.leaveToQueue(ctx, a, nil)
		return in, &r, err
	}
	return in, nil, nil
}

// alreadyDone answers for an attempt that is recorded, planned or of no more use already: it is not sent again.
func (d *Deliverer) alreadyDone(ctx context.Context, a *Attempt) (*Result, error) {
	if done, err := d.recordedBefore(ctx, *a); done != nil || err != nil {
		return done, err
	}
	switch {
	case a.row == nil && a.Trigger == webhook.TriggerRedeliver:
		return nil, d.checkNumber(ctx, *a)
	case a.row == nil && a.Trigger.Manual():
		return nil, nil //nolint:nilnil // it is to be made
	}
	planned, _, isPlanned, err := d.queue.Planned(ctx, a.WebhookID, a.EventID)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read what is planned of attempt %v: %w", *a, err)
	case a.row == nil && isPlanned:
		return &Result{Status: Queued}, nil
	case a.row != nil && (!isPlanned || planned.Attempt != a.Number):
		return &Result{Status: Skipped, Error: NotPlanned}, nil
	case a.row != nil:
		a.row, a.Trigger = &planned, planned.Trigger
	}
	if a.Trigger == webhook.TriggerRecover {
		return d.taken(ctx, *a)
	}
	return nil, nil //nolint:nilnil // it is to be made
}

// recordedBefore answers for an attempt that is in the history.
func (d *Deliverer) recordedBefore(ctx context.Context, a Attempt) (*Result, error) {
	row, err := d.queries.RecordedDelivery(ctx, d.cfg.Pool, db.RecordedDeliveryParams{EventID: a.EventID, WebhookID: a.WebhookID, Attempt: int32(a.Number)})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil //nolint:nilnil // it is not
	case err != nil:
		return nil, fmt.Errorf("read attempt %v: %w", a, err)
	case a.row != nil: // by an attempt that was in progress when the row was added: nothing else removes it
		return recordedResult(a, row), d.queue.Remove(ctx, a.WebhookID, *a.row)
	}
	return recordedResult(a, row), nil
}

// taken answers for an attempt at what the webhook has taken since the attempt was planned.
func (d *Deliverer) taken(ctx context.Context, a Attempt) (*Result, error) {
	taken, err := d.queries.WasTaken(ctx, d.cfg.Pool, db.WasTakenParams{EventID: a.EventID, WebhookID: a.WebhookID})
	if err != nil {
		return nil, fmt.Errorf("read the deliveries of event %s: %w", a.EventID, err)
	}
	if taken {
		return &Result{Status: Skipped, Error: AlreadyTaken}, nil
	}
	return nil, nil //nolint:nilnil // it is to be made
}

func recordedResult(a Attempt, row db.RecordedDeliveryRow) *Result {
	if row.Success {
		return &Result{Status: Delivered, StatusCode: code(row.StatusCode)}
	}
	var text string
	if row.Error != nil {
		text = *row.Error
	}
	r := failed(a, code(row.StatusCode), text, history.Recorded{Planned: row.Planned, Gone: row.Gone, Suspended: row.Suspended, Active: row.Active})
	return &r
}

func code(c *int32) int {
	if c == nil {
		return 0
	}
	return int(*c)
}

// load reads what the attempt needs from Postgres, or says why it is to be skipped.
func (d *Deliverer) load(ctx context.Context, a Attempt) (in attemptInput, skipped string, err error) {
	in.readAt = time.Now()
	in.event, err = d.stored(ctx, a.EventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return in, EventGone, nil
	}
	if err != nil {
		return in, "", err
	}
	if !a.Trigger.Manual() && in.event.AcceptedAt.Before(d.cfg.Retention.Since(db.Earlier(d.cfg.Clock.Now()))) {
		if kept, err := d.isKept(ctx, a); err != nil || !kept {
			return in, EventGone, err // or its row would outlive it
		}
	}
	target, err := d.queries.GetTarget(ctx, d.cfg.Pool, db.GetTargetParams{ID: a.WebhookID, EventType: string(in.event.Type)})
	if errors.Is(err, pgx.ErrNoRows) {
		return in, WebhookGone, nil
	}
	if err != nil {
		return in, "", fmt.Errorf("read webhook %s: %w", a.WebhookID, err)
	}
	if skipped := d.whySkipped(a, in.event, target); skipped != "" {
		return in, skipped, nil
	}
	if in.endpoint, err = d.open(target.ID, sealedEndpoint{target.URL, target.Secret, target.PreviousSecret, target.Extras}); err != nil {
		// An operator has to fix it, and the engine does not log why it calls an activity again.
		d.cfg.Logger.Error("delivery waits: the keyset cannot decrypt its webhook", "event", a.EventID, "error", err)
		return in, "", err
	}
	in.botID, in.generation, in.queued = target.BotID, target.Generation, target.Queued || target.Paused
	in.verified, in.urlVersion = target.Verified, target.URLVersion
	switch {
	case a.row != nil:
		in.failureRun = a.failureRun
	case target.FailureCount > 0:
		in.failureRun = target.FailureRun
	}
	return in, "", nil
}

// isKept says whether an event that is older than the retention is kept for an attempt at it.
func (d *Deliverer) isKept(ctx context.Context, a Attempt) (bool, error) {
	if a.row == nil {
		return false, nil
	}
	kept, err := (&history.Pauses{Pool: d.cfg.Pool}).KeepQueued(ctx)
	if err != nil {
		return false, fmt.Errorf("read the pauses: %w", err)
	}
	return kept, nil
}

// whySkipped says why a webhook does not get an event; "": it does.
func (d *Deliverer) whySkipped(a Attempt, event storedEvent, target db.GetTargetRow) string {
	manual := a.Trigger.Manual()
	switch {
	case event.BotIDs != nil && !slices.Contains(event.BotIDs, target.BotID):
		return NotAddressed
	case target.Suspended:
		return BotSuspended
	case !manual && !target.IsActive:
		return WebhookDisabled
	case !manual && !target.Subscribed:
		return NotSubscribed
	case !passes(a, event, target):
		return FilteredOut
	case target.Paused && (manual || a.row != nil): // what else is direct, goes to the queue
		return Paused
	case d.mayNot(a.Trigger, target.Verified):
		return NotVerified
	}
	return ""
}

// open decrypts a webhook's endpoint.
func (d *Deliverer) open(webhookID uuid.UUID, sealed sealedEndpoint) (out endpoint, err error) {
	if out.url, err = d.cfg.Keyset.OpenURL(webhookID, sealed.url); err != nil {
		return endpoint{}, err
	}
	for _, s := range [][]byte{sealed.secret, sealed.previousSecret} {
		if s == nil {
			continue
		}
		secret, err := d.cfg.Keyset.Open(webhookID, s)
		if err != nil {
			return endpoint{}, err
		}
		out.secrets = append(out.secrets, secret)
	}
	extras, err := d.cfg.Keyset.OpenExtras(webhookID, sealed.extras)
	if err != nil {
		return endpoint{}, err
	}
	out.headers, out.keys = extras.Headers, extras.Keys(d.cfg.Clock.Now())
	return out, nil
}
