package history

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/webhook"
)

func TestRecorder_Record(t *testing.T) {
	t.Parallel()

	t.Run("TenthFailureDisables", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id, other := addWebhook(t, pool), addWebhookOf(t, pool, "another", "https://example.com")
		for _, trigger := range []webhook.Trigger{webhook.TriggerEvent, webhook.TriggerRetry, webhook.TriggerRecover, webhook.TriggerTest, webhook.TriggerRedeliver, webhook.TriggerVerify} {
			addRow(t, pool, id, string(trigger), trigger, time.Hour)
			addRow(t, pool, other, string(trigger), trigger, time.Hour)
		}
		queue := Queue{Pool: pool}
		for _, w := range []uuid.UUID{id, other} {
			_, err := queue.StartRecovery(t.Context(), Span{WebhookID: w, Since: time.Now(), Until: time.Now()})
			require.NoError(t, err)
		}
		var last Attempt
		for i := 1; i <= webhook.MaxFailures; i++ {
			require.True(t, stateOf(t, pool, id).Active)
			last = prepared(t, pool, id, false)
			last.RetryIn = time.Hour
			isLast := i == webhook.MaxFailures
			require.Equal(t, Recorded{Active: !isLast, FailureCount: i, Planned: !isLast}, record(t, r, last))
		}
		s := stateOf(t, pool, id)
		require.False(t, s.Active)
		require.WithinDuration(t, time.Now(), *s.DisabledAt, time.Minute)
		require.Equal(t, "failures", *s.DisabledReason)
		entries, _, err := (&audit.Reader{Pool: pool}).List(t.Context(), "", uuid.Nil)
		require.NoError(t, err)
		require.Equal(t, audit.WebhookDisabled, entries[0].Action)
		require.Equal(t, id.String(), entries[0].Subject)
		require.Equal(t, audit.Actor{Kind: audit.System}, entries[0].By)
		require.Equal(t, last.DeliveryID, s.DisabledBy.UUID)
		require.Len(t, historyOf(t, pool, id), webhook.MaxFailures)
		require.Equal(t, []string{"test", "redeliver", "verify"}, eventsOf(queueOf(t, pool, id)), "what a person has asked for stays")
		require.Len(t, queueOf(t, pool, other), 6)
		var recovery, why string
		scan(t, pool, "SELECT state, last_error FROM recoveries WHERE webhook_id = $1 AND ended_at IS NOT NULL", []any{id}, &recovery, &why)
		require.Equal(t, []string{RecoveryStopped, "webhook disabled"}, []string{recovery, why})
		require.Equal(t, 1, count(t, pool, "recoveries WHERE webhook_id = $1 AND state = 'running'", other))

		// A success, of a test event say, ends the run but enables nothing.
		require.Equal(t, Recorded{}, record(t, r, prepared(t, pool, id, true)))
		require.Equal(t, s.DisabledAt, stateOf(t, pool, id).DisabledAt)
		// Nor does a failure of one disable it once more.
		record(t, r, prepared(t, pool, id, false))
		require.Equal(t, s.DisabledBy, stateOf(t, pool, id).DisabledBy)
	})

	t.Run("BesideAProcessThatStandsStill", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id, locked, ended := addWebhook(t, pool), make(chan struct{}), make(chan error, 1)
		still, goOn := context.WithCancel(t.Context())
		defer goOn()
		go func() {
			ended <- db.WithTx(t.Context(), pool, func(tx pgx.Tx) error {
				err := db.LockWebhook(t.Context(), tx, id)
				close(locked)
				<-still.Done()
				return err
			})
		}()
		<-locked
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		_, err := r.Record(ctx, prepared(t, pool, id, false))
		require.NoError(t, err, "its locks hold nobody up for long")
		goOn()
		require.Error(t, <-ended)
	})

	t.Run("SuccessEndsTheRun", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for range 3 {
			for range webhook.MaxFailures - 1 {
				record(t, r, prepared(t, pool, id, false))
			}
			require.Equal(t, Recorded{Active: true}, record(t, r, prepared(t, pool, id, true)))
		}
	})

	t.Run("HealthySuccessTouchesNothingElse", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		before := stateOf(t, pool, id)
		require.Equal(t, Recorded{Active: true}, record(t, r, outcome(id, true)))
		require.Equal(t, before, stateOf(t, pool, id), "xmin tells every write")
		require.Len(t, historyOf(t, pool, id), 1)
		require.Empty(t, woken.take())
	})

	// TestRecorder_Record/FailureAndPlanAreOneTransaction: a commit that fails leaves neither.
	t.Run("FailureAndPlanAreOneTransaction", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		execute(t, pool, "CREATE SEQUENCE commits") // counts what is rolled back too
		execute(t, pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('commits'); RAISE EXCEPTION 'no commit'; END $$`)
		execute(t, pool, "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON queue DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
		a := outcome(id, false)
		a.RetryIn = time.Minute
		recorded := make(chan Recorded)
		go func() {
			after, _ := r.Record(context.Background(), a)
			recorded <- after
		}()
		require.Eventually(t, func() bool { return count(t, pool, "commits WHERE last_value >= 3") == 1 }, 3*time.Minute, 5*time.Millisecond)
		require.Empty(t, historyOf(t, pool, id))
		require.Empty(t, queueOf(t, pool, id))
		require.Zero(t, stateOf(t, pool, id).FailureCount)
		require.Empty(t, woken.take())
		execute(t, pool, "DROP TRIGGER refuse ON queue")
		require.Equal(t, Recorded{Active: true, FailureCount: 1, Planned: true}, <-recorded)
		require.Len(t, historyOf(t, pool, id), 1)
		require.Len(t, queueOf(t, pool, id), 1)
		require.True(t, stateOf(t, pool, id).Queued)
	})

	t.Run("FailurePlansTheNextAttempt", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		a := outcome(id, false)
		a.RetryIn = time.Minute
		require.True(t, record(t, r, a).Planned)
		rows := queueOf(t, pool, id)
		require.Len(t, rows, 1)
		require.InDelta(t, 60, rows[0].DueIn, 5)
		rows[0].DueIn = 0
		require.Equal(t, queueRow{EventID: a.EventID, Attempt: 2, Step: 2, Trigger: "retry"}, rows[0])
		require.True(t, stateOf(t, pool, id).Queued)
		require.Equal(t, []Webhook{{id, "bot", "example.com"}}, woken.take())

		// The queue's own attempt puts the next in the place of the last, and wakes nobody: the queue looks again by itself.
		second := again(a, false)
		second.RetryIn = time.Hour
		record(t, r, second)
		rows = queueOf(t, pool, id)
		require.Len(t, rows, 1)
		require.Equal(t, 3, rows[0].Attempt)
		require.InDelta(t, 3600, rows[0].DueIn, 5)
		require.Empty(t, woken.take())

		// After the last failure nothing is planned.
		require.False(t, record(t, r, again(second, false)).Planned)
		require.Empty(t, queueOf(t, pool, id))
	})

	t.Run("SuccessRemovesTheRow", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for _, healthy := range []bool{true, false} {
			a := outcome(id, false)
			a.RetryIn = time.Minute
			record(t, r, a)
			if healthy {
				record(t, r, outcome(id, true))
			}
			record(t, r, again(a, true))
			require.Empty(t, queueOf(t, pool, id))
		}
	})

	t.Run("LaterAttemptsRowStays", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		a := outcome(id, true)
		execute(t, pool, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 2, 0, 'redeliver', now())", id, a.EventID)
		a.Queued = true
		record(t, r, a)
		require.Len(t, queueOf(t, pool, id), 1)
	})

	t.Run("EarlyFailuresCountFive", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for i := 1; i <= 20; i++ { // all of them were in progress when the first was recorded
			require.Equal(t, Recorded{Active: true, FailureCount: min(i, maxEarlyFailures)}, record(t, r, outcome(id, false)))
		}
		require.Len(t, historyOf(t, pool, id), 20)
		stale := outcome(id, false)
		stale.FailureRun = 7 // of another run
		require.Equal(t, maxEarlyFailures, record(t, r, stale).FailureCount)
		for i := maxEarlyFailures + 1; i <= webhook.MaxFailures; i++ {
			require.Equal(t, i, record(t, r, prepared(t, pool, id, false)).FailureCount)
		}
		require.False(t, stateOf(t, pool, id).Active)
	})

	t.Run("FailureFromBeforeTheEnablingDoesNotCount", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		began := outcome(id, false)
		began.RetryIn = time.Minute
		execute(t, pool, "UPDATE webhooks SET generation = generation + 1 WHERE id = $1", id)
		require.Equal(t, Recorded{Active: true, Planned: true}, record(t, r, began))
		require.Len(t, historyOf(t, pool, id), 1, "it is in the history all the same")
		require.Len(t, queueOf(t, pool, id), 1, "and is attempted again")
		require.False(t, stateOf(t, pool, id).Queued, "which holds nothing else up")
	})

	t.Run("FailingWebhookIsLeftAlone", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for i := 1; i < webhook.MaxFailures; i++ {
			began := time.Now()
			record(t, r, prepared(t, pool, id, false))
			state := stateOf(t, pool, id)
			want := state.Rest()
			pause := state.ResumeIn
			require.LessOrEqual(t, pause, want+restSpread)
			require.Greater(t, pause, max(want-time.Since(began), 0)-10*time.Millisecond, "after failure %d", i)
		}
		record(t, r, prepared(t, pool, id, true))
		require.Zero(t, stateOf(t, pool, id).ResumeIn)
		for range webhook.MaxFailures {
			record(t, r, prepared(t, pool, id, false))
		}
		require.Zero(t, stateOf(t, pool, id).ResumeIn, "a disabled webhook has nothing to wait for")
	})

	t.Run("WebhooksThatFailTogetherRestApart", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		const webhooks = 20
		ids := make([]uuid.UUID, webhooks)
		for i := range ids {
			ids[i] = addWebhook(t, pool)
		}
		var all sync.WaitGroup
		for _, id := range ids {
			all.Go(func() { record(t, r, prepared(t, pool, id, false)) })
		}
		all.Wait()
		var rests []time.Duration
		for _, id := range ids {
			rests = append(rests, stateOf(t, pool, id).ResumeIn)
		}
		require.Greater(t, slices.Max(rests)-slices.Min(rests), restSpread/4)
	})

	t.Run("DeletedWebhookLeavesNoRow", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		execute(t, pool, "DELETE FROM webhooks WHERE id = $1", id)
		a := outcome(id, false)
		a.RetryIn = time.Minute
		require.Equal(t, Recorded{Gone: true}, record(t, r, a))
		require.Empty(t, historyOf(t, pool, id))
		require.Empty(t, queueOf(t, pool, id))
	})
}
