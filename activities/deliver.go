package activities

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/webhook"
)

// Delivery names one attempt to deliver one event to one webhook.
type Delivery struct {
	EventID   string    `json:"eventId"`
	WebhookID uuid.UUID `json:"webhookId"`
	Attempt   int       `json:"attempt"` // 1 for the first
	// Step is the attempt's place in the retry schedule, where others' attempts have made Attempt a later number; 0:
	// Attempt is.
	Step int `json:"step,omitempty"`
}

func (d Delivery) step() int {
	if d.Step > 0 {
		return d.Step
	}
	return d.Attempt
}

// Status is how an attempt ended.
type Status string

const (
	// Delivered says that the receiver took it.
	Delivered Status = "delivered"
	// Failed says that the receiver did not take it. A failure counts.
	Failed Status = "failed"
	// Skipped says that nothing was sent, and nothing is to be; Result.Error tells why.
	Skipped Status = "skipped"
	// Deferred says that nothing was sent yet, as it was not the delivery's turn.
	Deferred Status = "deferred"
)

// Why a delivery was skipped.
const (
	EventGone       = "event no longer kept"
	WebhookGone     = "webhook deleted"
	WebhookDisabled = "webhook disabled"
	NotSubscribed   = "webhook no longer subscribed to the event"
)

// Result is how an attempt ended, as the workflow's history keeps it: nothing in it comes from the receiver but a
// status code, and nothing is secret.
type Result struct {
	Status     Status `json:"status"`
	StatusCode int    `json:"statusCode,omitempty"`
	Error      string `json:"error,omitempty"`
	// RetryInMs is when the next attempt is due, in milliseconds from now; 0 when there is none. Of a delivery that the
	// slow lane deferred, it is when to come again.
	RetryInMs int64 `json:"retryInMs,omitempty"`
	// Final is why a failed delivery is not attempted again, whatever the schedule says: what became of the webhook.
	Final string `json:"final,omitempty"`
	// Held says of a deferred delivery that its bot, rather than its webhook, has too much under way: see AdmitHeld.
	Held bool `json:"held,omitempty"`
	// Taken says that nothing was sent, as a redelivery or a recovery has made the attempt of this number, and failed:
	// the attempt is to be made under the next number.
	Taken bool `json:"taken,omitempty"`
}

// RetryIn is RetryInMs as a duration.
func (r Result) RetryIn() time.Duration { return time.Duration(r.RetryInMs) * time.Millisecond }

// BusyError is the type of the error that DeliverSlow fails with, to be called again, while it is not its turn.
const BusyError = "Busy"

// Deliver is the fast lane: one POST, recorded before it returns. It never waits for other deliveries to the same
// webhook: where it would have to, it answers Deferred. An error means that our own side failed: nothing was
// recorded or counted, and calling again goes on with a POST already made.
func (a *Activities) Deliver(ctx context.Context, d Delivery) (Result, error) {
	defer failpoint("before-completion")
	return a.fly(ctx, d, fastLane, false)
}

// SlowDelivery is a delivery through the slow lane. Patient: while it is not the delivery's turn, fail with a
// BusyError that Temporal is to repeat; otherwise answer Deferred.
type SlowDelivery struct {
	Delivery
	Patient bool `json:"patient,omitempty"`
}

// DeliverSlow is the slow lane: Deliver for webhooks in trouble. It waits its turn for up to eight seconds.
func (a *Activities) DeliverSlow(ctx context.Context, d SlowDelivery) (Result, error) {
	if !d.Patient {
		d.Step = d.step() // by which it is told from a recovery's
	}
	// What is recorded before the activity runs for the first time was not recorded by it.
	first := d.Patient && activity.GetInfo(ctx).Attempt == 1
	result, err := a.fly(ctx, d.Delivery, slowLane, first)
	if err == nil && result.Status == Deferred && d.Patient {
		return result, temporal.NewApplicationErrorWithOptions("not this delivery's turn yet", BusyError,
			temporal.ApplicationErrorOptions{Category: temporal.ApplicationErrorCategoryBenign, NextRetryDelay: result.RetryIn()})
	}
	return result, err
}

// Redeliver sends an event to a webhook once more, at once, also to a disabled one, because a person asked for it.
// What comes of it is recorded as attempt d.Attempt; it is never retried.
func (a *Activities) Redeliver(ctx context.Context, d Delivery) (Result, error) {
	return a.fly(ctx, d, onDemand, false)
}

// TestInput names a test event and the workflow run that sends it.
type TestInput struct {
	WebhookID uuid.UUID
	EventID   string
	RunID     string
	At        time.Time
}

// SendTest sends a test event to a webhook, also to a disabled one, at once. Skipped: there is no such webhook.
func (a *Activities) SendTest(ctx context.Context, in TestInput) (Result, error) {
	target, err := a.queries.GetTarget(ctx, a.cfg.Pool, db.GetTargetParams{ID: in.WebhookID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Result{Status: Skipped, Error: WebhookGone}, nil
	}
	if err != nil {
		return Result{}, fmt.Errorf("read webhook %s: %w", in.WebhookID, err)
	}
	e := webhook.TestEvent(in.WebhookID, target.BotID, in.At)
	e.ID = in.EventID
	if _, err := a.queries.InsertEvent(ctx, a.cfg.Pool, db.InsertEventParams{
		ID: e.ID, Type: string(e.Type), Payload: e.Body(), BotIds: []string{target.BotID}, RunID: in.RunID,
	}); err != nil {
		return Result{}, fmt.Errorf("store test event %s: %w", e.ID, err)
	}
	return a.Redeliver(ctx, Delivery{EventID: in.EventID, WebhookID: in.WebhookID, Attempt: 1})
}

// errClosed: the worker is stopping, so the delivery is left to another.
var errClosed = errors.New("the worker is stopping")

// flight is a delivery under way in this process.
type flight struct {
	lane   lane
	done   chan struct{}
	result Result
	err    error
}

// fly makes the delivery, or waits for the one already under way: an activity that is repeated while its first run
// is still at it must not POST twice. The delivery goes on when ctx ends, as its outcome must be recorded. first: the
// caller has not tried it before, so that a recorded failure is another's.
func (a *Activities) fly(ctx context.Context, d Delivery, in lane, first bool) (Result, error) {
	id := webhook.DeliveryID(d.EventID, d.WebhookID, d.Attempt)
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return Result{}, errClosed
	}
	f, underWay := a.flights[id]
	if !underWay {
		f = &flight{lane: in, done: make(chan struct{})}
		a.flights[id] = f
		a.flying.Add(1)
	}
	a.mu.Unlock()
	if !underWay {
		base := a.carried(ctx)
		go func() {
			defer a.flying.Done()
			defer func() {
				if p := recover(); p != nil {
					a.cfg.Logger.Error("a delivery panicked", "delivery", id, "panic", p, "stack", string(debug.Stack()))
					f.err = fmt.Errorf("delivery %s panicked", id)
				}
				a.mu.Lock()
				delete(a.flights, id)
				a.mu.Unlock()
				close(f.done)
			}()
			f.result, f.err = a.attempt(base, id, d, in, first)
			a.metrics.ended(base, f.result, f.err)
		}()
	}
	select {
	case <-f.done:
		r := f.result
		if underWay && in == slowLane && f.lane == onDemand && r.Status == Failed {
			r.Taken = true // a person's attempt, which plans no further one
		}
		return r, f.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

func (a *Activities) attempt(ctx context.Context, id uuid.UUID, d Delivery, in lane, first bool) (Result, error) {
	asked := in == onDemand
	j, handed := a.handoff.take(id)
	if !handed {
		if r, ok, err := a.recorded(ctx, id, d, asked); ok || err != nil {
			r.Taken = first && r.Status == Failed
			return r, err
		}
		var skipped string
		var err error
		if j, skipped, err = a.load(ctx, d, asked); err != nil || skipped != "" {
			return Result{Status: Skipped, Error: skipped}, err
		}
	}
	waited := time.Now()
	var t *turn
	ok := false
	if in != fastLane || !j.failing {
		t, ok = a.lanes.enter(ctx, in, d.WebhookID, j)
	}
	if !ok && in == fastLane && a.lanes.settle(ctx, d.WebhookID, j.botID, parkPatience) {
		// What hung has ended: the webhook may be disabled now, or well again.
		var skipped string
		var err error
		if j, skipped, err = a.reload(ctx, j, d.WebhookID); err != nil {
			return Result{}, err
		}
		if skipped == "" && !j.failing {
			t, ok = a.lanes.enter(ctx, in, d.WebhookID, j)
		} else {
			disperse(ctx, waited, parkPatience)
		}
		if skipped != "" {
			return Result{Status: Skipped, Error: skipped}, nil
		}
	}
	switch {
	case !ok && in == slowLane:
		return Result{Status: Deferred, RetryInMs: a.lanes.appoint(j.botID).Milliseconds()}, nil
	case !ok:
		return Result{Status: Deferred, Held: !j.failing && !a.lanes.troubled(d.WebhookID)}, nil
	}
	if time.Since(waited) > handoffFresh/2 {
		// Much may have happened while it waited its turn.
		var skipped string
		var err error
		if j, skipped, err = a.load(ctx, d, asked); err != nil || skipped != "" {
			t.end(false, false)
			return Result{Status: Skipped, Error: skipped}, err
		}
	}
	resp, final, err := a.exchange(ctx, t, id, d, j, in)
	if err != nil {
		return Result{}, err
	}
	failedAt := time.Now()
	if final == "" && !asked && !resp.Success() && in == fastLane {
		// Others were under way to the webhook, or were recorded with this one. If by them it is disabled now, nothing is
		// to be attempted again, and the engine is spared a workflow for each.
		waited := a.lanes.settle(ctx, d.WebhookID, j.botID, verdictPatience)
		if _, skipped, err := a.reload(ctx, j, d.WebhookID); err == nil && skipped != "" {
			final = skipped
			if waited {
				disperse(ctx, failedAt, verdictPatience)
			}
		}
	}
	r := a.result(d, resp.Success(), resp.StatusCode, resp.Error, resp.RetryAfter, !asked && final == "")
	if r.Status == Failed && !asked {
		r.Final = final
	}
	return r, nil
}

// exchange makes the POST and has its outcome recorded. final is what became of a webhook that is active no longer.
func (a *Activities) exchange(ctx context.Context, t *turn, id uuid.UUID, d Delivery, j job, in lane) (resp egress.Response, final string, err error) {
	attempted := false
	end := sync.OnceFunc(func() { t.end(attempted, resp.Success()) })
	defer end()
	header := webhook.Headers(webhook.Delivery{
		Version: a.cfg.Version, Type: j.event.Type, EventID: d.EventID, ID: id, At: time.Now(), Secrets: j.secrets, Body: j.event.Body,
	})
	ctx, span := a.span(ctx, id, d, j)
	a.traceParent(ctx, header)
	failpoint("before-post")
	resp, err = a.cfg.Egress.Post(ctx, j.url, header, j.event.Body)
	a.endSpan(span, resp, err)
	if err != nil {
		return resp, "", fmt.Errorf("delivery %s was not attempted: %w", id, err)
	}
	attempted = true
	failpoint("after-post")
	if resp.Success() && !j.failing {
		// That Postgres is slow or away must not look as if the receiver hung. A failure, and any attempt at a webhook
		// in a run of failures, keeps its turn until it counts.
		end()
	}
	after, err := a.recorder.Record(ctx, Attempt{
		DeliveryID: id, WebhookID: d.WebhookID, EventID: d.EventID, Number: d.Attempt, Generation: j.generation,
		Success: resp.Success(), StatusCode: resp.StatusCode, ResponseBody: resp.Body, Error: resp.Error,
		Duration: resp.Duration, StartedAt: resp.StartedAt, Exchange: encodeExchange(header, resp),
	})
	if err != nil {
		return resp, "", fmt.Errorf("delivery %s was made but not recorded: %w", id, err)
	}
	a.report(ctx, id, d, j, in, resp)
	switch {
	case after.Gone:
		final = WebhookGone
	case !after.Active:
		final = WebhookDisabled
	}
	return resp, final, nil
}

func (a *Activities) result(d Delivery, success bool, code int, cause string, retryAfter time.Duration, retry bool) Result {
	if success {
		return Result{Status: Delivered, StatusCode: code}
	}
	r := Result{Status: Failed, StatusCode: code, Error: cause}
	if retry {
		if delay, more := a.cfg.Schedule.Delay(d.step(), retryAfter, 2*rand.Float64()-1); more {
			r.RetryInMs = max(1, delay.Milliseconds())
		}
	}
	return r
}

// recorded answers for a delivery that is in the history already: it is not sent again.
func (a *Activities) recorded(ctx context.Context, id uuid.UUID, d Delivery, asked bool) (Result, bool, error) {
	row, err := a.queries.RecordedDelivery(ctx, a.cfg.Pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return Result{}, false, nil
	}
	if err != nil {
		return Result{}, false, fmt.Errorf("read delivery %s: %w", id, err)
	}
	var code int
	if row.StatusCode != nil {
		code = int(*row.StatusCode)
	}
	var cause string
	if row.Error != nil {
		cause = *row.Error
	}
	return a.result(d, row.Success, code, cause, 0, !asked), true, nil
}

// load reads what the delivery needs from Postgres, or says why it is to be skipped.
func (a *Activities) load(ctx context.Context, d Delivery, asked bool) (j job, skipped string, err error) {
	stored, err := a.queries.GetEvent(ctx, a.cfg.Pool, d.EventID)
	if errors.Is(err, pgx.ErrNoRows) {
		return job{}, EventGone, nil
	}
	if err != nil {
		return job{}, "", fmt.Errorf("read event %s: %w", d.EventID, err)
	}
	if !asked && stored.AcceptedAt.Before(a.cfg.Retention.Since(time.Now())) {
		return job{}, EventGone, nil // or its row would outlive it
	}
	j.event = storedEvent{ID: stored.ID, Type: webhook.EventType(stored.Type), Body: stored.Payload, BotIDs: stored.BotIds, AcceptedAt: stored.AcceptedAt}
	target, err := a.queries.GetTarget(ctx, a.cfg.Pool, db.GetTargetParams{ID: d.WebhookID, EventType: stored.Type})
	return a.aim(j, target, err, d.WebhookID, asked)
}

// reload reads the webhook of a delivery anew. Deliveries that waited for the same thing are woken together, and share
// one read.
func (a *Activities) reload(ctx context.Context, j job, webhookID uuid.UUID) (_ job, skipped string, err error) {
	read, err, _ := a.reads.Do(webhookID.String()+string(j.event.Type), func() (any, error) {
		return a.queries.GetTarget(ctx, a.cfg.Pool, db.GetTargetParams{ID: webhookID, EventType: string(j.event.Type)})
	})
	target, _ := read.(db.GetTargetRow)
	return a.aim(j, target, err, webhookID, false)
}

// aim completes a job with what the read of its webhook gave, or says why it is to be skipped.
func (a *Activities) aim(j job, target db.GetTargetRow, err error, webhookID uuid.UUID, asked bool) (_ job, skipped string, _ error) {
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return job{}, WebhookGone, nil
	case err != nil:
		return job{}, "", fmt.Errorf("read webhook %s: %w", webhookID, err)
	case !asked && !target.IsActive:
		return job{}, WebhookDisabled, nil
	case !asked && !target.Subscribed:
		return job{}, NotSubscribed, nil
	}
	if j.secrets, err = a.secrets(target.ID, target.Secret, target.PreviousSecret); err != nil {
		// An operator has to mend it, and the engine does not log why it calls an activity again.
		a.cfg.Logger.Error("a delivery waits as it cannot be signed", "event", j.event.ID, "error", err)
		return job{}, "", err
	}
	j.url, j.botID, j.generation = target.URL, target.BotID, target.Generation
	j.failing, j.readAt = target.FailureCount > 0, time.Now()
	return j, "", nil
}
