package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/webhook"
)

const (
	// MostRecoveries is how many recoveries of a webhook are listed; older ones go after a day.
	MostRecoveries = 50
	// MissedBefore is how long before it was disabled a webhook may have missed events: what failed until then is
	// attempted again no more. The default schedule's retries take 18 h.
	MissedBefore = 24 * time.Hour
	// RecoveryRate is how many missed events a second a recovery delivers at most: the receiver has just been in trouble,
	// and has new events to take as well. That of an ordered webhook plans as many at once: planned_enough, in the schema.
	RecoveryRate = 10
	// missedPage is how many events one statement looks through, and recoveryStint how long one RecoverPage goes on, so
	// that its workflow records how far it has come.
	missedPage = 2000
	// filteredPage is missedPage where a filter has to look at what the events say, and where few of a page are planned.
	filteredPage  = 250
	recoveryStint = 2 * time.Second
	// acceptTime bounds the acceptance of an event. One that began before the end of a recovery's span, and while the webhook was
	// disabled, is waited for: its event is found once it is committed.
	acceptTime = 15 * time.Second
	// recoveryAhead is how far ahead of its rate a recovery plans, so that its webhook's queue stays short.
	recoveryAhead = 60 * time.Second
	// recoveryIdle is after how long without an attempt a recovery that has planned all looks that seldom too.
	recoveryIdle = 10 * time.Second
	// directTime is how long after a row was planned a direct attempt has ended, and is recorded, that began without knowing of the
	// row: its event looks missed meanwhile, and would be sent twice. directLatest is how long after acceptance a direct attempt may
	// yet begin, as of a large audience behind others.
	directTime   = webhook.AttemptTimeout + 2*time.Second
	directLatest = 10 * time.Minute
)

// The states of a recovery.
const (
	RecoveryRunning   = "running"
	RecoveryCompleted = "completed"
	RecoveryCancelled = "cancelled"
	// RecoveryStopped says that it stopped by itself, as the webhook was disabled again.
	RecoveryStopped = "stopped"
)

// RecoveryRunningError says which webhook is being recovered already: the same, or another of the bot whose recovery has work.
type RecoveryRunningError struct{ WebhookID uuid.UUID }

func (e RecoveryRunningError) Error() string {
	return fmt.Sprintf("a recovery of webhook %s is running", e.WebhookID)
}

// ErrNotServed says that a webhook is disabled, or its bot suspended: a recovery of it would deliver nothing.
var ErrNotServed = errors.New("the webhook is disabled or suspended")

// Span is the part of the past that a recovery covers, by the time of acceptance, both ends included.
type Span struct {
	WebhookID uuid.UUID
	Since     time.Time
	Until     time.Time
	// EventType and Failure say what of it is wanted; their zero values: all.
	EventType string
	Failure
}

// StartRecovery begins a recovery of what the webhook missed since it was made. Its workflow has to be started; should that
// fail, the sweep starts it. It fails with ErrNotServed, and with a RecoveryRunningError while a recovery of the webhook runs, or
// one of its bot has work: one at a time, as a bot may have many for one receiver.
func (q *Queue) StartRecovery(ctx context.Context, s Span) (r db.Recovery, err error) {
	err = audit.Tx(ctx, q.Pool, q.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		botID, err := db.New().LockOwner(ctx, tx, s.WebhookID)
		if err != nil {
			return err
		}
		// Under its lock, so that it is not disabled meanwhile: that would end the recoveries there are, and not find this one.
		w, err := lockAndRead(ctx, tx, s.WebhookID)
		if err != nil {
			return err
		}
		if !w.IsActive || w.Suspended {
			return ErrNotServed
		}
		if err := mayRecover(ctx, tx, w); err != nil {
			return err
		}
		r, err = beginRecovery(ctx, tx, note, botID, s)
		return err
	})
	return r, err
}

// mayRecover says with a RecoveryRunningError what keeps a recovery of a webhook from beginning. The webhook and its bot are
// locked.
func mayRecover(ctx context.Context, tx pgx.Tx, w db.Webhook) error {
	running, err := db.New().RunningRecovery(ctx, tx, db.RunningRecoveryParams{WebhookID: w.ID, BotID: w.BotID, AheadSeconds: recoveryAhead.Seconds()})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return RecoveryRunningError{running}
}

// beginRecovery stores and notes a recovery. The webhook is locked and served, and no recovery of it is running.
func beginRecovery(ctx context.Context, tx pgx.Tx, note func(audit.Change) error, botID string, s Span) (db.Recovery, error) {
	r, err := db.New().StartRecovery(ctx, tx, db.StartRecoveryParams{
		ID: uuid.Must(uuid.NewV7()), WebhookID: s.WebhookID, Since: s.Since, Until: s.Until,
		EventType: s.EventType, Error: s.Error, StatusClass: int32(s.Status),
	})
	if err == nil {
		err = db.New().TrimRecoveries(ctx, tx, db.TrimRecoveriesParams{WebhookID: s.WebhookID, Others: MostRecoveries - 1})
	}
	if err != nil {
		return r, err
	}
	return r, note(audit.Change{
		Action: audit.RecoveryStarted, BotID: botID, Subject: s.WebhookID.String(),
		After: audit.Fields{"since": webhook.FormatTime(s.Since), "until": webhook.FormatTime(s.Until)},
	})
}

// CancelRecovery ends the webhook's recovery, if one runs: what it has planned is removed, but for what is in progress.
func (q *Queue) CancelRecovery(ctx context.Context, webhookID uuid.UUID) error {
	return q.cancelRecovery(ctx, webhookID, uuid.Nil)
}

// cancelRecovery is CancelRecovery for only that recovery, unless it is uuid.Nil: another may have begun since it was looked up.
func (q *Queue) cancelRecovery(ctx context.Context, webhookID, only uuid.UUID) error {
	return audit.Tx(ctx, q.Pool, q.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		queries := db.New()
		if err := db.LockWebhook(ctx, tx, webhookID); err != nil {
			return err
		}
		r, err := queries.LatestRecovery(ctx, tx, webhookID)
		if err != nil || r.Recovery.State != RecoveryRunning || only != uuid.Nil && only != r.Recovery.ID {
			return err
		}
		if err := RemovePlanned(ctx, tx, webhookID, func() error {
			_, err := queries.RemoveRecovered(ctx, tx, uuid.NullUUID{UUID: r.Recovery.ID, Valid: true})
			return err
		}); err != nil {
			return err
		}
		w, err := queries.WebhookOfAny(ctx, tx, webhookID)
		if err != nil {
			return err
		}
		if err := note(audit.Change{
			Action: audit.RecoveryCancelled, BotID: w.BotID, Subject: webhookID.String(),
			After: audit.Fields{"found": r.Recovery.Found, "delivered": r.Recovery.Delivered, "failed": r.Recovery.Failed},
		}); err != nil {
			return err
		}
		return queries.EndRecoveries(ctx, tx, db.EndRecoveriesParams{State: RecoveryCancelled, WebhookIds: []uuid.UUID{webhookID}})
	})
}

// RecoveryStep is how far a recovery has come.
type RecoveryStep struct {
	// Ended: there is nothing more to do.
	Ended     bool   `json:"ended,omitempty"`
	State     string `json:"state,omitempty"`
	Found     int    `json:"found"`
	Delivered int    `json:"delivered"`
	Failed    int    `json:"failed"`
	Remaining int    `json:"remaining"`
	LastError string `json:"lastError,omitempty"`
	// Planned: rows were added to the webhook's queue, which has to be woken.
	Planned bool `json:"planned,omitempty"`
	// Wait is when to come again, at the soonest.
	Wait time.Duration `json:"wait,omitempty"`
}

// RecoverPage goes on with the webhook's recovery for about two seconds: it looks through the events of the span, page by
// page, and plans those that were missed. It may be repeated: how far it has come is committed with what it has planned.
func (q *Queue) RecoverPage(ctx context.Context, webhookID uuid.UUID) (step RecoveryStep, err error) {
	planned := 0
	for until := time.Now().Add(recoveryStint); ; {
		var n int
		var more bool
		if n, more, step, err = q.recoverPage(ctx, webhookID); err != nil {
			return step, fmt.Errorf("recover webhook %s: %w", webhookID, err)
		}
		planned += n
		// What is found is to be sent at once.
		if !more || planned > 0 || time.Now().After(until) {
			step.Planned = planned > 0
			return step, nil
		}
	}
}

// recoverPage looks through one page. more: another may follow at once.
func (q *Queue) recoverPage(ctx context.Context, webhookID uuid.UUID) (planned int, more bool, step RecoveryStep, err error) {
	queries := db.New()
	latest, err := queries.LatestRecovery(ctx, q.Pool, webhookID)
	r := latest.Recovery
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, RecoveryStep{Ended: true, State: RecoveryStopped, LastError: "webhook deleted"}, nil
	}
	if err != nil {
		return 0, false, step, err
	}
	step = stepOf(r, int(latest.Remaining))
	ahead := r.CreatedAt.Add(time.Duration(r.Found) * time.Second / RecoveryRate).Sub(latest.Now)
	switch {
	case r.State != RecoveryRunning:
		step.Ended = true
		return 0, false, step, nil
	case r.LookedThrough && latest.Remaining == 0:
		step.Ended, step.State = true, RecoveryCompleted
		return 0, false, step, queries.CompleteRecovery(ctx, q.Pool, r.ID)
	case r.LookedThrough, latest.Ordered && latest.PlannedEnough:
		step.Wait = time.Second
		if latest.Now.Sub(r.UpdatedAt) > recoveryIdle { // it waits for retries
			step.Wait = recoveryIdle
		}
		return 0, false, step, nil
	case !latest.Ordered && ahead > recoveryAhead:
		step.Wait = ahead - recoveryAhead/2
		return 0, false, step, nil
	}
	if latest.Now.Sub(r.CreatedAt) < acceptTime {
		accepting, err := queries.Accepting(ctx, q.Pool, r.Until)
		if accepting || err != nil {
			return 0, false, step, err
		}
	}
	planned, err = q.planMissed(ctx, latest, max(0, ahead))
	step.Found += planned
	step.Remaining += planned
	return planned, err == nil, step, err
}

func stepOf(r db.Recovery, remaining int) RecoveryStep {
	step := RecoveryStep{State: r.State, Found: int(r.Found), Delivered: int(r.Delivered), Failed: int(r.Failed), Remaining: remaining}
	if r.LastError != nil {
		step.LastError = *r.LastError
	}
	return step
}

// planMissed plans the events of the span's next page, RecoveryRate a second, starting after ahead. It reads the page before
// it takes a lock, which delays nobody. Before each attempt it is checked whether the event was delivered meanwhile. Of an ordered
// webhook, whose rows are due at once, it plans no more than a second's.
func (q *Queue) planMissed(ctx context.Context, latest db.LatestRecoveryRow, ahead time.Duration) (planned int, err error) {
	r := latest.Recovery
	filter, err := filterOf(ctx, q.Pool, r.WebhookID)
	if err != nil {
		return 0, err
	}
	most, quota := int32(missedPage), math.MaxInt
	if filter != nil {
		most = filteredPage
	}
	if latest.Ordered {
		most, quota = filteredPage, RecoveryRate
	}
	page, err := db.New().ListMissed(ctx, q.Pool, db.ListMissedParams{
		WebhookID: r.WebhookID, EventType: r.EventType, Error: r.Error, StatusClass: r.StatusClass,
		Upto: r.Upto, AfterTime: r.AfterTime, AfterID: r.AfterID, MostRead: most,
	})
	if err != nil {
		return 0, err
	}
	if _, err := leaveOut(ctx, q.Pool, filter, page, math.MaxInt64); err != nil {
		return 0, err
	}
	place := db.AdvanceRecoveryParams{ID: r.ID, AfterTime: r.Since, BeginAt: r.Since, Upto: r.BeginAt, LookedThrough: !r.BeginAt.After(r.Since)}
	var rows db.EnqueueParams
	for _, e := range page {
		if e.N == int64(most) { // it may not be the last
			place = db.AdvanceRecoveryParams{ID: r.ID, AfterTime: e.AcceptedAt, AfterID: e.ID, BeginAt: r.BeginAt, Upto: r.Upto}
		}
		if !e.Missed {
			continue
		}
		delay := ahead + time.Duration(len(rows.EventIds)/RecoveryRate)*time.Second
		if e.WasActive && e.Attempt == 1 && latest.Now.Sub(e.AcceptedAt) < directLatest {
			delay = max(delay, directTime)
		}
		addPlan(&rows, Plan{
			WebhookID: r.WebhookID, EventID: e.ID, Number: int(e.Attempt), Step: 1, Trigger: webhook.TriggerRecover,
			Delay: delay, RecoveryID: r.ID,
		})
		if len(rows.EventIds) == quota { // the next step goes on from here
			place = db.AdvanceRecoveryParams{ID: r.ID, AfterTime: e.AcceptedAt, AfterID: e.ID, BeginAt: r.BeginAt, Upto: r.Upto}
			break
		}
	}
	place.Found = int32(len(rows.EventIds))
	return q.advance(ctx, r, place, rows)
}

// advance commits a page's plans with how far the recovery has come by them, unless it was ended or another has come further.
func (q *Queue) advance(ctx context.Context, r db.Recovery, place db.AdvanceRecoveryParams, rows db.EnqueueParams) (planned int, err error) {
	queries := db.New()
	err = db.WithTx(ctx, q.Pool, func(tx pgx.Tx) error {
		if err := queries.LockWebhooks(ctx, tx, db.LockWebhooksParams{Shared: []uuid.UUID{r.WebhookID}}); err != nil {
			return err
		}
		_, err := queries.LockRecovery(ctx, tx, db.LockRecoveryParams{ID: r.ID, Upto: r.Upto, AfterTime: r.AfterTime, AfterID: r.AfterID})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if planned = len(rows.EventIds); planned > 0 {
			if _, err := queries.Enqueue(ctx, tx, rows); err != nil {
				return err
			}
		}
		return queries.AdvanceRecovery(ctx, tx, place)
	})
	return planned, err
}

// mostLooked is how many events Missed looks through.
const mostLooked = 5000

// Missed is what a recovery of a span would deliver, as far as it was counted.
type Missed struct {
	Count int
	// More: the span has more events than were looked through, up to Until, and Count is the least.
	More  bool
	Until time.Time
	// Events are the first ones, oldest first.
	Events []db.ListMissedRow
}

// Missed counts what a recovery of the span would find, and lists the first of it. It looks through 5,000 events of the span at
// most, whosesoever they are.
func (r *Reader) Missed(ctx context.Context, s Span, most int) (Missed, error) {
	return r.missed(ctx, s, most, mostLooked)
}

// missed is Missed for another number of events to look through.
func (r *Reader) missed(ctx context.Context, s Span, most, looked int) (Missed, error) {
	rows, err := db.New().ListMissed(ctx, r.Pool, db.ListMissedParams{
		WebhookID: s.WebhookID, EventType: s.EventType, Error: s.Error, StatusClass: int32(s.Status),
		AfterTime: s.Since, Upto: s.Until, MostRead: int32(looked),
	})
	if err != nil {
		return Missed{}, err
	}
	filter, err := filterOf(ctx, r.Pool, s.WebhookID)
	if err != nil {
		return Missed{}, err
	}
	judged, err := leaveOut(ctx, r.Pool, filter, rows, mostJudged)
	m := Missed{Until: s.Until}
	for i, e := range rows {
		if int(e.N) == looked || i+1 == judged && judged < len(rows) {
			m.More, m.Until = true, e.AcceptedAt
		}
		if i >= judged {
			break
		}
		if !e.Missed {
			continue
		}
		if m.Count++; m.Count <= most {
			m.Events = append(m.Events, e)
		}
	}
	return m, err
}
