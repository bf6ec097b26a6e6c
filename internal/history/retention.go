package history

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// removalPage is how many events are looked at, and removed, in one statement.
	removalPage = 100
	// removalRows is how many deliveries one statement removes: some milliseconds of work, in a transaction of its own.
	removalRows = 1000
	// removalStint is about how long one RemoveExpired goes on, so that its workflow records how far it has come.
	removalStint = 2 * time.Second
	// removalGrace is how much longer than promised everything is kept: what began before an event was of age has been
	// recorded by then.
	removalGrace = time.Hour
	// removalRest is the least rest after a statement; it rests as long as the statement took, so that it uses half of one
	// connection.
	removalRest = 5 * time.Millisecond
	// dropTries is how often a partition's lock is asked for, dropRest how long after: somebody may be reading for long, and
	// while it is asked for, 50 ms, others wait.
	dropTries, dropRest = 3, 300 * time.Millisecond
)

// Remover removes what is expired.
type Remover struct {
	Pool *pgxpool.Pool
	// Retention is how long everything is kept; 0: for ever.
	Retention webhook.Retention
	// Schedule is the retry schedule: what it may still attempt is never removed.
	Schedule webhook.Schedule
}

// Expired is a place among the events, in the order of their acceptance.
type Expired struct {
	AcceptedAt time.Time `json:"acceptedAt"`
	EventID    string    `json:"eventId"`
}

// Removal is how far a removal has come, and what it has removed. The zero value begins one.
type Removal struct {
	// Before is the time that it goes up to: removed is what was accepted, and last delivered, before. Zero, or later than the
	// retention allows: what that says; of a removal that is done, zero says that all is kept for ever.
	Before time.Time `json:"before,omitzero"`
	// After is the last event that was looked at.
	After  Expired `json:"after,omitzero"`
	Events int     `json:"events"`
	// Deliveries are those that went one by one, Partitions what went with all that was in it.
	Deliveries int  `json:"deliveries"`
	Partitions int  `json:"partitions,omitempty"`
	Done       bool `json:"done,omitempty"`
}

// RemoveExpired goes on with a removal for about two seconds: it removes events, oldest first. What is left of their deliveries nobody sees any more, and
// goes with its partition, once all events of that are expired; what stands in no partition of its own goes with the event. It
// waits for no lock but a moment for that of a partition or of an ordered webhook, and leaves for the next time what others are removing. However it is
// started, it removes nothing that the configured retention keeps, and nothing that may still be attempted, as also what waits
// for the end of a pause.
func (r *Remover) RemoveExpired(ctx context.Context, done Removal) (Removal, error) {
	before, err := r.before(ctx, done.Before)
	if err != nil {
		return Removal{}, err
	}
	q := db.New()
	if done.Before, done.Done = before, before.IsZero(); done.Done {
		return done, nil
	}
	for until := time.Now().Add(removalStint); time.Now().Before(until); {
		keepQueued, err := (&Pauses{Pool: r.Pool}).KeepQueued(ctx)
		if err != nil {
			return done, fmt.Errorf("read the pauses: %w", err)
		}
		page, err := q.ListExpired(ctx, r.Pool, db.ListExpiredParams{
			Before: before, KeepQueued: keepQueued, AfterTime: done.After.AcceptedAt, AfterID: done.After.EventID, PageSize: removalPage,
		})
		if err != nil {
			return done, fmt.Errorf("look for expired events: %w", err)
		}
		var ids []string
		for _, e := range page {
			if !e.IsUsed {
				ids = append(ids, e.ID)
			}
		}
		if complete, err := r.removeEvents(ctx, ids, until, &done); err != nil || !complete {
			return done, err
		}
		if len(page) < removalPage {
			if done.Partitions, err = r.dropPartitions(ctx, before); err != nil {
				return done, fmt.Errorf("drop expired deliveries: %w", err)
			}
			if err := r.removeStats(ctx, before, until); err != nil {
				return done, fmt.Errorf("remove expired statistics: %w", err)
			}
			if err := q.RemoveIncidents(ctx, r.Pool, &before); err != nil {
				return done, fmt.Errorf("remove expired incidents: %w", err)
			}
			done.Done = true
			return done, nil
		}
		last := page[len(page)-1]
		done.After = Expired{AcceptedAt: last.AcceptedAt, EventID: last.ID}
	}
	return done, nil
}

// dropPartitions drops the partitions of which all events were accepted before a time. One that somebody reads for long is left
// for the next time.
func (r *Remover) dropPartitions(ctx context.Context, before time.Time) (dropped int, err error) {
	for tries := 0; tries < dropTries; {
		name, err := db.New().DropPartition(ctx, r.Pool, before)
		switch {
		case db.IsLocked(err):
			tries++
			sleep.For(ctx, dropRest)
		case err != nil || name == "":
			return dropped, err
		default:
			dropped++
		}
	}
	return dropped, nil
}

// MakePartitions makes the partitions that the history will need in the next five days. Where everything is kept for ever, it removes what
// was left half done.
func MakePartitions(ctx context.Context, pool *pgxpool.Pool, kept webhook.Retention) error {
	return describe(db.New().MakePartitions(ctx, pool, kept != 0), "make partitions of the history")
}

// before is the time that a removal may go up to, at most what is asked for; zero: there is nothing to remove.
func (r *Remover) before(ctx context.Context, asked time.Time) (time.Time, error) {
	if r.Retention == 0 {
		return time.Time{}, nil
	}
	now, err := db.ReadClock(ctx, r.Pool)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	latest := db.Earlier(now).UTC().Add(-max(time.Duration(r.Retention)+removalGrace, r.Schedule.Longest()))
	if asked.IsZero() || asked.After(latest) {
		return latest, nil
	}
	return asked, nil
}

// removeEvents removes events with all that is kept of them. complete: it came to that before a time.
func (r *Remover) removeEvents(ctx context.Context, ids []string, until time.Time, done *Removal) (complete bool, err error) {
	if len(ids) == 0 {
		return true, nil
	}
	q := db.New()
	for rows := int64(removalRows); rows == removalRows; {
		began := time.Now()
		if began.After(until) {
			return false, nil
		}
		if rows, err = q.RemoveDeliveriesOf(ctx, r.Pool, db.RemoveDeliveriesOfParams{EventIds: ids, Most: removalRows}); err != nil {
			return false, fmt.Errorf("remove expired deliveries: %w", err)
		}
		done.Deliveries += int(rows)
		rest(began)
	}
	if err := r.removeQueued(ctx, ids); err != nil {
		return false, fmt.Errorf("remove planned attempts of expired events: %w", err)
	}
	events, err := q.RemoveExpiredEvents(ctx, r.Pool, ids)
	if err != nil {
		return false, fmt.Errorf("remove expired events: %w", err)
	}
	done.Events += int(events)
	return true, nil
}

// removeQueued removes what is planned of events. Ordered webhooks do not wait for the retry of a head that is removed.
func (r *Remover) removeQueued(ctx context.Context, ids []string) error {
	q := db.New()
	ordered, err := q.OrderedQueuesOf(ctx, r.Pool, ids)
	if err != nil {
		return err
	}
	for _, id := range ordered {
		err := db.WithTx(ctx, r.Pool, func(tx pgx.Tx) error {
			if err := db.LockWebhook(ctx, tx, id); err != nil {
				return err
			}
			return RemovePlanned(ctx, tx, id, func() error {
				return q.RemoveQueuedAt(ctx, tx, db.RemoveQueuedAtParams{WebhookID: id, EventIds: ids})
			})
		})
		if err != nil {
			return err
		}
	}
	return q.RemoveQueuedOf(ctx, r.Pool, ids)
}
