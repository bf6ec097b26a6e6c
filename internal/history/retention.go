package history

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// removalPage is how many events are looked at, and removed, in one statement.
	removalPage = 100
	// removalRows is how many deliveries one statement removes: some milliseconds of work, in a transaction of its own.
	removalRows = 1000
	// removalStint is about how long one RemoveExpired goes on, so that its workflow records how far it has come.
	removalStint = 2 * time.Second
	// removalRest is the least rest after a statement; it rests as long as the statement took, so that it uses half of one
	// connection.
	removalRest = 5 * time.Millisecond
)

// Remover removes what is expired.
type Remover struct {
	Pool *pgxpool.Pool
	// Schedule is the retry schedule: what it may still attempt is never removed.
	Schedule webhook.Schedule
}

// RetentionError is the type of the error with which a removal is refused that would remove what is needed.
const RetentionError = "Retention"

// Expired is a place among the events, in the order of their acceptance.
type Expired struct {
	AcceptedAt time.Time `json:"acceptedAt"`
	EventID    string    `json:"eventId"`
}

// RemovalInput asks to remove what was accepted, and last delivered, before a time, from after a place on.
type RemovalInput struct {
	Before time.Time `json:"before"`
	After  Expired   `json:"after"`
}

// Removal is how far a removal has come, and what it has removed.
type Removal struct {
	After      Expired `json:"after"`
	Events     int     `json:"events"`
	Deliveries int     `json:"deliveries"`
	Done       bool    `json:"done,omitempty"`
}

// RemoveExpired removes events with all their deliveries, oldest first, for about two seconds. An event is kept while any
// of its deliveries is: the history shows what was sent. It takes no lock that a delivery needs, waits for none, and
// leaves for the next time what others are removing. A time so late that events would go which are still attempted, as
// one given by hand may be, is refused for good.
func (r *Remover) RemoveExpired(ctx context.Context, in RemovalInput) (Removal, error) {
	if longest := r.Schedule.Longest(); time.Since(in.Before) < longest {
		message := fmt.Sprintf("events accepted before %s may still be attempted: the retry schedule takes up to %v", webhook.FormatTime(in.Before), longest)
		return Removal{}, temporal.NewNonRetryableApplicationError(message, RetentionError, nil)
	}
	q, done := db.New(), Removal{After: in.After}
	for until := time.Now().Add(removalStint); time.Now().Before(until); {
		page, err := q.ListExpired(ctx, r.Pool, db.ListExpiredParams{
			Before: in.Before, AfterTime: done.After.AcceptedAt, AfterID: done.After.EventID, PageSize: removalPage,
		})
		if err != nil {
			return done, fmt.Errorf("look for events over age: %w", err)
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
			done.Done = true
			return done, nil
		}
		last := page[len(page)-1]
		done.After = Expired{AcceptedAt: last.AcceptedAt, EventID: last.ID}
	}
	return done, nil
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
		time.Sleep(max(removalRest, time.Since(began)))
	}
	if err := q.RemoveQueuedOf(ctx, r.Pool, ids); err != nil {
		return false, fmt.Errorf("remove what is planned of expired events: %w", err)
	}
	events, err := q.RemoveEvents(ctx, r.Pool, ids)
	if err != nil {
		return false, fmt.Errorf("remove expired events: %w", err)
	}
	done.Events += int(events)
	return true, nil
}
