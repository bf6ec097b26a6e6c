package history

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// TestAQueueBesideADump: while a long transaction keeps what was sent in the index, neither a look at the queue nor what accepts an
// event for it steps over all of that each time, and nothing is overlooked for long.
func TestAQueueBesideADump(t *testing.T) { //nolint:paralleltest // it measures time
	pool := dbtest.New(t)
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true WHERE id = $1", id)
	dump, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer dump.Rollback(t.Context()) //nolint:errcheck // it only reads
	_, err = dump.Exec(t.Context(), "SELECT count(*) FROM queue")
	require.NoError(t, err)
	execute(t, pool, `INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
		SELECT $1, 'sent' || n, 1, 1, 'event', now() - interval '1 hour' * (1 - n / 400001.0) FROM generate_series(1, 400000) n`, id)
	execute(t, pool, "DELETE FROM queue")
	execute(t, pool, "ANALYZE queue")
	addRow(t, pool, id, "new", webhook.TriggerEvent, 0)
	quickest := func(times int, f func() error) time.Duration {
		quickest := time.Hour
		for range times {
			began := time.Now()
			require.NoError(t, f())
			quickest = min(quickest, time.Since(began))
		}
		return quickest
	}
	q := NewQueue(pool, nil)
	look := func() error {
		s, err := q.Look(t.Context(), id, 1)
		require.Equal(t, "new", s.Due[0].EventID)
		return err
	}
	all := quickest(slowLooks, look)
	require.Greater(t, all, slowLook)
	require.Less(t, quickest(10, look), all/4)
	require.Less(t, quickest(5, func() error {
		_, err := db.New().Unwoken(t.Context(), pool, db.UnwokenParams{WebhookIds: []uuid.UUID{id}, Seqs: []int64{400001}, DueAts: []time.Time{time.Now()}})
		return err
	}), all/4)
	require.Less(t, quickest(5, func() error {
		_, err := pool.Exec(t.Context(), "SELECT lock_order(ARRAY[$1::uuid])", id)
		return err
	}), all/4)

	execute(t, pool, "DELETE FROM queue")
	for range 2 * slowLooks {
		s, err := q.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Empty(t, s.Due)
	}
	addRow(t, pool, id, "older", webhook.TriggerEvent, -30*time.Minute)
	s, err := q.Look(t.Context(), id, 1)
	require.NoError(t, err)
	require.NotZero(t, s.Waiting, "its workflow does not end before it has looked at all")
	require.LessOrEqual(t, s.NextIn, longestHead)
	require.Eventually(t, func() bool {
		s, err := q.Look(t.Context(), id, 1)
		return err == nil && len(s.Due) > 0
	}, time.Minute, 50*time.Millisecond)
}
