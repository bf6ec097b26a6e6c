// Package history is what the product keeps of deliveries: it records attempts and counts failures, plans the next
// attempts in the queues of webhooks, recovers what a webhook missed, and removes what is expired.
package history

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
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
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// recorderFlushers is how many transactions record at once: while one waits for its commit, others go on.
	recorderFlushers = 4
	// recorderBatch bounds one transaction: at 4 KiB of response each, 2 MiB.
	recorderBatch = 500
)

// errRecorderClosed: the process is stopping. Nothing was recorded; whoever waits tries again elsewhere.
var errRecorderClosed = errors.New("recorder is closed")

// Recorder writes finished attempts to the history, the webhooks' failure counts, and the plan of the next attempt, all in
// one transaction, and gathers what many goroutines have finished into one. Safe for concurrent use, also by several
// processes on one database.
type Recorder struct {
	pool    *pgxpool.Pool
	queries *db.Queries
	log     *slog.Logger
	metrics recorderMetrics
	wake    func(Webhook)

	mu      sync.Mutex
	pending []*recording // guarded by mu, as closed
	closed  bool
	work    chan struct{}
	noticed chan struct{} // holds one when notices were written since it was last read

	ctx    context.Context // ends when Close has waited long enough
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// recording is an attempt to be recorded, or an attempt to be planned.
type recording struct {
	attempt Attempt
	plan    *Plan // not nil: nothing was attempted

	after Recorded
	err   error
	done  chan struct{}
}

// Plan is an attempt to be made by the webhook's queue.
type Plan struct {
	WebhookID uuid.UUID
	EventID   string
	Number    int // of the attempt
	Step      int // see Attempt
	Trigger   webhook.Trigger
	// Delay is when it is due: 0 at once, in the order in which events were accepted; below 0 before all else.
	Delay      time.Duration
	RecoveryID uuid.UUID
}

// Recorded is how things stand after an attempt was recorded or planned.
type Recorded struct {
	// Gone: the webhook was deleted, so that nothing was recorded.
	Gone bool
	// Active is false once the webhook is disabled, be it by this attempt. What was to be planned is not.
	Active bool
	// Suspended: the webhook's bot is, so that nothing is planned.
	Suspended bool
	// FailureCount is how far the run of failures counts.
	FailureCount int
	// Planned: there is a next attempt.
	Planned bool
}

// NewRecorder starts a recorder; Close stops it. wake is called when a webhook's queue has got something to do, and must
// not block. A nil meter measures nothing.
func NewRecorder(pool *pgxpool.Pool, log *slog.Logger, meter metric.Meter, wake func(Webhook)) *Recorder {
	r := &Recorder{
		pool: pool, queries: db.New(), log: log, wake: wake,
		work: make(chan struct{}, recorderFlushers), noticed: make(chan struct{}, 1),
	}
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
	return r.add(ctx, &recording{attempt: a})
}

// Enqueue plans an attempt and returns once that is committed. A pair of event and webhook that has a plan keeps it, or
// gets the earlier time.
func (r *Recorder) Enqueue(ctx context.Context, p Plan) (Recorded, error) {
	return r.add(ctx, &recording{plan: &p})
}

func (r *Recorder) add(ctx context.Context, rec *recording) (Recorded, error) {
	rec.done = make(chan struct{})
	if !r.append(rec) {
		return Recorded{}, errRecorderClosed
	}
	r.nudge()
	select {
	case <-rec.done:
		return rec.after, rec.err
	case <-ctx.Done():
		return Recorded{}, ctx.Err()
	}
}

func (r *Recorder) append(rec *recording) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.pending = append(r.pending, rec)
	}
	return !r.closed
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
	case r.work <- struct{}{}:
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
		<-r.work
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

// flush commits the batch, however long the database is away, and tells those who wait for it.
func (r *Recorder) flush(batch []*recording) {
	began, size := time.Now(), len(batch)
	for backoff := 20 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		var err error
		batch, err = r.write(batch)
		switch {
		case err == nil:
			r.metrics.size.Record(r.ctx, int64(size))
			r.metrics.duration.Record(r.ctx, time.Since(began).Seconds())
			complete(batch, nil)
			return
		case r.ctx.Err() != nil:
			complete(batch, errRecorderClosed)
			return
		case isRefusal(err) && len(batch) > 1:
			// One row that Postgres will never take must not hold up the others.
			for i := range batch {
				r.flush(batch[i : i+1])
			}
			return
		case isRefusal(err):
			r.log.Error("could not record a delivery", "delivery", batch[0].attempt.DeliveryID, "error", err)
			complete(batch, err)
			return
		}
		r.metrics.errors.Add(r.ctx, 1)
		r.log.Warn("could not record deliveries; retrying", "count", len(batch), "error", err)
		sleep.For(r.ctx, backoff)
	}
}

// write records the batch and returns what has yet to be completed. A panic is an error like any other: what was committed
// before it is known when it is recorded again.
func (r *Recorder) write(batch []*recording) (rest []*recording, err error) {
	pending := batch
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("recording panicked", "panic", p, "stack", string(debug.Stack()))
			rest, err = pending, errors.New("recording panicked")
		}
	}()
	if pending, err = r.successes(batch); err == nil && len(pending) > 0 {
		err = r.rest(pending)
	}
	return pending, err
}

// rest records what is not a plain success, in a transaction, and then says what came of it.
func (r *Recorder) rest(batch []*recording) error {
	var done *batchOutcome
	err := db.WithTx(r.ctx, r.pool, func(tx pgx.Tx) (err error) {
		defer failpoint.Here("before-commit")
		done, err = r.record(r.ctx, tx, batch)
		return err
	})
	if err != nil {
		return err
	}
	failpoint.Here("after-commit")
	r.report(done)
	r.WakeQueues(r.ctx, done.planned, done.planners)
	return nil
}

// WakeQueues wakes the queues that rows, which are committed, were added to, unless something wakes them already. Should
// it fail, the sweep does.
func (r *Recorder) WakeQueues(ctx context.Context, planned db.UnwokenParams, webhooks map[uuid.UUID]Webhook) {
	if len(planned.WebhookIds) == 0 {
		return
	}
	failpoint.Here("before-wake")
	ids, err := r.queries.Unwoken(ctx, r.pool, planned)
	if err != nil {
		ids = planned.WebhookIds
	}
	for _, id := range ids {
		r.wake(webhooks[id])
	}
}

// successes records, in one round trip, the successes of the batch that change nothing about their webhook, and completes
// them. It returns the rest; after an error, that may be the whole batch.
func (r *Recorder) successes(batch []*recording) (rest []*recording, err error) {
	failed := map[uuid.UUID]bool{}
	for _, rec := range batch {
		if rec.plan == nil && !rec.attempt.Success {
			failed[rec.attempt.WebhookID] = true
		}
	}
	var rows db.InsertSuccessesParams
	for _, rec := range batch {
		if a := rec.attempt; rec.plan == nil && !a.Queued && !failed[a.WebhookID] {
			rows.Ids, rows.WebhookIds, rows.EventIds = append(rows.Ids, a.DeliveryID), append(rows.WebhookIds, a.WebhookID), append(rows.EventIds, a.EventID)
			rows.StatusCodes, rows.ResponseBodies = append(rows.StatusCodes, int32(a.StatusCode)), append(rows.ResponseBodies, a.ResponseBody)
			rows.DurationsMs, rows.AttemptedAts = append(rows.DurationsMs, wholeMs(a.Duration)), append(rows.AttemptedAts, a.StartedAt)
			rows.Exchanges = append(rows.Exchanges, a.Exchange)
		}
	}
	if len(rows.Ids) == 0 {
		return batch, nil
	}
	failpoint.Here("before-commit")
	recorded, err := r.queries.RecordSuccesses(r.ctx, r.pool, db.LockWebhooksParams{Shared: rows.WebhookIds}, rows)
	if err != nil {
		return batch, err
	}
	failpoint.Here("after-commit")
	done := make(map[uuid.UUID]bool, len(recorded))
	for _, id := range recorded {
		done[id] = true
	}
	return slices.DeleteFunc(batch, func(rec *recording) bool {
		if rec.plan != nil || !done[rec.attempt.DeliveryID] {
			return false
		}
		rec.after = Recorded{Active: true}
		close(rec.done)
		return true
	}), nil
}

// findPlan says of an attempt that is in the history whether another is planned.
func (s *batchState) findPlan(ctx context.Context, rec *recording) (err error) {
	a := rec.attempt
	if a.Success || !rec.after.Active || rec.after.Suspended { // what is planned is removed with the batch
		return nil
	}
	if _, rec.after.Planned = s.plans[planKey{a.WebhookID, a.EventID}]; !rec.after.Planned {
		_, _, rec.after.Planned, err = plannedAttempt(ctx, s.tx, a.WebhookID, a.EventID)
	}
	return err
}

func complete(batch []*recording, err error) {
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
