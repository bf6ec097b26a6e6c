// Package activities is Temporal's side of what the workflows ask for: thin methods that call internal/delivery and
// internal/history.
package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// Activities holds the activities' dependencies; its exported methods that take a context and return an error are the
// activities. An error means that our own side failed: calling again goes on where it stopped.
type Activities struct {
	deliverer *delivery.Deliverer
	queue     *history.Queue
	remover   *history.Remover
}

// New returns the activities of a worker.
func New(d *delivery.Deliverer, remover *history.Remover) *Activities {
	return &Activities{deliverer: d, queue: d.Queue(), remover: remover}
}

// Register makes the activities known to a worker.
func (a *Activities) Register(r worker.ActivityRegistry) {
	// Skipped are the methods that are none: this one.
	r.RegisterActivityWithOptions(a, activity.RegisterOptions{SkipInvalidStructFunctions: true})
}

// AcceptEvents stores events and finds their webhooks, see delivery.Deliverer.Accept. What is wrong with one of several that
// is not Postgres's being away is an error of type NotTogether: accepted one by one, none harms another.
func (a *Activities) AcceptEvents(ctx context.Context, in delivery.EventsToAccept) (out delivery.Audience, err error) {
	if len(in.Events) <= 1 {
		return final(a.deliverer.Accept(ctx, in))
	}
	inTime, cancel := context.WithTimeout(ctx, togetherTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = temporal.NewNonRetryableApplicationError(fmt.Sprintf("panic: %v", p), NotTogether, nil)
		} else if err != nil && ctx.Err() == nil && (inTime.Err() != nil || !db.IsUnavailable(err)) {
			err = temporal.NewNonRetryableApplicationError(err.Error(), NotTogether, err)
		}
	}()
	return a.deliverer.Accept(inTime, in)
}

// togetherTimeout is how long it may take to accept several events together: a database that is slow may still accept each.
const togetherTimeout = AttemptTimeout * 3 / 4

// NotTogether is the type of the error that AcceptEvents ends with where one of several events may be at fault.
const NotTogether = "NotTogether"

// InvalidInput is the type of the error that an activity, or a workflow, ends with for good where its input is at fault. Ours
// never is: it was started by hand.
const InvalidInput = "InvalidInput"

// final makes an error about the input one that no other attempt follows.
func final[T any](result T, err error) (T, error) {
	var invalid *webhook.InvalidError
	if errors.As(err, &invalid) {
		err = temporal.NewNonRetryableApplicationError(err.Error(), InvalidInput, nil)
	}
	return result, err
}

// AddressPart finds a part of a large audience.
func (a *Activities) AddressPart(ctx context.Context, in delivery.PartOfAudience) (delivery.Audience, error) {
	return final(a.deliverer.AddressPart(ctx, in))
}

// StartBatches goes on with starting the workflows of the parts of a large audience. They are no children of the workflow: a child begins
// only when its parent's local activities, attempts at receivers that may hang, have ended.
func (a *Activities) StartBatches(ctx context.Context, in delivery.Batches) (started int, err error) {
	return final(a.deliverer.StartBatches(ctx, in))
}

// StartKnown starts a workflow of the events of a group that this worker knows, where others wait for one of another version.
func (a *Activities) StartKnown(ctx context.Context, in delivery.KnownEvents) error {
	return a.deliverer.StartKnown(ctx, in)
}

// Deliver makes one direct attempt, recorded before it returns.
func (a *Activities) Deliver(ctx context.Context, in delivery.Attempt) (delivery.Result, error) {
	return final(a.deliverer.Deliver(ctx, in))
}

// DeliverGroup is Deliver for many first attempts.
func (a *Activities) DeliverGroup(ctx context.Context, g delivery.Group) (delivery.GroupResult, error) {
	return final(a.deliverer.RunGroup(ctx, g))
}

// PrepareTest stores a test event, and says how it is to be sent.
func (a *Activities) PrepareTest(ctx context.Context, in delivery.TestEvent) (delivery.Route, error) {
	return final(a.deliverer.PrepareTest(ctx, in))
}

// PrepareVerification stores the event that asks an endpoint whether it wants deliveries, and says how it is to be sent.
func (a *Activities) PrepareVerification(ctx context.Context, in delivery.TestEvent) (delivery.Route, error) {
	return a.deliverer.PrepareVerification(ctx, in)
}

// PrepareRedelivery says how an event is to be sent once more.
func (a *Activities) PrepareRedelivery(ctx context.Context, in delivery.Attempt) (delivery.Route, error) {
	return final(a.deliverer.PrepareRedelivery(ctx, in))
}

// LookInput asks how a webhook's queue stands, with at most Most rows that are due.
type LookInput struct {
	WebhookID uuid.UUID
	BotID     string // the webhook's
	Most      int
}

// LookAtQueue reads how a webhook's queue stands, and waits out the rest of a failing webhook.
func (a *Activities) LookAtQueue(ctx context.Context, in LookInput) (history.QueueState, error) {
	s, err := a.deliverer.Look(ctx, in.WebhookID, in.Most)
	if err == nil && !s.Gone && s.BotID != in.BotID {
		err = webhook.Invalid("botId", "must be the webhook's bot")
	}
	return final(s, err)
}

// DeliverRound makes the attempts of one round of a webhook's queue.
func (a *Activities) DeliverRound(ctx context.Context, r delivery.Round) (delivery.RoundResult, error) {
	r.Stopping = activity.GetWorkerStopChannel(ctx)
	return final(a.deliverer.RunRound(ctx, r))
}

// RetryNowInput asks to make what is planned due at once: of one event or, where it is empty, of all.
type RetryNowInput struct {
	WebhookID uuid.UUID
	EventID   string
}

// HurryQueue makes what is planned for a webhook due at once. Recorded histories have its name.
func (a *Activities) HurryQueue(ctx context.Context, in RetryNowInput) error {
	_, err := a.queue.RetryNow(ctx, in.WebhookID, in.EventID)
	return err
}

// RecoverPage goes on with a webhook's recovery for about two seconds.
func (a *Activities) RecoverPage(ctx context.Context, t delivery.Target) (history.RecoveryStep, error) {
	step, err := a.queue.RecoverPage(ctx, t.WebhookID)
	if err == nil && step.Planned {
		err = a.deliverer.WakeWebhook(ctx, t.WebhookID)
	}
	return step, err
}

// CancelRecovery ends a webhook's recovery.
func (a *Activities) CancelRecovery(ctx context.Context, webhookID uuid.UUID) error {
	return a.queue.CancelRecovery(ctx, webhookID)
}

// SendTestNotice sends a bot's owner a notice that says that it is a test.
func (a *Activities) SendTestNotice(ctx context.Context, n delivery.NoticeTest) (delivery.Result, error) {
	return final(a.deliverer.SendTestNotice(ctx, n))
}

// RecoverIncident makes one step of an incident.
func (a *Activities) RecoverIncident(ctx context.Context, id uuid.UUID) (history.IncidentStep, error) {
	return a.deliverer.RecoverIncident(ctx, id)
}

// CancelIncident cancels an incident.
func (a *Activities) CancelIncident(ctx context.Context, id uuid.UUID) error {
	_, err := a.queue.SetIncidentState(ctx, id, history.IncidentCancelled)
	if problem.Is(err, problem.Conflict) { // it has ended
		return nil
	}
	return err
}

// NotifyOwner makes one attempt to notify a bot's owner of a disabled webhook.
func (a *Activities) NotifyOwner(ctx context.Context, n delivery.Notice) (delivery.Result, error) {
	return final(a.deliverer.NotifyOwner(ctx, n))
}

// RemoveExpired goes on with the removal of expired events for about two seconds.
func (a *Activities) RemoveExpired(ctx context.Context, in history.Removal) (history.Removal, error) {
	return a.remover.RemoveExpired(ctx, in)
}

// Timeouts of the activities. A POST takes webhook.AttemptTimeout, 5 s, at most, so that an attempt with its wait for a
// place and its recording fits.
const (
	AttemptTimeout = 8 * time.Second
	RoundTimeout   = 20 * time.Second
	// GroupTimeout is for a group, which ends by itself, but for what it has begun: to begin that again would look all of it up.
	GroupTimeout = 5 * time.Minute
)
