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

func TestRecorder_Enqueue(t *testing.T) {
	t.Parallel()
	plan := func(webhookID uuid.UUID, eventID string, delay time.Duration) Plan {
		return Plan{WebhookID: webhookID, EventID: eventID, Number: 1, Step: 1, Trigger: webhook.TriggerEvent, Delay: delay}
	}

	t.Run("KeepsTheOrderOfAcceptance", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for i, event := range []string{"third", "second", "first"} {
			addEvent(t, pool, event, time.Duration(i+1)*time.Minute)
		}
		for _, event := range []string{"second", "third", "first"} {
			require.Equal(t, Recorded{Active: true, Planned: true}, enqueue(t, r, plan(id, event, 0)))
		}
		enqueue(t, r, plan(id, "later", time.Minute))
		enqueue(t, r, Plan{WebhookID: id, EventID: "a person's", Number: 4, Trigger: webhook.TriggerRedeliver, Delay: -time.Second})
		s, err := (&Queue{Pool: pool}).Look(t.Context(), id, 10)
		require.NoError(t, err)
		var due []string
		for _, row := range s.Due {
			due = append(due, row.EventID)
		}
		require.Equal(t, []string{"a person's", "first", "second", "third"}, due)
		require.Equal(t, Row{EventID: "a person's", Attempt: 4, Trigger: webhook.TriggerRedeliver}, s.Due[0])
	})

	t.Run("KeepsTheEarlierTime", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for _, c := range []struct{ delay, want time.Duration }{{time.Hour, time.Hour}, {time.Minute, time.Minute}, {time.Hour, time.Minute}} {
			enqueue(t, r, plan(id, "e", c.delay))
			rows := queueOf(t, pool, id)
			require.Len(t, rows, 1)
			require.InDelta(t, c.want.Seconds(), rows[0].DueIn, 10)
		}
		enqueue(t, r, Plan{WebhookID: id, EventID: "e", Number: 1, Trigger: webhook.TriggerRedeliver, Delay: -1})
		rows := queueOf(t, pool, id)
		require.Len(t, rows, 1)
		require.Equal(t, []any{1, "event"}, []any{rows[0].Step, rows[0].Trigger}, "it is made due, and stays what it was")
		require.Negative(t, rows[0].DueIn)
	})

	t.Run("DueNowTurnsTheWebhookQueued", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		enqueue(t, r, plan(id, "later", time.Minute))
		require.False(t, stateOf(t, pool, id).Queued, "what is due later holds nothing else up")
		require.Equal(t, []Webhook{{id, "bot", "example.com"}}, woken.take())
		before := stateOf(t, pool, id)
		enqueue(t, r, plan(id, "now", 0))
		s := stateOf(t, pool, id)
		require.True(t, s.Queued)
		require.Len(t, woken.take(), 1, "what is due sooner wakes it")
		s.Queued, s.Xmin = false, before.Xmin
		require.Equal(t, before, s, "it is no failure")
	})

	t.Run("InactiveAndGoneWebhooksGetNothing", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET is_active = false WHERE id = $1", id)
		require.Equal(t, Recorded{}, enqueue(t, r, plan(id, "e", 0)))
		require.Empty(t, queueOf(t, pool, id))
		require.Empty(t, woken.take())
		test := Plan{WebhookID: id, EventID: "t", Number: 1, Trigger: webhook.TriggerTest, Delay: -1}
		require.Equal(t, Recorded{Planned: true}, enqueue(t, r, test))
		require.Len(t, queueOf(t, pool, id), 1)
		require.Len(t, woken.take(), 1)
		require.Equal(t, Recorded{Gone: true}, enqueue(t, r, plan(uuid.New(), "e", 0)))
		require.Equal(t, 1, count(t, pool, "queue"))
	})

	t.Run("ManyAtOncePlanOne", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		other, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if _, err := []*Recorder{r, other}[i%2].Enqueue(context.Background(), plan(id, fmt.Sprint("e", i%4), 0)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.Len(t, queueOf(t, pool, id), 4)
	})

	// A webhook that is disabled while an attempt at it waits for the lock gets no plan.
	t.Run("WaitsForTheLockOfADisabling", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		disabling := begin(t, pool)
		require.NoError(t, db.LockWebhook(t.Context(), disabling, id))
		_, err := disabling.Exec(t.Context(), "UPDATE webhooks SET is_active = false WHERE id = $1", id)
		require.NoError(t, err)
		planned := make(chan Recorded)
		go func() {
			after, _ := r.Enqueue(context.Background(), plan(id, "e", 0))
			planned <- after
		}()
		waitsForLock(t, pool, 1)
		require.NoError(t, disabling.Commit(t.Context()))
		require.Equal(t, Recorded{}, <-planned)
		require.Empty(t, queueOf(t, pool, id))
	})
}
