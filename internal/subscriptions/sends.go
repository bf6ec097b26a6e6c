package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

const (
	// maxSendsPerBot and maxSendsPerWebhook are how many tests and redeliveries are in progress at once: each has the
	// service POST to a third party, and a hanging one answers after 5 s.
	maxSendsPerBot     = 10
	maxSendsPerWebhook = 2
	// sendTimeout covers a wait for the webhook's turn, the 5 s of the POST, and its recording.
	sendTimeout = 30 * time.Second
	// queuedEvery is how often the history is asked for a delivery that the webhook's queue makes.
	queuedEvery = 50 * time.Millisecond
)

// sends counts the deliveries that people wait for, in this process, by bot and by webhook. Its zero value is ready for use.
type sends struct {
	mu        sync.Mutex
	ofBot     map[string]int
	ofWebhook map[uuid.UUID]int
}

// begin counts one more of a bot, and of one of its webhooks unless that is uuid.Nil, until end is called.
func (s *sends) begin(botID string, webhookID uuid.UUID) (end func(), err error) {
	const detail = "This %[2]s has %[1]d tests and redeliveries in progress, the most allowed. Wait for one to end."
	s.mu.Lock()
	defer s.mu.Unlock()
	if webhookID != uuid.Nil && s.ofWebhook[webhookID] >= maxSendsPerWebhook {
		return nil, &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf(detail, maxSendsPerWebhook, "webhook")}
	}
	if s.ofBot[botID] >= maxSendsPerBot {
		return nil, &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf(detail, maxSendsPerBot, "bot")}
	}
	if s.ofBot == nil {
		s.ofBot, s.ofWebhook = map[string]int{}, map[uuid.UUID]int{}
	}
	s.ofWebhook[webhookID]++
	s.ofBot[botID]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		countDown(s.ofWebhook, webhookID)
		countDown(s.ofBot, botID)
	}, nil
}

// countDown keeps no key that counts nothing.
func countDown[K comparable](n map[K]int, key K) {
	if n[key]--; n[key] == 0 {
		delete(n, key)
	}
}

// SendTest sends a test event to w and returns the delivery, whether or not the receiver took it. With an event type, the test
// is the catalog's sample of that.
func (s *Service) SendTest(ctx context.Context, w db.Webhook, eventType webhook.EventType) (db.GetDeliveriesRow, error) {
	if err := webhook.CheckTestType(eventType); err != nil {
		return db.GetDeliveriesRow{}, err
	}
	return s.send(ctx, w, func(ctx context.Context) (delivery.Attempt, bool, error) {
		return workflows.StartTest(ctx, s.Temporal, s.Attributes, TargetOf(w), eventType)
	})
}

var errNoNotifyURL = &problem.Error{Kind: problem.Conflict, Detail: "The bot has no notification URL. Set one first."}

// TestNotification sends the notice of a disabled webhook to the bot's notify URL, once, and returns what came of it. Its body
// says that it is a test.
func (s *Service) TestNotification(ctx context.Context, botID string) (delivery.Result, error) {
	switch bot, err := db.New().GetBot(ctx, s.Pool, botID); {
	case err != nil:
		return delivery.Result{}, problem.OrNotFound(err)
	case bot.NotifyURL == nil:
		return delivery.Result{}, errNoNotifyURL
	}
	end, err := s.sends.begin(botID, uuid.Nil)
	if err != nil {
		return delivery.Result{}, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	r, err := workflows.StartNoticeTest(ctx, s.Temporal, s.Attributes, botID)
	var unmade workflows.NotMadeError
	switch errors.As(err, &unmade); {
	case unmade.Reason == delivery.NoticesUnwanted:
		return r, errNoNotifyURL // it was removed meanwhile
	case unmade.Reason == delivery.RateLimited:
		return r, &problem.Error{Kind: problem.TooManyRequests, Detail: "Limit of tests to this notification URL reached.", RetryAfter: unmade.RetryIn}
	case err != nil:
		return r, s.notSent(err)
	}
	db.NoteCommit(ctx) // by a worker
	return r, nil
}

// Verify asks the endpoint of w whether it wants deliveries and returns the delivery.
func (s *Service) Verify(ctx context.Context, w db.Webhook) (db.GetDeliveriesRow, error) {
	return s.send(ctx, w, func(ctx context.Context) (delivery.Attempt, bool, error) {
		return workflows.StartVerification(ctx, s.Temporal, s.Attributes, TargetOf(w))
	})
}

// Redeliver sends the event of a delivery of w once more and returns the new delivery.
func (s *Service) Redeliver(ctx context.Context, w db.Webhook, deliveryID uuid.UUID) (db.GetDeliveriesRow, error) {
	next, err := s.history().NextAttempt(ctx, w.ID, deliveryID, s.Retention)
	switch {
	case problem.Is(err, problem.NotFound), err == nil && !next.IsKept:
		return db.GetDeliveriesRow{}, s.notKept()
	case err != nil:
		return db.GetDeliveriesRow{}, err
	case next.Attempts >= history.MaxAttempts:
		return db.GetDeliveriesRow{}, &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("This event has had %d attempts at the webhook, the most allowed.", history.MaxAttempts)}
	}
	return s.send(ctx, w, func(ctx context.Context) (delivery.Attempt, bool, error) {
		return workflows.StartRedelivery(ctx, s.Temporal, s.Attributes, TargetOf(w), next.EventID, int(next.Attempt))
	})
}

// RetryNow makes the planned attempts of w due now: of one event or, where eventID is empty, of all. It returns how many, of
// the next 10,000. The webhook's queue makes them, one at a time while the webhook fails.
func (s *Service) RetryNow(ctx context.Context, w db.Webhook, eventID string) (int, error) {
	switch {
	case !w.IsActive:
		return 0, &problem.Error{Kind: problem.Conflict, Detail: "The webhook is disabled, and nothing waits. Enable it, then start a recovery."}
	case w.VerifiedAt == nil && s.Verification == webhook.VerificationRequire:
		return 0, ErrNotVerified
	}
	if err := s.checkPaused(ctx, w); err != nil {
		return 0, err
	}
	n, eventID := 0, webhook.CanonicalID(eventID)
	err := audit.Tx(ctx, s.Pool, s.Logger, func(tx pgx.Tx, note func(audit.Change) error) (err error) {
		if n, err = history.RetryNow(ctx, tx, w.ID, eventID); err != nil || n == 0 {
			return err
		}
		return note(audit.Change{Action: audit.RetriesRequested, BotID: w.BotID, Subject: w.ID.String(), After: audit.Fields{"attempts": n}})
	})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, s.checkInOrder(ctx, w, eventID)
	}
	// The rows are due: what Temporal does not take now, the next sweep does.
	s.wakeSoon(ctx, w)
	return n, nil
}

// Waiting lists what waits for w, in the order in which it is sent.
func (s *Service) Waiting(ctx context.Context, w db.Webhook) ([]history.WaitingDelivery, error) {
	return s.queue().Waiting(ctx, w)
}

// checkInOrder refuses to attempt an event now that waits for those before it.
func (s *Service) checkInOrder(ctx context.Context, w db.Webhook, eventID string) error {
	if !w.Ordered || eventID == "" {
		return nil
	}
	if _, _, planned, err := s.queue().Planned(ctx, w.ID, eventID); err != nil || !planned {
		return err
	}
	return errInOrder
}

// errInOrder answers for an event of an ordered webhook that cannot go before others.
var errInOrder = &problem.Error{Kind: problem.Conflict, Detail: "The webhook is ordered, and this event waits for those before it. Retry the first of them, or all, which is the same."}

// NextAttempt is an event's next attempt at a webhook.
type NextAttempt struct {
	Number int
	At     time.Time // a past time means now
}

// NextAttempt is when an event goes to w again: as its queue has it, and not before a failing webhook's rest is over; nil: it
// does not. To a disabled webhook nothing goes but what a person has just asked for.
func (s *Service) NextAttempt(ctx context.Context, w db.Webhook, eventID string) (*NextAttempt, error) {
	row, at, planned, err := s.queue().Planned(ctx, w.ID, eventID)
	if err != nil || !planned || !w.IsActive && !row.Trigger.Manual() {
		return nil, err
	}
	return &NextAttempt{row.Attempt, history.DueAt(at, w.ResumeAt, time.Now())}, nil
}

func (s *Service) history() *history.Reader { return &history.Reader{Pool: s.Pool} }

// notKept answers for a delivery that is not there, or may be removed at any time.
func (s *Service) notKept() error {
	if s.Retention == 0 {
		return problem.ErrNotFound
	}
	return &problem.Error{Kind: problem.NotFound, Detail: fmt.Sprintf("Delivery not found. Deliveries are kept for %v after the acceptance of their event.", s.Retention)}
}

// send returns the delivery that start makes, or has the webhook's queue make. It is seen to its end, and counts until then,
// also when ctx is cancelled: else whoever hangs up could have any number in progress.
func (s *Service) send(ctx context.Context, w db.Webhook, start func(context.Context) (made delivery.Attempt, queued bool, err error)) (row db.GetDeliveriesRow, err error) {
	if err := s.checkPaused(ctx, w); err != nil {
		return row, err
	}
	if err := s.Keyset.OpenAll(w); err != nil { // which the workers would wait for
		return row, err
	}
	end, err := s.sends.begin(w.BotID, w.ID)
	if err != nil {
		return row, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	made, queued, err := start(ctx)
	if err != nil {
		return row, s.notSent(err)
	}
	db.NoteCommit(ctx) // by a worker
	row, err = s.history().Attempt(ctx, w.ID, made.EventID, made.Number)
	for queued && problem.Of(err).Kind == problem.NotFound {
		select {
		case <-time.After(queuedEvery):
			row, err = s.history().Attempt(ctx, w.ID, made.EventID, made.Number)
		case <-ctx.Done():
			// Nothing of ours is away, and another call would send it twice.
			return row, &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("The delivery waits in the webhook's queue and is sent soon. Look for event %s in the history.", made.EventID)}
		}
	}
	return row, err // not found: the webhook was deleted in this very moment, with its history
}

// checkPaused refuses what a person asks for while an operator has paused the deliveries of w.
func (s *Service) checkPaused(ctx context.Context, w db.Webhook) error {
	covering, err := s.Pauses().Covering(ctx, []uuid.UUID{w.ID})
	if err != nil {
		return err
	}
	if p, paused := covering[w.ID]; paused {
		return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("Deliveries of this webhook are paused by an operator since %s: %s", webhook.FormatTime(p.Since), p.Reason)}
	}
	return nil
}

// Pauses are those of operators.
func (s *Service) Pauses() *history.Pauses { return &history.Pauses{Pool: s.Pool, Log: s.Logger} }

// notSent is what the caller learns of an attempt that was not made.
func (s *Service) notSent(err error) error {
	var unmade workflows.NotMadeError
	if !errors.As(err, &unmade) {
		return problem.OfTemporal(err)
	}
	switch unmade.Reason {
	case delivery.RateLimited:
		return &problem.Error{Kind: problem.TooManyRequests, Detail: "Delivery limit of this unverified endpoint reached. Verify the endpoint, or wait.", RetryAfter: unmade.RetryIn}
	case delivery.NotVerified:
		return ErrNotVerified
	case delivery.BotSuspended:
		return problem.ErrSuspended
	case delivery.Paused: // since it was checked
		return &problem.Error{Kind: problem.Conflict, Detail: "Deliveries of this webhook are paused by an operator."}
	case delivery.InOrder:
		return errInOrder
	case delivery.EventGone:
		return s.notKept()
	}
	return problem.ErrNotFound // the webhook is gone
}
