package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func lastDay(id uuid.UUID) Span {
	return Span{WebhookID: id, Since: time.Now().Add(-24 * time.Hour), Until: time.Now()}
}

func startRecovery(t testing.TB, q Queue, s Span) db.Recovery {
	t.Helper()
	r, err := q.StartRecovery(t.Context(), s)
	require.NoError(t, err)
	return r
}

func latest(t testing.TB, pool *pgxpool.Pool, id uuid.UUID) db.Recovery {
	t.Helper()
	row, err := db.New().LatestRecovery(t.Context(), pool, id)
	require.NoError(t, err)
	return row.Recovery
}

func recoverPage(t testing.TB, q Queue, id uuid.UUID) RecoveryStep {
	t.Helper()
	step, err := q.RecoverPage(t.Context(), id)
	require.NoError(t, err)
	return step
}

// addEvents adds that many events, named prefix-1 and so on, a second apart, the last one so long ago.
func addEvents(t testing.TB, pool *pgxpool.Pool, prefix, eventType string, n int, age time.Duration) {
	t.Helper()
	execute(t, pool, `INSERT INTO events (id, type, payload, run_id, accepted_at)
		SELECT $1 || '-' || n, $2, '{}', 'run', now() - make_interval(secs => $4::float8 + $3::int - n) FROM generate_series(1, $3::int) n`, prefix, eventType, n, age.Seconds())
}

func TestQueue_StartRecovery(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id, sibling, other := addWebhook(t, pool), addWebhook(t, pool), addWebhookOf(t, pool, "another", "https://example.com")
	var started, refused atomic.Int32
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			var running RecoveryRunningError
			switch _, err := queue.StartRecovery(context.Background(), lastDay(id)); {
			case err == nil:
				started.Add(1)
			case errors.As(err, &running) && running.WebhookID == id:
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, []int32{1, 9}, []int32{started.Load(), refused.Load()}, "one at a time")
	_, err := queue.StartRecovery(t.Context(), lastDay(sibling))
	require.Equal(t, RecoveryRunningError{id}, err, "one at a time for each bot")
	startRecovery(t, queue, lastDay(other))
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	startRecovery(t, queue, lastDay(sibling))
	require.NoError(t, queue.CancelRecovery(t.Context(), sibling))
	require.NoError(t, queue.CancelRecovery(t.Context(), other))

	// What came before the webhook, it did not miss, whatever is asked for.
	addEvents(t, pool, "before", "post.created", 1, time.Hour)
	execute(t, pool, "UPDATE webhooks SET created_at = now() - interval '30 minutes' WHERE id = $1", id)
	addEvents(t, pool, "since", "post.created", 1, time.Minute)
	startRecovery(t, queue, lastDay(id))
	for step := (RecoveryStep{}); step.Found == 0; {
		step, err = queue.RecoverPage(t.Context(), id)
		require.NoError(t, err)
		require.False(t, step.Ended)
	}
	require.Equal(t, 1, count(t, pool, "queue WHERE webhook_id = $1", id))
	require.Equal(t, 1, count(t, pool, "queue WHERE webhook_id = $1 AND event_id LIKE 'since%'", id))
}

// One event that a receiver never takes waits for hours: it keeps no other webhook of the bot from what it missed.
func TestQueue_StartRecovery_BesideOneThatOnlyWaits(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]string{
		"a retry is planned":     "UPDATE queue SET due_at = now() + interval '1 hour' WHERE webhook_id = $1",
		"the webhook rests":      "UPDATE webhooks SET resume_at = now() + interval '1 hour' WHERE id = $1",
		"an operator has paused": "INSERT INTO pauses (scope, value, reason) SELECT 'host', host_of(origin), 'a reason' FROM webhooks WHERE id = $1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			queue := Queue{Pool: pool}
			id, sibling := addWebhook(t, pool), addWebhookAt(t, pool, "https://sibling.example")
			addEvents(t, pool, "missed", "post.created", 1, time.Hour)
			r := startRecovery(t, queue, lastDay(id))
			for !latest(t, pool, id).LookedThrough {
				_, err := queue.StartRecovery(t.Context(), lastDay(sibling))
				require.Equal(t, RecoveryRunningError{id}, err, "it looks through events")
				recoverPage(t, queue, id)
			}
			_, err := queue.StartRecovery(t.Context(), lastDay(sibling))
			require.Equal(t, RecoveryRunningError{id}, err, "it has something to send")

			execute(t, pool, hold, id)
			startRecovery(t, queue, lastDay(sibling))
			_, err = queue.StartRecovery(t.Context(), lastDay(id))
			require.Equal(t, RecoveryRunningError{id}, err, "of a webhook one runs at most")
			require.Equal(t, r.ID, latest(t, pool, id).ID)
			require.Equal(t, RecoveryRunning, latest(t, pool, id).State)
		})
	}
}

func TestQueue_RecoverPage(t *testing.T) {
	t.Parallel()

	t.Run("PlansWhatWasMissed", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		addEvents(t, pool, "missed", "post.created", 3, time.Hour)
		addEvents(t, pool, "other", "mention", 1, time.Hour)
		addEvents(t, pool, "before", "post.created", 1, 25*time.Hour)
		addEvents(t, pool, "planned", "post.created", 1, 2*time.Hour)
		addRow(t, pool, id, "planned-1", webhook.TriggerRetry, time.Hour)
		addEvents(t, pool, "theirs", "post.created", 1, time.Hour)
		addEvents(t, pool, "ours", "post.created", 1, time.Hour)
		execute(t, pool, "UPDATE events SET bot_ids = '{other}' WHERE id = 'theirs-1'")
		execute(t, pool, "UPDATE events SET bot_ids = '{other,bot}' WHERE id = 'ours-1'")
		for event, success := range map[string]bool{"taken": true, "failed": false} {
			addEvents(t, pool, event, "post.created", 1, time.Hour)
			a := outcome(id, success)
			record(t, r, a.of(t, pool, event+"-1", 1))
		}
		recovery := startRecovery(t, queue, lastDay(id))
		step := recoverPage(t, queue, id)
		require.Equal(t, RecoveryStep{State: RecoveryRunning, Found: 5, Remaining: 5, Planned: true}, step)
		planned := map[string]int{}
		for _, row := range queueOf(t, pool, id) {
			if row.EventID != "planned-1" {
				require.Equal(t, []any{"recover", 1}, []any{row.Trigger, row.Step})
				planned[row.EventID] = row.Attempt
			}
		}
		require.Equal(t, map[string]int{"missed-1": 1, "missed-2": 1, "missed-3": 1, "ours-1": 1, "failed-1": 2}, planned)
		require.Equal(t, 5, count(t, pool, "queue WHERE recovery_id = $1", recovery.ID))

		// Once all of them were attempted it is complete.
		require.Equal(t, RecoveryStep{State: RecoveryRunning, Found: 5, Remaining: 5, Wait: time.Second}, recoverPage(t, queue, id))
		for i, row := range queueOf(t, pool, id) {
			if row.EventID == "planned-1" {
				continue
			}
			a := prepared(t, pool, id, i > 0)
			a.Trigger, a.Queued, a.RecoveryID = webhook.TriggerRecover, true, recovery.ID
			record(t, r, a.of(t, pool, row.EventID, row.Attempt))
		}
		want := RecoveryStep{Ended: true, State: RecoveryCompleted, Found: 5, Delivered: 4, Failed: 1, LastError: "HTTP 500"}
		require.Equal(t, want, recoverPage(t, queue, id))
		require.Equal(t, want, recoverPage(t, queue, id), "again after a crash")
		require.NotNil(t, latest(t, pool, id).EndedAt)
	})

	t.Run("WhatMayBeInFlightComesLater", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		r, _ := newTestRecorder(t, pool)
		execute(t, pool, "UPDATE webhooks SET disabled_at = now() - interval '20 seconds', enabled_at = now() - interval '10 seconds' WHERE id = $1", id)
		addEvent(t, pool, "new", 0)
		addEvent(t, pool, "late", time.Minute) // as of a large audience behind others
		addEvent(t, pool, "missed", 15*time.Second)
		addEvent(t, pool, "old", time.Hour)
		addEvent(t, pool, "failed", 0)
		record(t, r, outcome(id, false).of(t, pool, "failed", 1))
		startRecovery(t, queue, lastDay(id))
		began := time.Now()
		for !latest(t, pool, id).LookedThrough {
			recoverPage(t, queue, id)
		}
		planned := time.Now()
		for event, due := range map[string]time.Duration{"new": directTime, "late": directTime, "missed": 0, "old": 0, "failed": 0} {
			_, at, is, err := queue.Planned(t.Context(), id, event)
			require.NoError(t, err)
			require.True(t, is)
			require.WithinRange(t, at, began.Add(due-3*time.Second), planned.Add(due+3*time.Second), event)
		}
	})

	t.Run("APageIsBounded", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		const events = 2*missedPage + 500
		addEvents(t, pool, "e", "mention", events, time.Minute) // to which it is not subscribed
		recovery := startRecovery(t, queue, lastDay(id))
		var reached []string
		for !latest(t, pool, id).LookedThrough {
			planned, more, _, err := queue.recoverPage(t.Context(), id)
			require.NoError(t, err)
			require.Zero(t, planned)
			require.True(t, more)
			reached = append(reached, latest(t, pool, id).AfterID)
			require.LessOrEqual(t, len(reached), 10)
		}
		require.Equal(t, []string{fmt.Sprintf("e-%d", missedPage), fmt.Sprintf("e-%d", 2*missedPage), ""}, reached)
		require.Equal(t, recovery.Since, latest(t, pool, id).AfterTime)
		require.Equal(t, RecoveryStep{Ended: true, State: RecoveryCompleted}, recoverPage(t, queue, id))
	})

	t.Run("BeginsWithWhatCameSinceItWasDisabled", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET disabled_at = now() - interval '2 hours' WHERE id = $1", id)
		addEvents(t, pool, "failed", "post.created", 4, 3*time.Hour) // before
		addEvents(t, pool, "missed", "post.created", 4, time.Hour)
		startRecovery(t, queue, lastDay(id))
		require.True(t, recoverPage(t, queue, id).Planned)
		want := []string{"missed-1", "missed-2", "missed-3", "missed-4"}
		require.Equal(t, want, eventsOf(queueOf(t, pool, id)))
		require.False(t, latest(t, pool, id).LookedThrough)
		require.True(t, recoverPage(t, queue, id).Planned)
		require.True(t, latest(t, pool, id).LookedThrough)
		require.Equal(t, append(want, "failed-1", "failed-2", "failed-3", "failed-4"), eventsOf(queueOf(t, pool, id)))
	})

	t.Run("PlansTenASecond", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET disabled_at = now() - interval '10 hours' WHERE id = $1", id)
		addEvents(t, pool, "first", "post.created", 395, time.Hour)
		addEvents(t, pool, "second", "post.created", 500, 11*time.Hour)
		startRecovery(t, queue, lastDay(id))
		require.Equal(t, 395, recoverPage(t, queue, id).Remaining)
		require.Equal(t, 895, recoverPage(t, queue, id).Remaining)
		rows := queueOf(t, pool, id)
		require.True(t, slices.IsSortedFunc(rows, func(a, b queueRow) int { return int(a.DueIn - b.DueIn) }))
		for i, row := range rows {
			require.InDelta(t, i/RecoveryRate, row.DueIn-rows[0].DueIn, 2, "row %d", i)
		}
		for from := 0; from+RecoveryRate < len(rows); from++ { // no second has more, also where two pages meet
			if from+2*RecoveryRate < len(rows) {
				require.Greater(t, rows[from+2*RecoveryRate].DueIn-rows[from].DueIn, 0.5)
			}
		}

		// It goes no further than a minute ahead, so that the webhook's queue stays short.
		execute(t, pool, "UPDATE recoveries SET looked_through = false")
		step := recoverPage(t, queue, id)
		require.False(t, step.Planned)
		require.InDelta(t, 895/RecoveryRate-30, step.Wait.Seconds(), 15)
		require.Equal(t, 895, step.Remaining)
	})

	t.Run("TwoAtOncePlanEachOnce", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		addEvents(t, pool, "e", "post.created", 50, time.Hour)
		r := startRecovery(t, queue, lastDay(id))
		var planned atomic.Int32
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				n, err := queue.planMissed(context.Background(), db.LatestRecoveryRow{Recovery: r, Now: time.Now()}, 0)
				if err != nil {
					t.Error(err)
				}
				planned.Add(int32(n))
			})
		}
		all.Wait()
		require.Equal(t, int32(50), planned.Load())
		require.Equal(t, int32(50), latest(t, pool, id).Found)
		require.Len(t, queueOf(t, pool, id), 50)
	})

	t.Run("StopsWhenTheWebhookIsDisabled", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		addEvents(t, pool, "e", "post.created", 3, time.Hour)
		before := startRecovery(t, queue, lastDay(id))
		require.True(t, recoverPage(t, queue, id).Planned)
		for range webhook.MaxFailures {
			record(t, r, prepared(t, pool, id, false))
		}
		require.Empty(t, queueOf(t, pool, id))
		require.Equal(t, RecoveryStep{Ended: true, State: RecoveryStopped, Found: 3, Remaining: 3, LastError: "webhook disabled"}, recoverPage(t, queue, id))
		n, err := queue.planMissed(t.Context(), db.LatestRecoveryRow{Recovery: before, Now: time.Now()}, 0) // by one who read it while it ran
		require.NoError(t, err)
		require.Zero(t, n)
		require.Empty(t, queueOf(t, pool, id))
	})

	t.Run("EndsWithTheWebhook", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue := Queue{Pool: pool}
		id := addWebhook(t, pool)
		startRecovery(t, queue, lastDay(id))
		execute(t, pool, "DELETE FROM webhooks")
		require.Equal(t, RecoveryStep{Ended: true, State: RecoveryStopped, LastError: "webhook deleted"}, recoverPage(t, queue, id))
	})
}

func TestQueue_CancelRecovery(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	require.Error(t, queue.CancelRecovery(t.Context(), id), "there was none")
	addEvents(t, pool, "e", "post.created", 3, time.Hour)
	addRow(t, pool, id, "a retry", webhook.TriggerRetry, time.Hour)
	r := startRecovery(t, queue, lastDay(id))
	recoverPage(t, queue, id)
	require.Len(t, queueOf(t, pool, id), 4)
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	require.Equal(t, []string{"a retry"}, eventsOf(queueOf(t, pool, id)), "nothing else of the webhook goes")
	require.Equal(t, RecoveryStep{Ended: true, State: RecoveryCancelled, Found: 3, Remaining: 3}, recoverPage(t, queue, id))
	ended := *latest(t, pool, id).EndedAt
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	require.Equal(t, ended, *latest(t, pool, id).EndedAt)
	n, err := queue.planMissed(t.Context(), db.LatestRecoveryRow{Recovery: r, Now: time.Now()}, 0)
	require.NoError(t, err)
	require.Zero(t, n)
}

// TestQueue_StartRecovery_BesideADisabling: whichever comes first, no recovery runs at a webhook that is disabled.
func TestQueue_StartRecovery_BesideADisabling(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	refused := 0
	for range 20 {
		id := addWebhookOf(t, pool, uuid.NewString(), "https://example.com")
		var all sync.WaitGroup
		all.Go(func() {
			assert.NoError(t, db.WithTx(t.Context(), pool, func(tx pgx.Tx) error {
				if err := db.LockWebhook(t.Context(), tx, id); err != nil {
					return err
				}
				if _, err := tx.Exec(t.Context(), "UPDATE webhooks SET is_active = false WHERE id = $1", id); err != nil {
					return err
				}
				return StopWebhooks(t.Context(), tx, []uuid.UUID{id})
			}))
		})
		all.Go(func() {
			if _, err := queue.StartRecovery(t.Context(), lastDay(id)); err != nil {
				assert.ErrorIs(t, err, ErrNotServed)
				refused++
			}
		})
		all.Wait()
		var running int
		scan(t, pool, "SELECT count(*) FROM recoveries WHERE webhook_id = $1 AND state = 'running'", []any{id}, &running)
		require.Zero(t, running)
	}
	id := addWebhookOf(t, pool, "suspended", "https://example.com")
	execute(t, pool, "UPDATE webhooks SET suspended = true WHERE id = $1", id)
	_, err := queue.StartRecovery(t.Context(), lastDay(id))
	require.ErrorIs(t, err, ErrNotServed)
	t.Log(refused, "of 20 came after the disabling")
}
