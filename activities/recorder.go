package activities

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/db"
)

const (
	// recorderFlushers is how many transactions record at once: while one waits for its commit, others go on.
	recorderFlushers = 4
	// recorderBatch bounds one transaction: at 4 KiB of response each, 2 MiB.
	recorderBatch = 500
)

// errRecorderClosed: the process is stopping. Nothing was recorded; whoever waits tries again elsewhere.
var errRecorderClosed = errors.New("recorder is closed")

// Recorder is the failure tracking: it writes finished attempts to the history and the webhooks' counters, both in
// one transaction, and gathers what many goroutines have finished into one. Safe for concurrent use, also by
// several processes on one database.
type Recorder struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	metrics *recorderMetrics

	mu      sync.Mutex
	pending []*recording
	closed  bool
	wake    chan struct{}
	noticed chan struct{} // holds one when notices were written since it was last read

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelFunc
	done   sync.WaitGroup
}

type recording struct {
	attempt Attempt
	after   Recorded
	err     error
	done    chan struct{}
}

// Recorded is how the webhook stands after an attempt was recorded.
type Recorded struct {
	// Gone: the webhook was deleted, so that nothing was recorded.
	Gone bool
	// Active is false once the webhook is disabled, be it by this attempt.
	Active bool
	// FailureCount is the length of the run of failures on top of the history.
	FailureCount int
}

// NewRecorder starts a recorder; Close stops it. A nil meter measures nothing.
func NewRecorder(pool *pgxpool.Pool, log *slog.Logger, meter metric.Meter) *Recorder {
	r := &Recorder{pool: pool, log: log, wake: make(chan struct{}, recorderFlushers), noticed: make(chan struct{}, 1)}
	r.metrics = r.measured(meter)
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for range recorderFlushers {
		r.done.Go(r.flushLoop)
	}
	return r
}

// Record writes a and returns once it is committed: then a crash no longer repeats it. While the database is away it
// waits; when ctx ends first, the recording still goes on. Recording an attempt again, known by its DeliveryID,
// changes nothing. Any other error means that Postgres refused this very row.
func (r *Recorder) Record(ctx context.Context, a Attempt) (Recorded, error) {
	rec := &recording{attempt: a, done: make(chan struct{})}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return Recorded{}, errRecorderClosed
	}
	r.pending = append(r.pending, rec)
	r.mu.Unlock()
	r.nudge()
	select {
	case <-rec.done:
		return rec.after, rec.err
	case <-ctx.Done():
		return Recorded{}, ctx.Err()
	}
}

// Close records what is pending and stops; when ctx ends first, the rest is given up.
func (r *Recorder) Close(ctx context.Context) {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for range recorderFlushers {
		r.nudge()
	}
	stop := context.AfterFunc(ctx, r.cancel)
	defer stop()
	r.done.Wait()
	r.cancel()
}

func (r *Recorder) nudge() {
	select {
	case r.wake <- struct{}{}:
	default: // every flusher has been called already
	}
}

func (r *Recorder) flushLoop() {
	for {
		batch, closed := r.take()
		if len(batch) > 0 {
			r.nudge() // there may be more than one batch holds
			r.flush(batch)
			continue
		}
		if closed {
			return
		}
		<-r.wake
	}
}

func (r *Recorder) take() (batch []*recording, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.pending), recorderBatch)
	batch = r.pending[:n:n]
	r.pending = r.pending[n:]
	if len(r.pending) == 0 {
		r.pending = nil
	}
	return batch, r.closed
}

// flush commits the batch, however long the database is away, and tells who waits for it.
func (r *Recorder) flush(batch []*recording) {
	began, size := time.Now(), len(batch)
	for backoff := 20 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		var err error
		var disabling map[uuid.UUID]Attempt
		var notices int64
		if batch, err = r.successes(batch); err == nil && len(batch) > 0 {
			err = db.WithTx(r.ctx, r.pool, func(tx pgx.Tx) (err error) {
				defer failpoint("before-commit")
				disabling, notices, err = record(r.ctx, tx, batch)
				return err
			})
		}
		switch {
		case err == nil:
			failpoint("after-commit")
			r.metrics.batch(r.ctx, size, time.Since(began))
			r.tell(disabling)
			if notices > 0 {
				failpoint("disabled")
				select {
				case r.noticed <- struct{}{}:
				default: // they will be found with those before
				}
			}
			settle(batch, nil)
			return
		case r.ctx.Err() != nil:
			settle(batch, errRecorderClosed)
			return
		case isRefusal(err) && len(batch) > 1:
			// One row that Postgres will never take must not hold up the others.
			for i := range batch {
				r.flush(batch[i : i+1])
			}
			return
		case isRefusal(err):
			r.log.Error("a delivery cannot be recorded", "delivery", batch[0].attempt.DeliveryID, "error", err)
			settle(batch, err)
			return
		}
		r.metrics.failed(r.ctx)
		r.log.Warn("deliveries wait to be recorded", "count", len(batch), "error", err)
		select {
		case <-time.After(backoff):
		case <-r.ctx.Done():
		}
	}
}

// successes records, in one round trip, the successes of the batch that change nothing about their webhook, and settles
// them. It returns the rest; after an error, that may be the whole batch.
func (r *Recorder) successes(batch []*recording) (rest []*recording, err error) {
	failed := map[uuid.UUID]bool{}
	for _, rec := range batch {
		failed[rec.attempt.WebhookID] = failed[rec.attempt.WebhookID] || !rec.attempt.Success
	}
	var rows db.InsertSuccessesParams
	var locks db.LockWebhooksParams
	for _, rec := range batch {
		if a := rec.attempt; !failed[a.WebhookID] {
			rows.Ids, rows.WebhookIds, rows.EventIds = append(rows.Ids, a.DeliveryID), append(rows.WebhookIds, a.WebhookID), append(rows.EventIds, a.EventID)
			rows.Attempts, rows.Generations = append(rows.Attempts, int32(a.Number)), append(rows.Generations, a.Generation)
			rows.StatusCodes, rows.ResponseBodies = append(rows.StatusCodes, int32(a.StatusCode)), append(rows.ResponseBodies, a.ResponseBody)
			rows.DurationsMs, rows.AttemptedAts = append(rows.DurationsMs, int32(a.Duration.Milliseconds())), append(rows.AttemptedAts, a.StartedAt)
			rows.Slows, rows.Exchanges = append(rows.Slows, a.Duration > slowAnswer), append(rows.Exchanges, a.Exchange)
		}
	}
	if len(rows.Ids) == 0 {
		return batch, nil
	}
	locks.Shared = rows.WebhookIds
	failpoint("before-commit")
	recorded, err := db.New().RecordSuccesses(r.ctx, r.pool, locks, rows)
	if err != nil {
		return batch, err
	}
	failpoint("after-commit")
	done := make(map[uuid.UUID]bool, len(recorded))
	for _, id := range recorded {
		done[id] = true
	}
	return slices.DeleteFunc(batch, func(rec *recording) bool {
		if !done[rec.attempt.DeliveryID] {
			return false
		}
		rec.after = Recorded{Active: true}
		close(rec.done)
		return true
	}), nil
}

func settle(batch []*recording, err error) {
	for _, rec := range batch {
		rec.err = err
		close(rec.done)
	}
}

// isRefusal: the statement itself is at fault (SQLSTATE classes 22, data, and 23, integrity), so that another try
// would end the same.
func isRefusal(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23"))
}

// record writes the batch within tx. It returns the attempts by which webhooks are disabled, by webhook, and the number of
// notices of that which it wrote.
//
// failureCount must be the length of the run of failures on top of the history, in the order of recording (seq), and
// a success on a webhook whose counter is 0 must not touch the webhook's row. So each webhook has an advisory lock,
// which costs no write: a failure takes it exclusively, successes share it. Otherwise a success could read the
// counter as 0 beside a failure that is not yet committed, and stand above it in the history of a webhook whose
// counter is 1. Locks are taken in the order of their keys, rows in the order of their ids: no two recordings wait
// for each other in a circle.
func record(ctx context.Context, tx pgx.Tx, batch []*recording) (disabling map[uuid.UUID]Attempt, notices int64, err error) {
	q := db.New()
	var locks db.LockWebhooksParams
	var slow, quick []uuid.UUID
	all, deliveryIDs := make([]uuid.UUID, 0, len(batch)), make([]uuid.UUID, 0, len(batch))
	for _, rec := range batch {
		a := rec.attempt
		deliveryIDs = append(deliveryIDs, a.DeliveryID)
		all = append(all, a.WebhookID)
		if a.Success {
			locks.Shared = append(locks.Shared, a.WebhookID)
		} else {
			locks.Exclusive = append(locks.Exclusive, a.WebhookID)
		}
		if a.Duration > slowAnswer {
			slow = append(slow, a.WebhookID)
		} else {
			quick = append(quick, a.WebhookID)
		}
	}
	if err := q.LockWebhooks(ctx, tx, locks); err != nil {
		return nil, 0, err
	}
	// Only statements that begin after the locks are held see what was recorded under them before.
	err = q.LockChangingWebhooks(ctx, tx, db.LockChangingWebhooksParams{
		Ids: all, Failed: locks.Exclusive, Slow: slow, Quick: quick,
	})
	if err != nil {
		return nil, 0, err
	}
	standings, err := q.Standings(ctx, tx, all)
	if err != nil {
		return nil, 0, err
	}
	recorded, err := q.ExistingDeliveries(ctx, tx, deliveryIDs)
	if err != nil {
		return nil, 0, err
	}

	before := make(map[uuid.UUID]standing, len(standings))
	for _, w := range standings {
		before[w.ID] = standing{Active: w.IsActive, FailureCount: w.FailureCount, Generation: w.Generation, Slow: w.IsSlow}
	}
	known := make(map[uuid.UUID]bool, len(recorded))
	for _, id := range recorded {
		known[id] = true
	}

	after := maps.Clone(before)
	disabling = map[uuid.UUID]Attempt{}
	var rows db.InsertDeliveriesParams
	for _, rec := range batch {
		a := rec.attempt
		s, exists := after[a.WebhookID]
		if exists && !known[a.DeliveryID] {
			known[a.DeliveryID] = true
			was := s.Active
			s = tally(s, a)
			after[a.WebhookID] = s
			if was && !s.Active {
				disabling[a.WebhookID] = a
			}
			addRow(&rows, a)
		}
		rec.after = Recorded{Gone: !exists, Active: s.Active, FailureCount: int(s.FailureCount)}
	}
	if len(rows.Ids) > 0 {
		if err := q.InsertDeliveries(ctx, tx, rows); err != nil {
			return nil, 0, err
		}
	}

	var updates db.UpdateCountersParams
	for id, s := range after {
		if s == before[id] {
			continue
		}
		updates.Ids = append(updates.Ids, id)
		updates.FailureCounts = append(updates.FailureCounts, s.FailureCount)
		updates.Slows = append(updates.Slows, s.Slow)
		last, disables := disabling[id]
		updates.Disables = append(updates.Disables, disables)
		updates.EventIds, updates.Errors = append(updates.EventIds, last.EventID), append(updates.Errors, last.Error)
	}
	if len(updates.Ids) == 0 {
		return disabling, 0, nil
	}
	notices, err = q.UpdateCounters(ctx, tx, updates)
	return disabling, notices, err
}

func addRow(rows *db.InsertDeliveriesParams, a Attempt) {
	rows.Ids = append(rows.Ids, a.DeliveryID)
	rows.WebhookIds = append(rows.WebhookIds, a.WebhookID)
	rows.EventIds = append(rows.EventIds, a.EventID)
	rows.Attempts = append(rows.Attempts, int32(a.Number))
	rows.Generations = append(rows.Generations, a.Generation)
	rows.Successes = append(rows.Successes, a.Success)
	rows.StatusCodes = append(rows.StatusCodes, int32(a.StatusCode))
	rows.ResponseBodies = append(rows.ResponseBodies, a.ResponseBody)
	rows.Errors = append(rows.Errors, a.Error)
	rows.DurationsMs = append(rows.DurationsMs, int32(a.Duration.Milliseconds()))
	rows.AttemptedAts = append(rows.AttemptedAts, a.StartedAt)
	rows.Exchanges = append(rows.Exchanges, a.Exchange)
}
