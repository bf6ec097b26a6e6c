package history

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func TestQueue_Look(t *testing.T) {
	t.Parallel()

	t.Run("SaysHowTheQueueStands", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		queue := Queue{Pool: pool}
		id := addWebhookAt(t, pool, "https://example.com/secret-path")
		a := outcome(id, false)
		a.Error = "HTTP 503"
		record(t, r, a)
		for i := range 5 {
			addRow(t, pool, id, fmt.Sprint("due-", i), webhook.TriggerEvent, time.Duration(i-10)*time.Second)
			addRow(t, pool, id, fmt.Sprint("later-", i), webhook.TriggerRetry, time.Hour)
		}
		addRow(t, pool, addWebhook(t, pool), "another's", webhook.TriggerEvent, -time.Hour)
		s, err := queue.Look(t.Context(), id, 2)
		require.NoError(t, err)
		require.Greater(t, s.ResumeIn, time.Duration(0))
		require.LessOrEqual(t, s.ResumeIn, firstRests[0]+restSpread)
		s.ResumeIn = 0
		require.Equal(t, QueueState{
			BotID: "bot", Active: true, FailureCount: 1, LastError: "HTTP 503", Waiting: 10,
			Due: []Row{{EventID: "due-0", Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}, {EventID: "due-1", Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}},
		}, s)
		execute(t, pool, "DELETE FROM queue WHERE webhook_id = $1 AND due_at < now()", id)
		s, err = queue.Look(t.Context(), id, 2)
		require.NoError(t, err)
		require.Empty(t, s.Due)
		require.InDelta(t, time.Hour, s.NextIn, float64(10*time.Second))
		record(t, r, prepared(t, pool, id, true))
		s, err = queue.Look(t.Context(), id, 2)
		require.NoError(t, err)
		require.Empty(t, s.LastError, "of no run of failures")
	})

	// What a person asked for goes first also where it was put off, and no rest outlasts the time until it is due.
	t.Run("WhatAPersonAskedForGoesFirst", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		queue, id := Queue{Pool: pool}, addWebhook(t, pool)
		addRow(t, pool, id, "old", webhook.TriggerRetry, -time.Hour)
		addRow(t, pool, id, "asked", webhook.TriggerVerify, time.Minute)
		require.NoError(t, queue.Rest(t.Context(), id, time.Hour))
		s, err := queue.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.InDelta(t, time.Minute, s.ResumeIn, float64(10*time.Second))
		execute(t, pool, "UPDATE queue SET due_at = now() WHERE event_id = 'asked'")
		s, err = queue.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, "asked", s.Due[0].EventID)
		require.InDelta(t, time.Hour, s.ResumeIn, float64(10*time.Second))
	})

	t.Run("CountsAThousandAtMost", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		id := addWebhook(t, pool)
		execute(t, pool, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT $1, 'e' || n, 1, 1, 'event', now() FROM generate_series(1, 2000) n", id)
		s, err := (&Queue{Pool: pool}).Look(t.Context(), id, 32)
		require.NoError(t, err)
		require.Equal(t, MostCounted, s.Waiting)
		require.Len(t, s.Due, 32)
	})

	t.Run("DeletedWebhooksQueueGoes", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		gone := uuid.New()
		addRow(t, pool, gone, "e", webhook.TriggerEvent, 0)
		s, err := (&Queue{Pool: pool}).Look(t.Context(), gone, 1)
		require.NoError(t, err)
		require.Equal(t, QueueState{Gone: true}, s)
		require.Empty(t, queueOf(t, pool, gone))
	})

	for name, c := range map[string]struct {
		set    string
		due    time.Duration // of the row, where there is one
		queued bool
	}{
		"TurnsDirectWithNothingPlanned":  {set: "queued = true"},
		"TurnsDirectWithNothingDue":      {set: "queued = true", due: time.Minute},
		"StaysQueuedWithARowThatIsDue":   {set: "queued = true", due: -time.Second, queued: true},
		"StaysQueuedWithARunOfFailures":  {set: "queued = true, failure_count = 1", queued: true},
		"DisabledTurnsDirectAsAnyOther":  {set: "queued = true, is_active = false"},
		"DirectWithARowDueIsNotTurnedIt": {set: "queued = false", due: -time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			id := addWebhook(t, pool)
			execute(t, pool, "UPDATE webhooks SET "+c.set+" WHERE id = $1", id)
			if c.due != 0 {
				addRow(t, pool, id, "e", webhook.TriggerEvent, c.due)
			}
			_, err := (&Queue{Pool: pool}).Look(t.Context(), id, 1)
			require.NoError(t, err)
			require.Equal(t, c.queued, stateOf(t, pool, id).Queued)
		})
	}

	// Look waits for whoever holds the webhook's lock, and then finds what they have done.
	for name, meanwhile := range map[string]string{
		"WaitsForAPlan":    "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e', 1, 1, 'event', now())",
		"WaitsForAFailure": "UPDATE webhooks SET failure_count = 1, failure_run = 1 WHERE id = $1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			id := addWebhook(t, pool)
			execute(t, pool, "UPDATE webhooks SET queued = true WHERE id = $1", id)
			other := begin(t, pool)
			require.NoError(t, db.New().LockWebhooks(t.Context(), other, db.LockWebhooksParams{Shared: []uuid.UUID{id}}))
			type answer struct {
				s   QueueState
				err error
			}
			looked := make(chan answer, 1)
			go func() {
				s, err := (&Queue{Pool: pool}).Look(context.Background(), id, 1)
				looked <- answer{s, err}
			}()
			waitsForLock(t, pool, 1)
			_, err := other.Exec(t.Context(), meanwhile, id)
			require.NoError(t, err)
			require.Empty(t, looked)
			require.NoError(t, other.Commit(t.Context()))
			got := <-looked
			require.NoError(t, got.err)
			require.True(t, stateOf(t, pool, id).Queued)
			require.True(t, len(got.s.Due) == 1 || got.s.FailureCount == 1, "it is seen: %+v", got.s)
		})
	}

	// What becomes due after the transaction that turns the webhook direct began, and before it holds the lock, counts too.
	t.Run("WhatBecomesDueMeanwhileKeepsItQueued", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET queued = true WHERE id = $1", id)
		tx := begin(t, pool)
		addRow(t, pool, id, "e", webhook.TriggerEvent, 0)
		require.NoError(t, db.LockWebhook(t.Context(), tx, id))
		n, err := db.New().SetDirect(t.Context(), tx, id)
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

func TestQueue_Planned(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	addRow(t, pool, id, "e", webhook.TriggerRetry, time.Minute)
	planned := func() (Row, time.Time, bool) {
		row, at, is, err := queue.Planned(t.Context(), id, "e")
		require.NoError(t, err)
		return row, at, is
	}
	row, at, is := planned()
	require.True(t, is)
	require.Equal(t, Row{EventID: "e", Attempt: 1, Step: 2, Trigger: webhook.TriggerRetry}, row)
	require.WithinDuration(t, time.Now().Add(time.Minute), at, 10*time.Second)
	_, _, is, err := queue.Planned(t.Context(), uuid.New(), "e")
	require.NoError(t, err)
	require.False(t, is)

	require.NoError(t, queue.Postpone(t.Context(), id, row, time.Hour))
	_, at, _ = planned()
	require.WithinDuration(t, time.Now().Add(time.Hour), at, 10*time.Second)
	require.NoError(t, queue.Postpone(t.Context(), id, Row{EventID: "e", Attempt: 2}, time.Second))
	_, again, _ := planned()
	require.Equal(t, at, again, "of another attempt nothing is planned")

	require.NoError(t, queue.Remove(t.Context(), id, Row{EventID: "e", Attempt: 0}))
	_, _, is = planned()
	require.True(t, is, "a later attempt's")
	require.NoError(t, queue.Remove(t.Context(), id, row))
	_, _, is = planned()
	require.False(t, is)
}

func TestQueue_RetryNow(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id, other := addWebhook(t, pool), addWebhook(t, pool)
	for _, w := range []uuid.UUID{id, other} {
		addRow(t, pool, w, "first", webhook.TriggerRetry, time.Minute)
		addRow(t, pool, w, "second", webhook.TriggerRetry, time.Hour)
	}
	execute(t, pool, "UPDATE webhooks SET resume_at = now() + interval '1 minute'")
	n, err := queue.RetryNow(t.Context(), id, "second")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"second", "first"}, eventsOf(queueOf(t, pool, id)))
	require.Equal(t, 1, count(t, pool, "queue WHERE due_at <= now()"))
	require.Zero(t, stateOf(t, pool, id).ResumeIn, "a retry that is asked for does not wait")
	n, err = queue.RetryNow(t.Context(), id, "")
	require.NoError(t, err)
	require.Equal(t, 1, n, "what was asked for before is due already")
	require.Equal(t, 2, count(t, pool, "queue WHERE due_at <= now()"))
	require.NotZero(t, stateOf(t, pool, other).ResumeIn)
}

// TestQueue_Rest: a shorter rest, as for want of an allowance, does not end a longer one, as after a failure.
func TestQueue_Rest(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	for name, c := range map[string]struct {
		resumeAt    string
		least, most time.Duration
	}{
		"none before":    {"NULL", 19 * time.Second, 20 * time.Second},
		"one that ended": {"now() - interval '1 minute'", 19 * time.Second, 20 * time.Second},
		"a shorter one":  {"now() + interval '1 second'", 19 * time.Second, 20 * time.Second},
		"a longer one":   {"now() + interval '30 seconds'", 29 * time.Second, 30 * time.Second},
	} {
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET resume_at = "+c.resumeAt+" WHERE id = $1", id)
		require.NoError(t, queue.Rest(t.Context(), id, 20*time.Second))
		left := stateOf(t, pool, id).ResumeIn
		require.LessOrEqual(t, left, c.most, name)
		require.GreaterOrEqual(t, left, c.least, name)
	}
}

// TestQueue_Overdue_EachStepByItself: what one step of the sweep cannot do keeps none of the others from being done.
func TestQueue_Overdue_EachStepByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lacking string
		change  string
		overdue int
		stalled int
	}{
		"allowances": {"allowances", "ALTER TABLE allowances RENAME TO elsewhere", 1, 1},
		"recoveries": {"recoveries", "ALTER TABLE recoveries RENAME TO elsewhere", 1, 0},
		"queue":      {"due_at", "ALTER TABLE queue RENAME due_at TO elsewhere", 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			id := addWebhook(t, pool)
			addRow(t, pool, id, "e", webhook.TriggerEvent, -overdueAfter-time.Minute)
			queue := Queue{Pool: pool}
			_, err := queue.StartRecovery(t.Context(), Span{WebhookID: id, Since: time.Now(), Until: time.Now()})
			require.NoError(t, err)
			execute(t, pool, "UPDATE recoveries SET updated_at = now() - interval '1 minute'")
			execute(t, pool, c.change)
			overdue, stalled, err := queue.Overdue(t.Context())
			require.ErrorContains(t, err, c.lacking)
			require.Len(t, overdue, c.overdue)
			require.Len(t, stalled, c.stalled)
		})
	}
}

// TestQueue_Overdue_Resting: a resting webhook's queue is not woken but for what a person asked for, whose wake a crash has lost.
func TestQueue_Overdue_Resting(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	rests, asked, later := addWebhook(t, pool), addWebhook(t, pool), addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true, resume_at = now() + interval '10 hours'")
	for _, id := range []uuid.UUID{rests, asked, later} {
		addRow(t, pool, id, "head", webhook.TriggerRetry, -time.Minute)
	}
	addRow(t, pool, asked, "test", webhook.TriggerTest, -time.Minute)
	addRow(t, pool, later, "test", webhook.TriggerTest, time.Minute)
	overdue, _, err := queue.Overdue(t.Context())
	require.NoError(t, err)
	require.Len(t, overdue, 1)
	require.Equal(t, asked, overdue[0].WebhookID)
}

func TestQueue_Overdue(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	id, ahead, fresh, deleted := addWebhook(t, pool), addWebhook(t, pool), addWebhookOf(t, pool, "another", "https://example.com"), uuid.New()
	for i := range 20 {
		addRow(t, pool, id, fmt.Sprint(i), webhook.TriggerEvent, -overdueAfter-time.Minute)
	}
	addRow(t, pool, ahead, "e", webhook.TriggerEvent, time.Minute)
	addRow(t, pool, fresh, "e", webhook.TriggerEvent, -overdueAfter/2)
	addRow(t, pool, deleted, "e", webhook.TriggerEvent, -overdueAfter-time.Minute)
	queue := Queue{Pool: pool}
	for _, w := range []uuid.UUID{ahead, fresh} {
		_, err := queue.StartRecovery(t.Context(), Span{WebhookID: w, Since: time.Now(), Until: time.Now()})
		require.NoError(t, err)
	}
	execute(t, pool, "UPDATE recoveries SET updated_at = now() - interval '1 minute' WHERE webhook_id = $1", ahead)

	// Of all processes, one looks.
	var mu sync.Mutex
	var looked int
	var webhooks, recovering []Webhook
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			w, r, err := queue.Overdue(context.Background())
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(w) > 0 {
				looked++
			}
			webhooks, recovering = append(webhooks, w...), append(recovering, r...)
		})
	}
	all.Wait()
	require.Equal(t, 1, looked)
	require.ElementsMatch(t, []Webhook{{id, "bot", "example.com"}, {WebhookID: deleted}}, webhooks)
	require.Equal(t, []Webhook{{ahead, "bot", "example.com"}}, recovering)

	again := func() bool {
		w, _, err := queue.Overdue(t.Context())
		require.NoError(t, err)
		return len(w) > 0
	}
	execute(t, pool, "UPDATE queue_sweeps SET began_at = now() - interval '29 seconds'")
	require.False(t, again())
	execute(t, pool, "UPDATE queue_sweeps SET began_at = now() - interval '31 seconds'")
	require.True(t, again())
	require.False(t, again())
	execute(t, pool, "UPDATE queue_sweeps SET began_at = now() + interval '1 hour'")
	require.True(t, again(), "the clock was ahead")
	require.False(t, again())
	require.LessOrEqual(t, sweepEvery+overdueAfter, 45*time.Second, "with the process's own interval, how late a crash makes a delivery")
}

// TestQueue_RetryNow_WhileAttemptsAreRecorded waits for no row that a recording has: each could wait for the other, until Postgres ended
// the recording a second later, with what others' attempts came to.
func TestQueue_RetryNow_WhileAttemptsAreRecorded(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	for _, event := range []string{"e1", "e2", "e3"} {
		execute(t, pool, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'post.created', '{}', 'run')", event)
		execute(t, pool, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 2, 2, 'retry', now() + interval '1 h')", id, event)
	}
	recording := begin(t, pool)
	remove := func(event string) error {
		return db.New().RemoveAttempted(t.Context(), recording, db.RemoveAttemptedParams{WebhookIds: []uuid.UUID{id}, EventIds: []string{event}, Attempts: []int32{2}})
	}
	require.NoError(t, remove("e2"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	n, err := queue.RetryNow(ctx, id, "")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, remove("e1"))
	require.NoError(t, recording.Commit(t.Context()))
	require.Equal(t, 1, count(t, pool, "queue WHERE due_at = 'epoch'"))
}
