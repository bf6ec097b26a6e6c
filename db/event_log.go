package db

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/webhook"
)

const (
	// numberedAtOnce is how many events get their positions in one transaction: some tens of milliseconds.
	numberedAtOnce = 2000

	// readAtOnce is how many positions one query goes through for the events that concern a bot, and readQueries how
	// many such queries one page may take: a page costs the same whatever lies between a bot's events.
	readAtOnce  = 5000
	readQueries = 10

	// filteredAtOnce is how many events one query reads for a filter, and filteredQueries how many such queries a page may take.
	filteredAtOnce  = 1000
	filteredQueries = 4

	// pageBytes bounds a page's events, unless a single one is larger: with what is around them they have a MiB.
	pageBytes = 1<<20 - 256

	// lookedEver is how often any event without a position is looked for; in between, one of the last minute. While a
	// long transaction, such as a backup's, keeps Postgres from forgetting what had no position, each look steps over all
	// that got one since.
	lookedEver = 10 * time.Second
)

// EventReader reads the events in the order of their positions: a fixed order, into which nothing is ever inserted before
// what has been read.
//
// An event does not get its position when it is inserted: transactions may commit in another order, and a reader could skip
// one. The next poll gives positions to committed events. One transaction at a time does so, in all processes, and holds a
// lock until the positions are visible. So nothing waits for open transactions, accepting an event costs nothing extra, and
// without polls nothing is done. Positions are data: a dump keeps them.
type EventReader struct {
	pool    *pgxpool.Pool
	queries *Queries
	turn    chan struct{} // whoever gives positions: one connection of this process at most waits for the lock

	mu       sync.Mutex
	complete time.Time // when no event at all was without a position
}

// NewEventReader returns a reader of the events in pool's database.
func NewEventReader(pool *pgxpool.Pool) *EventReader {
	return &EventReader{pool: pool, queries: New(), turn: make(chan struct{}, 1)}
}

// LogState says how far a log goes.
type LogState struct {
	// Removed is the greatest position that is no longer kept: reading begins after it.
	Removed int64
	// Last is the last position. Every event up to it can be read.
	Last int64
	// Behind: there are events that have no position yet.
	Behind bool
}

// State gives positions to the events that have none, for patience at most beyond the first some thousand, and says how
// far the log goes.
func (l *EventReader) State(ctx context.Context, patience time.Duration) (LogState, error) {
	began := time.Now()
	ever := began.Sub(l.completeAt()) >= lookedEver
	row, err := l.queries.EventLogState(ctx, l.pool, ever)
	if err == nil && row.Unnumbered {
		row, err = l.number(ctx, ever, began.Add(patience))
	}
	if err != nil {
		return LogState{}, fmt.Errorf("read the log of events: %w", err)
	}
	if ever && !row.Unnumbered {
		l.mu.Lock()
		l.complete = began
		l.mu.Unlock()
	}
	return LogState{Removed: row.Removed, Last: row.Last, Behind: row.Unnumbered}, nil
}

func (l *EventReader) completeAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.complete
}

func (l *EventReader) number(ctx context.Context, ever bool, until time.Time) (EventLogStateRow, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return EventLogStateRow{}, ctx.Err()
	}
	for {
		// Whoever had the turn before may have left nothing to do.
		row, err := l.queries.EventLogState(ctx, l.pool, ever)
		if err != nil || !row.Unnumbered {
			return row, err
		}
		if err := l.queries.numberNext(ctx, l.pool, NumberEventsParams{Ever: ever, Most: numberedAtOnce}); err != nil {
			return row, err
		}
		if time.Now().After(until) {
			return l.queries.EventLogState(ctx, l.pool, ever)
		}
	}
}

// numberNext is LockEventLog and NumberEvents in one transaction and one round trip. They are two statements, as the
// second must see what was committed while the first waited.
func (q *Queries) numberNext(ctx context.Context, pool *pgxpool.Pool, arg NumberEventsParams) error {
	b := new(pgx.Batch)
	b.Queue(lockEventLog)
	b.Queue(numberEvents, arg.Ever, arg.Most)
	return pool.SendBatch(ctx, b).Close()
}

// MarkLength is how many digits a mark has.
const MarkLength = 6

// Mark tells the event at a position from another that gets it in a restored database; "" where no event has the position.
func (l *EventReader) Mark(ctx context.Context, position int64) (string, error) {
	mark, err := l.queries.MarkOf(ctx, l.pool, position)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the log of events: %w", err)
	}
	return mark, nil
}

// LogQuery asks for a bot's events.
type LogQuery struct {
	BotID string
	// Types are the event types asked for; nil: all.
	Types []string
	// Filter says which of them are wanted; empty: all.
	Filter webhook.Filter
	// After is the position read up to.
	After int64
	// Limit is how many events a page may have.
	Limit int
}

// LogPage is what follows a position.
type LogPage struct {
	Events []ReadEventsRow
	// Upto is the position that the page goes up to: nothing between the query's After and it concerns the bot but
	// Events.
	Upto int64
	// More: there may be more after it.
	More bool
}

// Page reads the events that concern a bot, up to what state says is there. It ends early after some tens of thousands of
// events that do not concern the bot, and after a MiB of payloads.
func (l *EventReader) Page(ctx context.Context, state LogState, q LogQuery) (LogPage, error) {
	if len(q.Filter) > 0 {
		return l.filteredPage(ctx, state, q)
	}
	page := LogPage{Upto: q.After}
	for range readQueries {
		upto := min(page.Upto+readAtOnce, state.Last)
		rows, err := l.queries.ReadEvents(ctx, l.pool, ReadEventsParams{
			After: page.Upto, Upto: upto, BotID: q.BotID, Types: q.Types, Most: int32(q.Limit + 1), Bytes: pageBytes,
		})
		if err != nil {
			return LogPage{}, fmt.Errorf("read events: %w", err)
		}
		if len(rows) > 0 {
			matching := int(rows[0].Matching)
			page.Events = rows[:min(len(rows), q.Limit)]
			if len(page.Events) < matching { // there are more before upto
				page.Upto = page.Events[len(page.Events)-1].Position
				page.More = true
				return page, nil
			}
		}
		page.Upto = upto
		if len(page.Events) > 0 || upto >= state.Last {
			break
		}
	}
	page.More = page.Upto < state.Last || state.Behind
	return page, nil
}

// filteredPage is Page with a filter, which has to read what events say: some MiB at most.
func (l *EventReader) filteredPage(ctx context.Context, state LogState, q LogQuery) (LogPage, error) {
	page := LogPage{Upto: q.After}
	bytes := 0
	for range filteredQueries {
		upto := min(page.Upto+readAtOnce, state.Last)
		rows, err := l.queries.ReadEvents(ctx, l.pool, ReadEventsParams{
			After: page.Upto, Upto: upto, BotID: q.BotID, Types: q.Types, Most: filteredAtOnce, Bytes: pageBytes,
		})
		if err != nil {
			return LogPage{}, fmt.Errorf("read events: %w", err)
		}
		for _, e := range rows {
			if q.Filter.Match(webhook.FieldsOf(e.Payload)) {
				size := len(e.Payload) + len(e.ID) + len(`{"id":"",},`)
				if len(page.Events) == q.Limit || len(page.Events) > 0 && bytes+size > pageBytes {
					page.More = true
					return page, nil
				}
				page.Events, bytes = append(page.Events, e), bytes+size
			}
			page.Upto = e.Position
		}
		if len(rows) == 0 || len(rows) == int(rows[0].Matching) && len(rows) < filteredAtOnce { // no more before upto
			page.Upto = upto
		}
		if page.Upto >= state.Last {
			break
		}
	}
	page.More = page.Upto < state.Last || state.Behind
	return page, nil
}

// Audiences are whom the events of a span of positions concern, at most `most` of them.
func (l *EventReader) Audiences(ctx context.Context, after, upto int64, most int) ([]ReadAudiencesRow, error) {
	rows, err := l.queries.ReadAudiences(ctx, l.pool, ReadAudiencesParams{After: after, Upto: upto, Most: int32(most)})
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return rows, nil
}
