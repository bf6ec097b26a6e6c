package history

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// TestARecoveryGoesBeforeWhatIsNewer: what an ordered webhook missed is sent first, oldest first, also what it missed before it was
// disabled, and nothing newer until the recovery has found all.
func TestARecoveryGoesBeforeWhatIsNewer(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true, disabled_at = now() - interval '1 hour', enabled_at = now() WHERE id = $1", id)
	addEvents(t, pool, "given-up", "post.created", 2, 2*time.Hour)
	addEvents(t, pool, "missed", "post.created", 700, 30*time.Minute)
	addEvents(t, pool, "newer", "post.created", 1, 0)
	addRow(t, pool, id, "newer-1", webhook.TriggerEvent, 0)
	due := func() []string {
		s, err := queue.Look(t.Context(), id, 1)
		require.NoError(t, err)
		if len(s.Due) == 0 {
			require.GreaterOrEqual(t, s.NextIn, time.Second, "it does not turn in a circle")
			return nil
		}
		return []string{s.Due[0].EventID}
	}
	require.Equal(t, []string{"newer-1"}, due())
	startRecovery(t, queue, Span{WebhookID: id, Since: time.Now().Add(-24 * time.Hour), Until: time.Now().Add(-time.Minute)})
	require.Empty(t, due(), "it waits for what the recovery finds")
	recoverPage(t, queue, id)
	for _, event := range []string{"given-up-1", "given-up-2", "missed-1", "missed-2"} {
		require.Equal(t, []string{event}, due())
		execute(t, pool, "DELETE FROM queue WHERE webhook_id = $1 AND event_id = $2", id, event)
	}
	require.Equal(t, 6+1, count(t, pool, "queue WHERE webhook_id = $1", id), "a second's worth is planned")
	sent := func() { execute(t, pool, "DELETE FROM queue WHERE webhook_id = $1 AND trigger = 'recover'", id) }
	for !latest(t, pool, id).LookedThrough {
		sent()
		require.Empty(t, due(), "it waits for what the recovery finds")
		step := recoverPage(t, queue, id)
		require.LessOrEqual(t, step.Remaining, RecoveryRate)
		if step = recoverPage(t, queue, id); step.Remaining == RecoveryRate { // until that is sent, no more is planned
			require.Equal(t, []any{false, time.Second}, []any{step.Planned, step.Wait})
		}
	}
	require.EqualValues(t, 702, latest(t, pool, id).Found)
	sent()
	require.Equal(t, []string{"newer-1"}, due(), "once all is found")

	execute(t, pool, "UPDATE recoveries SET looked_through = false, after_time = since")
	require.Empty(t, due())
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	require.Equal(t, []string{"newer-1"}, due())
}

// TestNobodyWaitsForAHeadThatIsGone: an ordered webhook rests until its head is attempted again. Without the head, what follows does
// not wait for that.
func TestNobodyWaitsForAHeadThatIsGone(t *testing.T) {
	t.Parallel()
	remove := func(t *testing.T, q Queue, id uuid.UUID, trigger webhook.Trigger) {
		require.NoError(t, db.WithTx(t.Context(), q.Pool, func(tx pgx.Tx) error {
			return RemovePlanned(t.Context(), tx, id, func() error {
				_, err := tx.Exec(t.Context(), "DELETE FROM queue WHERE webhook_id = $1 AND trigger = $2", id, trigger)
				return err
			})
		}))
	}
	for name, c := range map[string]struct {
		remove func(t *testing.T, q Queue, id uuid.UUID)
		head   string
		rests  bool
		tried  string // the first that was attempted, if it is another than the head
	}{
		"removed":                         {func(t *testing.T, q Queue, id uuid.UUID) { remove(t, q, id, webhook.TriggerRecover) }, "next", false, ""},
		"another":                         {func(t *testing.T, q Queue, id uuid.UUID) { remove(t, q, id, webhook.TriggerEvent) }, "head", true, ""},
		"recovery ended":                  {func(t *testing.T, q Queue, id uuid.UUID) { require.NoError(t, q.CancelRecovery(t.Context(), id)) }, "next", false, ""},
		"recovery ended before the first": {func(t *testing.T, q Queue, id uuid.UUID) { require.NoError(t, q.CancelRecovery(t.Context(), id)) }, "next", true, "next"},
		"suspended": {func(t *testing.T, q Queue, id uuid.UUID) {
			require.NoError(t, db.WithTx(t.Context(), q.Pool, func(tx pgx.Tx) error { return SuspendWebhooks(t.Context(), tx, []uuid.UUID{id}) }))
			addEvent(t, q.Pool, "later", 0)
			addRow(t, q.Pool, id, "later", webhook.TriggerEvent, 0)
		}, "later", false, ""},
		"expired": {func(t *testing.T, q Queue, _ uuid.UUID) {
			execute(t, q.Pool, "UPDATE events SET accepted_at = now() - interval '30 days' WHERE id = 'head'")
			(&Remover{Pool: q.Pool, Retention: webhook.Retention(29 * 24 * time.Hour)}).remove(t, time.Time{})
		}, "next", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			queue := Queue{Pool: pool}
			id := addWebhook(t, pool)
			execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true, failure_count = 1, resume_at = now() + interval '10 hours' WHERE id = $1", id)
			addEvent(t, pool, "head", time.Hour)
			addEvent(t, pool, "next", time.Minute)
			addRow(t, pool, id, "head", webhook.TriggerRecover, -time.Hour)
			addRow(t, pool, id, "next", webhook.TriggerEvent, -time.Minute)
			recovery := startRecovery(t, queue, Span{WebhookID: id, Since: time.Now().Add(-3 * time.Hour), Until: time.Now().Add(-2 * time.Hour)})
			execute(t, pool, "UPDATE queue SET recovery_id = $1 WHERE event_id = 'head'", recovery.ID)
			execute(t, pool, "UPDATE queue SET attempt = 2, step = 2 WHERE event_id = $1", cmp.Or(c.tried, "head"))
			execute(t, pool, "UPDATE recoveries SET looked_through = true")

			c.remove(t, queue, id)
			s, err := queue.Look(t.Context(), id, 1)
			require.NoError(t, err)
			require.Len(t, s.Due, 1)
			require.Equal(t, c.head, s.Due[0].EventID)
			if c.rests {
				require.Greater(t, s.ResumeIn, time.Hour)
			} else {
				require.Less(t, s.ResumeIn, 5*time.Second)
			}
		})
	}
}

// TestARetryIsKnownBehindWhatARecoveryPlanned: an ordered webhook rests until an event is attempted again. What a recovery has planned
// before that changes neither that nobody waits for the retry once it is removed, nor which row is due later once there is no order.
func TestARetryIsKnownBehindWhatARecoveryPlanned(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, q Queue, id uuid.UUID){
		"removed": func(t *testing.T, q Queue, id uuid.UUID) {
			require.NoError(t, db.WithTx(t.Context(), q.Pool, func(tx pgx.Tx) error {
				return RemovePlanned(t.Context(), tx, id, func() error {
					_, err := tx.Exec(t.Context(), "DELETE FROM queue WHERE event_id = 'retried'")
					return err
				})
			}))
		},
		"both removed": func(t *testing.T, q Queue, _ uuid.UUID) {
			execute(t, q.Pool, "UPDATE events SET accepted_at = now() - interval '30 days' WHERE id IN ('missed', 'retried')")
			(&Remover{Pool: q.Pool, Retention: webhook.Retention(29 * 24 * time.Hour)}).remove(t, time.Time{})
		},
		"ordered no more": func(t *testing.T, q Queue, id uuid.UUID) { require.NoError(t, setOrdered(t, q, id, false)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			queue := Queue{Pool: pool}
			id := addWebhook(t, pool)
			execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true, failure_count = 1, resume_at = now() + interval '10 hours' WHERE id = $1", id)
			for n, event := range []string{"missed", "retried", "newer"} {
				ago := time.Hour - time.Duration(n)*time.Minute
				addEvent(t, pool, event, ago)
				addRow(t, pool, id, event, webhook.TriggerEvent, -ago)
			}
			execute(t, pool, "UPDATE queue SET attempt = 2, step = 2, trigger = 'retry' WHERE event_id = 'retried'")

			change(t, queue, id)
			s, err := queue.Look(t.Context(), id, 3)
			require.NoError(t, err)
			require.Less(t, s.ResumeIn, 5*time.Second)
			for _, row := range s.Due {
				require.NotEqual(t, "retried", row.EventID)
			}
			require.Len(t, s.Due, count(t, pool, "queue WHERE event_id <> 'retried'"))
		})
	}
}

// TestNobodyWaitsForTheRetryOfWhatIsUnsubscribed: an event of an ordered webhook that is in flight while its type is unsubscribed, and
// fails, holds up no other.
func TestNobodyWaitsForTheRetryOfWhatIsUnsubscribed(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	recorder, _ := newTestRecorder(t, pool)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true WHERE id = $1", id)
	for _, event := range []string{"first", "second"} {
		addEvent(t, pool, event, time.Hour)
		addRow(t, pool, id, event, webhook.TriggerEvent, -time.Hour)
	}
	fail := func(event string) (Recorded, QueueState) {
		a := prepared(t, pool, id, false).of(t, pool, event, 1)
		a.Queued, a.RetryIn = true, 10*time.Hour
		after := record(t, recorder, a)
		s, err := queue.Look(t.Context(), id, 1)
		require.NoError(t, err)
		return after, s
	}
	execute(t, pool, "UPDATE webhooks SET events = '{thread.created}' WHERE id = $1", id)
	execute(t, pool, "DELETE FROM queue WHERE event_id = 'first'") // as ClearUnsubscribed does
	after, s := fail("first")
	require.False(t, after.Planned)
	require.Equal(t, 1, s.Waiting)
	require.Less(t, s.ResumeIn, 5*time.Second)

	execute(t, pool, "UPDATE webhooks SET events = '{post.created}' WHERE id = $1", id)
	after, s = fail("second")
	require.True(t, after.Planned)
	require.Equal(t, "second", s.Due[0].EventID)
	require.Greater(t, s.ResumeIn, time.Hour)
}

// setOrdered is the change of a webhook.
func setOrdered(t testing.TB, q Queue, id uuid.UUID, ordered bool) error {
	t.Helper()
	return db.WithTx(t.Context(), q.Pool, func(tx pgx.Tx) error {
		before, err := db.New().WebhookOfAny(t.Context(), tx, id)
		require.NoError(t, err)
		_, err = db.New().UpdateWebhook(t.Context(), tx, db.UpdateWebhookParams{ID: id, BotID: "bot", Ordered: &ordered, SettleSeconds: OrderSettles.Seconds()})
		require.NoError(t, err)
		return SetOrdered(t.Context(), tx, before, ordered)
	})
}

func TestSetOrdered(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	for n, due := range []time.Duration{time.Hour, -time.Minute, 2 * time.Hour} {
		event := fmt.Sprintf("e%d", n)
		addEvent(t, pool, event, time.Hour-time.Duration(n)*time.Second)
		addRow(t, pool, id, event, webhook.TriggerRetry, due)
	}
	look := func() QueueState {
		s, err := queue.Look(t.Context(), id, 3)
		require.NoError(t, err)
		return s
	}
	require.NoError(t, setOrdered(t, queue, id, true))
	s := look()
	require.True(t, s.Ordered)
	require.Len(t, s.Due, 3, "the retries' times are over")
	require.Equal(t, []string{"e0", "e1", "e2"}, []string{s.Due[0].EventID, s.Due[1].EventID, s.Due[2].EventID})
	require.InDelta(t, OrderSettles, s.ResumeIn, float64(5*time.Second), "direct attempts may have begun before")
	_, err := queue.RetryNow(t.Context(), id, "")
	require.NoError(t, err)
	require.InDelta(t, OrderSettles, look().ResumeIn, float64(5*time.Second), "which nobody can shorten")

	execute(t, pool, "UPDATE webhooks SET ordered_from = NULL, resume_at = now() + interval '1 hour' WHERE id = $1", id)
	require.InDelta(t, time.Hour, look().ResumeIn, float64(time.Minute))
	require.NoError(t, setOrdered(t, queue, id, false))
	s = look()
	require.Zero(t, s.ResumeIn)
	require.Len(t, s.Due, 2, "a retry holds up no other")
	require.Equal(t, "e1", s.Due[0].EventID)

	require.NoError(t, setOrdered(t, queue, id, true))
	execute(t, pool, "UPDATE webhooks SET ordered_from = NULL, resume_at = now() - interval '5 minutes' WHERE id = $1", id)
	dbtest.SetClock(t, pool, -10*time.Minute)
	require.NoError(t, setOrdered(t, queue, id, false))
	require.Len(t, look().Due, 2, "by Postgres's clock, the retry is due in five minutes")
	dbtest.SetClock(t, pool, 0)

	addEvents(t, pool, "many", "post.created", MostOrdered, time.Minute)
	execute(t, pool, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT $1, id, 1, 1, 'event', accepted_at FROM events WHERE id LIKE 'many%'", id)
	require.True(t, problem.Is(setOrdered(t, queue, id, true), problem.Conflict))
	require.Zero(t, count(t, pool, "webhooks WHERE ordered"), "nothing is half done")
}

func TestQueue_Waiting(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	addEvents(t, pool, "e", "post.created", 3, time.Minute)
	for n := range 3 {
		addRow(t, pool, id, fmt.Sprintf("e-%d", n+1), webhook.TriggerEvent, time.Duration(n-3)*time.Minute)
	}
	waiting := func() (events []string, next []bool) {
		w, err := db.New().WebhookOfAny(t.Context(), pool, id)
		require.NoError(t, err)
		list, err := queue.Waiting(t.Context(), w)
		require.NoError(t, err)
		for i, d := range list {
			require.Equal(t, i+1, d.Position)
			events, next = append(events, d.EventID), append(next, d.NextAttemptAt != nil)
		}
		return events, next
	}
	events, next := waiting()
	require.Equal(t, []string{"e-1", "e-2", "e-3"}, events)
	require.Equal(t, []bool{true, true, true}, next)

	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true WHERE id = $1", id)
	addEvent(t, pool, "again", time.Hour)
	addRow(t, pool, id, "again", webhook.TriggerRedeliver, 0)
	events, next = waiting()
	require.Equal(t, []string{"again", "e-1", "e-2", "e-3"}, events)
	require.Equal(t, []bool{true, true, false, false}, next, "the others wait for the head")

	execute(t, pool, "UPDATE webhooks SET is_active = false WHERE id = $1", id)
	events, _ = waiting()
	require.Equal(t, []string{"again"}, events)
}

// TestARecoveryGoesOnWhenItsWebhookBecomesOrdered: what it had planned by then waits for what is older, and keeps it from planning nothing.
func TestARecoveryGoesOnWhenItsWebhookBecomesOrdered(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET disabled_at = now() - interval '1 hour', enabled_at = now() WHERE id = $1", id)
	addEvents(t, pool, "older", "post.created", 2*RecoveryRate, 2*time.Hour)
	addEvents(t, pool, "missed", "post.created", 2*RecoveryRate, 30*time.Minute)
	startRecovery(t, queue, lastDay(id))
	require.Equal(t, 2*RecoveryRate, recoverPage(t, queue, id).Found, "since it was disabled")
	require.NoError(t, setOrdered(t, queue, id, true))
	var want, sent []string
	for _, prefix := range []string{"older", "missed"} {
		for n := range 2 * RecoveryRate {
			want = append(want, fmt.Sprintf("%s-%d", prefix, n+1))
		}
	}
	for range 20 {
		step := recoverPage(t, queue, id)
		require.LessOrEqual(t, step.Found, len(want))
		s, err := queue.Look(t.Context(), id, 32)
		require.NoError(t, err)
		for _, row := range s.Due {
			sent = append(sent, row.EventID)
			require.NoError(t, queue.Remove(t.Context(), id, row))
		}
	}
	require.Equal(t, want, sent)
	require.Equal(t, RecoveryCompleted, latest(t, pool, id).State)
}

// TestQueue_StartRecovery_BesideAnOrderedOneThatWaits: it plans no more while its webhook waits for a retry, and keeps no other waiting.
func TestQueue_StartRecovery_BesideAnOrderedOneThatWaits(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id, sibling := addWebhook(t, pool), addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true WHERE id = $1", id)
	addEvents(t, pool, "missed", "post.created", 3*RecoveryRate, time.Hour)
	startRecovery(t, queue, lastDay(id))
	busy := func(why string) {
		_, err := queue.StartRecovery(t.Context(), lastDay(sibling))
		require.Equal(t, RecoveryRunningError{id}, err, why)
	}
	execute(t, pool, "UPDATE webhooks SET resume_at = now() + interval '1 hour' WHERE id = $1", id)
	busy("it looks through events")
	require.Equal(t, RecoveryRate, recoverPage(t, queue, id).Remaining)
	require.False(t, latest(t, pool, id).LookedThrough)
	execute(t, pool, "UPDATE webhooks SET resume_at = NULL WHERE id = $1", id)
	busy("it has something to send")
	execute(t, pool, "UPDATE webhooks SET resume_at = now() + interval '1 hour' WHERE id = $1", id)
	startRecovery(t, queue, lastDay(sibling))
}

// TestAnOrderedRecoveryWhenTheClockWentBack: nothing of it waits until the time that the clock had shown.
func TestAnOrderedRecoveryWhenTheClockWentBack(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET queued = true, ordered = true WHERE id = $1", id)
	addEvents(t, pool, "missed", "post.created", 1, time.Minute)
	addEvent(t, pool, "newer", -time.Hour)
	addRow(t, pool, id, "newer", webhook.TriggerEvent, time.Hour)
	overdue, _, err := queue.Overdue(t.Context())
	require.NoError(t, err)
	require.Len(t, overdue, 1, "should nobody have woken it")
	startRecovery(t, queue, lastDay(id))
	execute(t, pool, "UPDATE recoveries SET created_at = created_at + interval '1 hour'")
	s, err := queue.Look(t.Context(), id, 1)
	require.NoError(t, err)
	require.Equal(t, recoveryLook, s.NextIn)
	require.Equal(t, 1, recoverPage(t, queue, id).Found)
	for _, event := range []string{"missed-1", "newer"} {
		for !latest(t, pool, id).LookedThrough {
			recoverPage(t, queue, id)
		}
		s, err := queue.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Len(t, s.Due, 1, event)
		require.Equal(t, event, s.Due[0].EventID)
		require.NoError(t, queue.Remove(t.Context(), id, s.Due[0]))
	}
}
