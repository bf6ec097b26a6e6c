package ops

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/mathub/webhooks/db"
)

// queuesTimeout bounds the reading of all queues.
const queuesTimeout = 10 * time.Second

// queueList is what was read of all queues last. However many operators look, one reads at a time.
type queueList struct {
	reads singleflight.Group
	last  atomic.Pointer[queuesRead]
}

type queuesRead struct {
	at   time.Time
	rows []queueRead // read by many: nobody changes them
}

// queueRead is how a queue stands. Waiting is counted to a bound, which is lower where there are many queues.
type queueRead struct {
	webhookID   uuid.UUID
	oldestDueAt time.Time
	waiting     int64
}

// read returns all queues, as they were `keep` ago at the earliest.
func (l *queueList) read(ctx context.Context, pool *pgxpool.Pool, keep time.Duration) ([]queueRead, error) {
	if last := l.last.Load(); last != nil && time.Since(last.at) < keep {
		return last.rows, nil
	}
	reading := l.reads.DoChan("", func() (any, error) {
		// Others wait for it, even if who began it does no longer.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), queuesTimeout)
		defer cancel()
		now := &queuesRead{at: time.Now()}
		var err error
		if now.rows, err = readQueues(ctx, pool); err == nil {
			l.last.Store(now)
		}
		return now.rows, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-reading:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.([]queueRead), nil
	}
}

func readQueues(ctx context.Context, pool *pgxpool.Pool) ([]queueRead, error) {
	found, err := db.New().Queues(ctx, pool, mostRead)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	ids, rows := make([]uuid.UUID, len(found)), make([]queueRead, len(found))
	for i, q := range found {
		ids[i], rows[i] = q.WebhookID, queueRead{webhookID: q.WebhookID, oldestDueAt: q.OldestDueAt}
	}
	counts, err := db.New().CountQueues(ctx, pool, db.CountQueuesParams{Ids: ids, MostCounted: int64(mostCountedInAll / len(ids))})
	for i, n := range counts {
		rows[i].waiting = n
	}
	return rows, err
}
