package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// sweepEvery is how often overdue queues are looked for, in all processes together, and overdueAfter how long a row is
	// due before its queue is taken for unwoken. Together they bound how late a crash makes a delivery: 45 s.
	sweepEvery   = 30 * time.Second
	overdueAfter = 10 * time.Second
	// MostCounted bounds how many rows are counted to say how many wait.
	MostCounted = 1000
	// mostRetriedNow bounds one statement's changes.
	mostRetriedNow = 10_000
	// recoveryLook is when an ordered queue looks again that has nothing to send before what a recovery may yet find.
	recoveryLook = 2 * time.Second
	// unlimited is beyond what is ever due.
	unlimited = 100 * 365 * 24 * time.Hour
	// mostSwept is how many webhooks' queues one sweep looks at, and mostOverdue how many it finds: as many as a process wakes
	// until it may sweep again. What is left, the next sweep begins with, at once.
	mostSwept, mostOverdue = 10_000, 250
)

// Webhook names a webhook whose queue has something to do. Host may be empty where it is not known.
type Webhook struct {
	WebhookID uuid.UUID
	BotID     string
	Host      string
}

// Queue is the table queue: what is planned for each webhook.
type Queue struct {
	Pool *pgxpool.Pool
	// Log has a line for each recovery that is begun or cancelled; nil: none.
	Log *slog.Logger
}

// Row is a planned attempt.
type Row struct {
	EventID    string          `json:"eventId"`
	Attempt    int             `json:"attempt"`
	Step       int             `json:"step"`
	Trigger    webhook.Trigger `json:"trigger"`
	RecoveryID uuid.UUID       `json:"recoveryId,omitzero"`
}

// QueueState is how a webhook's queue stands.
type QueueState struct {
	// Gone: the webhook was deleted, and its queue with it.
	Gone   bool   `json:"gone,omitempty"`
	BotID  string `json:"botId,omitempty"`
	Active bool   `json:"active,omitempty"`
	// Ordered: the webhook's deliveries are made one at a time, in the order of acceptance.
	Ordered bool `json:"ordered,omitempty"`
	// FailureCount is the webhook's failures in a row, LastError the error of the last one.
	FailureCount int    `json:"failureCount,omitempty"`
	LastError    string `json:"lastError,omitempty"`
	// Waiting is how many rows there are, counted up to 1,000.
	Waiting int `json:"waiting"`
	// Due are the rows that are due, as many as were asked for: oldest first, after what a person asked for.
	Due []Row `json:"due,omitempty"`
	// Paused: an operator has stopped deliveries, so that no attempt is made.
	Paused *Pause `json:"paused,omitempty"`
	// NextIn is the time until the next row is due; of a paused webhook, the next of those that are not due yet. ResumeIn is the time
	// until a resting queue is looked at again: that of a failing webhook or an unverified endpoint. 0: there is none.
	NextIn   time.Duration `json:"nextIn,omitempty"`
	ResumeIn time.Duration `json:"resumeIn,omitempty"`
}

// Look reads how a webhook's queue stands, with at most `most` rows that are due. A webhook that has nothing due and no
// run of failures turns direct, unless it is ordered.
func (q *Queue) Look(ctx context.Context, webhookID uuid.UUID, most int) (QueueState, error) {
	s, canTurn, err := q.read(ctx, webhookID, most)
	if err != nil {
		return s, fmt.Errorf("look at the queue of webhook %s: %w", webhookID, err)
	}
	if canTurn && s.FailureCount == 0 && len(s.Due) == 0 {
		if err := q.setDirect(ctx, webhookID); err != nil {
			return s, fmt.Errorf("turn webhook %s direct: %w", webhookID, err)
		}
		// What was added before it turned direct, and after the first look, is seen now.
		if s, _, err = q.read(ctx, webhookID, most); err != nil {
			return s, fmt.Errorf("look at the queue of webhook %s: %w", webhookID, err)
		}
	}
	return s, nil
}

func (q *Queue) read(ctx context.Context, webhookID uuid.UUID, most int) (s QueueState, canTurn bool, err error) {
	queries := db.New()
	w, err := queries.QueueState(ctx, q.Pool, db.QueueStateParams{ID: webhookID, MostCounted: MostCounted})
	if errors.Is(err, pgx.ErrNoRows) {
		return QueueState{Gone: true}, false, queries.ClearAllQueues(ctx, q.Pool, []uuid.UUID{webhookID})
	}
	if err != nil {
		return s, false, err
	}
	s = QueueState{
		BotID: w.BotID, Active: w.IsActive, Ordered: w.Ordered, FailureCount: int(w.FailureCount), LastError: w.LastError,
		Waiting: int(w.Waiting), NextIn: seconds(w.NextIn), ResumeIn: seconds(w.ResumeIn),
	}
	if w.Paused {
		covering, err := (&Pauses{Pool: q.Pool}).Covering(ctx, []uuid.UUID{webhookID})
		if err != nil {
			return s, false, err
		}
		if p, lasts := covering[webhookID]; lasts { // still
			s.Paused = &p
		}
	}
	var upto *time.Time
	recovers, always := w.OrderedUpto.Unix() > 0, time.Now().Add(unlimited)
	switch {
	case recovers:
		upto = &w.OrderedUpto
	case w.Ordered: // its due times say which comes first, also where the clock has gone back
		upto = &always
	}
	due, err := queries.TakeDue(ctx, q.Pool, db.TakeDueParams{WebhookID: webhookID, Most: int32(most), Upto: upto})
	for _, row := range due {
		s.Due = append(s.Due, Row{
			EventID: row.EventID, Attempt: int(row.Attempt), Step: int(row.Step), Trigger: webhook.Trigger(row.Trigger), RecoveryID: row.RecoveryID.UUID,
		})
	}
	if recovers && len(s.Due) == 0 {
		s.NextIn = recoveryLook // what is due waits for what the recovery finds
	}
	return s, w.Queued && !w.Ordered, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// setDirect holds the webhook's lock, so that no failure is recorded and no attempt planned meanwhile.
func (q *Queue) setDirect(ctx context.Context, webhookID uuid.UUID) error {
	return db.WithTx(ctx, q.Pool, func(tx pgx.Tx) error {
		if err := db.LockWebhook(ctx, tx, webhookID); err != nil {
			return err
		}
		_, err := db.New().SetDirect(ctx, tx, webhookID)
		return err
	})
}

// Planned reads the planned attempt at delivering an event to a webhook, and when it is due; false: there is none.
func (q *Queue) Planned(ctx context.Context, webhookID uuid.UUID, eventID string) (row Row, dueAt time.Time, planned bool, err error) {
	return plannedAttempt(ctx, q.Pool, webhookID, eventID)
}

func plannedAttempt(ctx context.Context, tx db.DBTX, webhookID uuid.UUID, eventID string) (row Row, dueAt time.Time, planned bool, err error) {
	r, err := db.New().QueuedAttempt(ctx, tx, db.QueuedAttemptParams{EventID: eventID, WebhookID: webhookID})
	if errors.Is(err, pgx.ErrNoRows) {
		return Row{}, time.Time{}, false, nil
	}
	row = Row{EventID: eventID, Attempt: int(r.Attempt), Step: int(r.Step), Trigger: webhook.Trigger(r.Trigger), RecoveryID: r.RecoveryID.UUID}
	return row, r.DueAt, err == nil, err
}

// DueAt is when a planned attempt is made: what is due since 1970 goes before all else, and nothing before a failing webhook's
// rest is over.
func DueAt(planned time.Time, resumeAt *time.Time, now time.Time) time.Time {
	switch {
	case planned.Unix() == 0:
		return now
	case resumeAt != nil && resumeAt.After(planned):
		return *resumeAt
	}
	return planned
}

// IsUrgent says whether something is planned for a webhook that goes before all else: what a person asked for.
func (q *Queue) IsUrgent(ctx context.Context, webhookID uuid.UUID) (bool, error) {
	return db.New().IsUrgent(ctx, q.Pool, webhookID)
}

// Remove removes the planned attempt of a row: there is nothing to send any more.
func (q *Queue) Remove(ctx context.Context, webhookID uuid.UUID, row Row) error {
	return db.New().RemoveAttempted(ctx, q.Pool, db.RemoveAttemptedParams{
		WebhookIds: []uuid.UUID{webhookID}, EventIds: []string{row.EventID}, Attempts: []int32{int32(row.Attempt)},
	})
}

// Postpone puts off the planned attempt of a row, which our own side could not make. An ordered webhook rests instead.
func (q *Queue) Postpone(ctx context.Context, webhookID uuid.UUID, row Row, d time.Duration) error {
	return db.New().Postpone(ctx, q.Pool, db.PostponeParams{DelaySeconds: d.Seconds(), EventID: row.EventID, WebhookID: webhookID, Attempt: int32(row.Attempt), Manual: row.Trigger.Manual()})
}

// Rest has the queue of a webhook rest whose endpoint has not agreed, for at least d from now.
func (q *Queue) Rest(ctx context.Context, webhookID uuid.UUID, d time.Duration) error {
	return db.New().RestQueue(ctx, q.Pool, db.RestQueueParams{ID: webhookID, Seconds: d.Seconds()})
}

// RetryNow makes what is planned for a webhook due at once, of one event or, where eventID is empty, of all, and ends the
// rest of a failing webhook. It returns how many attempts it made due, the next 10,000 at most. The queue has to be woken. Of an
// ordered webhook, the head alone is made due.
func (q *Queue) RetryNow(ctx context.Context, webhookID uuid.UUID, eventID string) (n int, err error) {
	err = db.WithTx(ctx, q.Pool, func(tx pgx.Tx) error {
		n, err = RetryNow(ctx, tx, webhookID, eventID)
		return err
	})
	return n, err
}

// RetryNow is Queue.RetryNow in a transaction, which locks the webhook before its queue, as recording does.
func RetryNow(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, eventID string) (int, error) {
	queries := db.New()
	head, err := headOf(ctx, tx, webhookID)
	if err != nil || head != "" && eventID != "" && eventID != head {
		return 0, err
	}
	if err := queries.EndRest(ctx, tx, webhookID); err != nil {
		return 0, fmt.Errorf("end the rest of webhook %s: %w", webhookID, err)
	}
	if head != "" {
		return 1, nil
	}
	n, err := queries.RetryNow(ctx, tx, db.RetryNowParams{WebhookID: webhookID, EventID: eventID, Most: mostRetriedNow})
	return int(n), describe(err, "make a queue due now")
}

// StalledIncidents are those whose workflows may not have started. Any process may ask, and each does.
func (q *Queue) StalledIncidents(ctx context.Context) ([]uuid.UUID, error) {
	ids, err := db.New().StalledIncidents(ctx, q.Pool, sweepEvery.Seconds())
	return ids, describe(err, "look for incidents that have not started")
}

// Overdue returns the webhooks whose queues nobody woke, as a crash or a pause leaves them, and the recoveries whose workflows
// may not have started. Of all processes one looks in half a minute, and at once where there is more: the others get none. What
// one of the steps cannot do keeps none of the others from being done: the lists hold what was found, also beside an error.
func (q *Queue) Overdue(ctx context.Context) (webhooks, recovering []Webhook, err error) {
	queries := db.New()
	begun, err := queries.BeginSweep(ctx, q.Pool, sweepEvery.Seconds())
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	webhooks, errOverdue := q.sweep(ctx, begun)
	if begun.Upto != uuid.Nil { // it goes on with the sweep before
		return webhooks, nil, describe(errOverdue, "look for overdue queues")
	}
	stalled, errStalled := queries.StalledRecoveries(ctx, q.Pool, sweepEvery.Seconds())
	for _, row := range stalled {
		recovering = append(recovering, Webhook{row.WebhookID, row.BotID, webhook.HostOf(row.Origin)})
	}
	return webhooks, recovering, errors.Join(
		describe(errOverdue, "look for overdue queues"),
		describe(errStalled, "look for recoveries that have not started"),
		describe(queries.RemoveAllowances(ctx, q.Pool), "remove unused allowances"),
	)
}

// sweep looks for overdue queues among the next ones.
func (q *Queue) sweep(ctx context.Context, begun db.BeginSweepRow) (overdue []Webhook, err error) {
	queries := db.New()
	rows, err := queries.OverdueQueues(ctx, q.Pool, db.OverdueQueuesParams{After: begun.Upto, Seconds: overdueAfter.Seconds(), MostRead: mostSwept, Most: mostOverdue})
	if err != nil {
		return nil, err
	}
	end := db.EndSweepParams{BeganAt: begun.BeganAt}
	for _, row := range rows {
		if row.IsOverdue {
			overdue = append(overdue, Webhook{row.WebhookID, row.BotID, webhook.HostOf(row.Origin)})
		}
		if row.N == mostSwept || len(rows) == mostOverdue {
			end.More, end.Upto = true, row.WebhookID
		}
	}
	return overdue, queries.EndSweep(ctx, q.Pool, end)
}

// describe says what an error kept from being done.
func describe(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
