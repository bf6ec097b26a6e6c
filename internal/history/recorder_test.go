package history

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
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

	t.Run("BatchThatDisablesPlansNothing", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, woken := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE webhooks SET failure_count = 5, early_failures = 5, failure_run = 1 WHERE id = $1", id)
		var batch []*recording
		for range 5 {
			a := prepared(t, pool, id, false)
			a.RetryIn = time.Hour
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		r.flush(batch)
		require.False(t, stateOf(t, pool, id).Active)
		require.Empty(t, queueOf(t, pool, id))
		require.Empty(t, woken.take())
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
		require.Eventually(t, func() bool { return count(t, pool, "commits WHERE last_value >= 3") == 1 }, 10*time.Second, 5*time.Millisecond)
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

	t.Run("RepeatPlansNothingTwice", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		other, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		a := outcome(id, false)
		a.RetryIn = time.Minute
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				after, err := []*Recorder{r, other}[i%2].Record(context.Background(), a)
				if err != nil || after.FailureCount != 1 {
					t.Errorf("recorded %+v, %v", after, err)
				}
			})
		}
		all.Wait()
		require.Equal(t, int32(1), stateOf(t, pool, id).FailureCount)
		require.Len(t, historyOf(t, pool, id), 1)
		require.Len(t, queueOf(t, pool, id), 1)

		record(t, r, again(a, true))
		record(t, r, a)
		require.Empty(t, queueOf(t, pool, id), "the plan that followed was carried out")
	})

	t.Run("EarlyFailuresCountFive", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		for i := 1; i <= 20; i++ { // all of them were under way when the first was recorded
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
			record(t, r, prepared(t, pool, id, false))
			state := stateOf(t, pool, id)
			want := state.Pause()
			pause := state.ResumeIn
			require.LessOrEqual(t, pause, want)
			require.Greater(t, pause, want-400*time.Millisecond, "after failure %d", i)
		}
		record(t, r, prepared(t, pool, id, true))
		require.Zero(t, stateOf(t, pool, id).ResumeIn)
		for range webhook.MaxFailures {
			record(t, r, prepared(t, pool, id, false))
		}
		require.Zero(t, stateOf(t, pool, id).ResumeIn, "a disabled webhook has nothing to wait for")
	})

	t.Run("RecoveryCountsItsAttempts", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		recovery, err := (&Queue{Pool: pool}).StartRecovery(t.Context(), Span{WebhookID: id, Since: time.Now(), Until: time.Now()})
		require.NoError(t, err)
		var batch []*recording
		for i := range 8 {
			a := outcome(id, i%4 != 0)
			a.RecoveryID, a.Queued, a.Trigger = recovery.ID, true, webhook.TriggerRecover
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})}, &recording{attempt: a, done: make(chan struct{})})
		}
		r.flush(batch)
		var delivered, failed int
		var lastError string
		scan(t, pool, "SELECT delivered, failed, last_error FROM recoveries", nil, &delivered, &failed, &lastError)
		require.Equal(t, []any{6, 2, "HTTP 500"}, []any{delivered, failed, lastError})
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

	t.Run("RefusedRowDoesNotHoldUpOthers", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		var batch []*recording
		for i := range 20 {
			a := outcome(id, i%2 == 0)
			if i == 7 {
				a.EventID = "nul\x00"
			}
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		all := slices.Clone(batch)
		r.flush(batch)
		for i, rec := range all {
			<-rec.done
			require.Equal(t, i == 7, rec.err != nil, "%d: %v", i, rec.err)
		}
		require.Len(t, historyOf(t, pool, id), 19)
	})

	// A batch may hold outcomes of every kind: the successes that change nothing go a shorter way than the others, and it
	// shows nowhere.
	t.Run("BatchHoldsOutcomesOfEveryKind", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		add := func(change string) uuid.UUID {
			id := addWebhook(t, pool)
			if change != "" {
				execute(t, pool, "UPDATE webhooks SET "+change+" WHERE id = $1", id)
			}
			return id
		}
		well, recovering, fails, both, off, planned := add(""), add("failure_count = 3"), add(""), add(""), add("is_active = false"), add("")
		gone := uuid.New()
		repeated := outcome(well, true)
		var batch []*recording
		for _, a := range []Attempt{
			repeated, outcome(well, true), outcome(recovering, true), outcome(fails, false), outcome(both, false), outcome(both, true),
			outcome(off, true), outcome(gone, true), repeated,
		} {
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		batch = append(batch, &recording{plan: &Plan{WebhookID: planned, EventID: "e", Number: 1, Step: 1, Trigger: webhook.TriggerEvent}, done: make(chan struct{})})
		all := slices.Clone(batch)
		r.flush(batch)
		var after []Recorded
		for _, rec := range all {
			<-rec.done
			require.NoError(t, rec.err)
			after = append(after, rec.after)
		}
		fine := Recorded{Active: true}
		failed := Recorded{Active: true, FailureCount: 1}
		require.Equal(t, []Recorded{fine, fine, fine, failed, failed, fine, {}, {Gone: true}, fine, {Active: true, Planned: true}}, after)
		for id, want := range map[uuid.UUID]struct {
			rows   int
			count  int32
			queued bool
		}{well: {2, 0, false}, recovering: {1, 0, false}, fails: {1, 1, true}, both: {2, 0, true}, off: {1, 0, false}, planned: {0, 0, true}} {
			require.Len(t, historyOf(t, pool, id), want.rows)
			require.Equal(t, want.count, stateOf(t, pool, id).FailureCount)
			require.Equal(t, want.queued, stateOf(t, pool, id).Queued)
		}
		require.Empty(t, historyOf(t, pool, gone))
	})

	t.Run("LostConnectionsLoseNothing", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		well, failing := addWebhook(t, pool), addWebhook(t, pool)
		stop := make(chan struct{})
		var killer sync.WaitGroup
		killer.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					// The killer's own connection survives: a failure to get one only means that it was killed before.
					_, _ = pool.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
				}
			}
		})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				for range 50 {
					a := outcome(well, true)
					if i%4 == 0 {
						a = outcome(failing, false)
						a.RetryIn = time.Hour
					}
					if _, err := r.Record(context.Background(), a); err != nil {
						t.Errorf("record: %v", err)
					}
				}
			})
		}
		all.Wait()
		close(stop)
		killer.Wait()
		require.Len(t, historyOf(t, pool, well), 300)
		require.Len(t, historyOf(t, pool, failing), 100)
		require.Len(t, queueOf(t, pool, failing), 100, "each failure has its plan, and each only one")
		require.Equal(t, int32(maxEarlyFailures), stateOf(t, pool, failing).FailureCount)
	})
}

func TestRecorder_Close(t *testing.T) {
	t.Parallel()

	t.Run("RecordsWhatIsPending", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		held := begin(t, pool)
		require.NoError(t, db.LockWebhook(t.Context(), held, id))
		recorded := make(chan error)
		go func() {
			_, err := r.Record(context.Background(), outcome(id, true))
			recorded <- err
		}()
		waitsForLock(t, pool, 1)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			r.Close(context.Background())
		}()
		require.NoError(t, held.Rollback(t.Context()))
		require.NoError(t, <-recorded)
		<-closed
		_, err := r.Record(t.Context(), outcome(id, true))
		require.ErrorIs(t, err, errRecorderClosed)
	})

	t.Run("GivesUpInTime", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		held := begin(t, pool)
		require.NoError(t, db.LockWebhook(t.Context(), held, id))
		recorded := make(chan error)
		go func() {
			_, err := r.Record(context.Background(), outcome(id, true))
			recorded <- err
		}()
		waitsForLock(t, pool, 1)
		now, cancel := context.WithCancel(t.Context())
		cancel()
		r.Close(now) // while the lock is held still
		require.ErrorIs(t, <-recorded, errRecorderClosed)
	})
}

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
		require.Equal(t, []any{1, "event"}, []any{rows[0].Step, rows[0].Trigger}, "it is hurried, and stays what it was")
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

// TestUnwoken: of the rows of a webhook at least one wakes its queue, and of many that see each other only the oldest.
func TestUnwoken(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	id := addWebhook(t, pool)
	insert := func(t *testing.T, conn db.DBTX, event, due string) (seq int64, dueAt time.Time) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), `INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			VALUES ($1, $2, 1, 1, 'event', now() + $3::text::interval) RETURNING seq, due_at`, id, event, due).Scan(&seq, &dueAt))
		return seq, dueAt
	}
	wakes := func(t *testing.T, seq int64, dueAt time.Time) bool {
		t.Helper()
		ids, err := db.New().Unwoken(t.Context(), pool, db.UnwokenParams{WebhookIds: []uuid.UUID{id}, Seqs: []int64{seq}, DueAts: []time.Time{dueAt}})
		require.NoError(t, err)
		return len(ids) > 0
	}

	for name, c := range map[string]struct {
		first, second string
		want          []bool
	}{
		"OldestDueWakes":          {"-1 s", "-1 s", []bool{true, false}},
		"OldestWakesForTheSooner": {"-1 s", "-1 h", []bool{true, false}},
		"SoonerWakesToo":          {"1 h", "1 min", []bool{true, true}},
		"LaterIsSeenInTime":       {"1 min", "1 h", []bool{true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, pool, "DELETE FROM queue")
			firstSeq, firstDue := insert(t, pool, "first", c.first)
			secondSeq, secondDue := insert(t, pool, "second", c.second)
			require.Equal(t, c.want, []bool{wakes(t, firstSeq, firstDue), wakes(t, secondSeq, secondDue)})
		})
	}
	t.Run("ManyRowsWakeOnce", func(t *testing.T) {
		execute(t, pool, "DELETE FROM queue")
		var asked db.UnwokenParams
		for i := range 5 {
			seq, due := insert(t, pool, fmt.Sprint(i), "-1 s")
			asked.WebhookIds, asked.Seqs, asked.DueAts = append(asked.WebhookIds, id), append(asked.Seqs, seq), append(asked.DueAts, due)
		}
		ids, err := db.New().Unwoken(t.Context(), pool, asked)
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{id}, ids)
	})
	for name, firstCommits := range map[string]bool{"OlderCommitsFirst": true, "YoungerCommitsFirst": false} {
		t.Run(name, func(t *testing.T) {
			execute(t, pool, "DELETE FROM queue")
			older, younger := begin(t, pool), begin(t, pool)
			olderSeq, olderDue := insert(t, older, "older", "0")
			youngerSeq, youngerDue := insert(t, younger, "younger", "0")
			if firstCommits {
				require.NoError(t, older.Commit(t.Context()))
				require.True(t, wakes(t, olderSeq, olderDue))
				require.NoError(t, younger.Commit(t.Context()))
				require.False(t, wakes(t, youngerSeq, youngerDue))
				return
			}
			require.NoError(t, younger.Commit(t.Context()))
			require.True(t, wakes(t, youngerSeq, youngerDue), "it does not see the older one")
			require.NoError(t, older.Commit(t.Context()))
			require.True(t, wakes(t, olderSeq, olderDue), "nor can the older one know")
		})
	}
}

// TestCountersEqualTheHistory: whatever finishes at once, in any order, in two processes, with re-enablings in between,
// a webhook's health and its queue are what recording one by one in the recorded order gives.
func TestCountersEqualTheHistory(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	first, _ := newTestRecorder(t, pool)
	second, _ := newTestRecorder(t, pool)
	recorders := []*Recorder{first, second}
	rapid.Check(t, func(rt *rapid.T) {
		ids := make([]uuid.UUID, rapid.IntRange(1, 3).Draw(rt, "webhooks"))
		for i := range ids {
			ids[i] = addWebhook(t, pool)
		}
		type step struct {
			webhook int
			kind    string
		}
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{rapid.IntRange(0, len(ids)-1).Draw(rt, "webhook"), rapid.SampledFrom([]string{"success", "failure", "failure", "failure", "failure", "failure", "again", "repeat", "enable"}).Draw(rt, "kind")}
		}), 1, 80).Draw(rt, "steps")
		goroutines := rapid.IntRange(1, 16).Draw(rt, "goroutines")

		var mu sync.Mutex
		attempts := map[uuid.UUID]Attempt{}
		enabled := map[uuid.UUID][]int64{} // the greatest seq before each enabling
		enable := func(id uuid.UUID) {
			var upto int64
			err := db.WithTx(context.Background(), pool, func(tx pgx.Tx) error {
				if err := db.LockWebhook(context.Background(), tx, id); err != nil {
					return err
				}
				if err := tx.QueryRow(context.Background(), "SELECT coalesce(max(seq), 0) FROM deliveries WHERE webhook_id = $1", id).Scan(&upto); err != nil {
					return err
				}
				_, err := tx.Exec(context.Background(), "UPDATE webhooks SET is_active = true, failure_count = 0, early_failures = 0, generation = generation + 1 WHERE id = $1", id)
				return err
			})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			enabled[id] = append(enabled[id], upto)
		}
		var all sync.WaitGroup
		work := make(chan step)
		for range goroutines {
			all.Go(func() {
				last := map[int]Attempt{}
				for s := range work {
					a, isKnown := last[s.webhook]
					switch {
					case s.kind == "enable":
						enable(ids[s.webhook])
						continue
					case s.kind == "again" && isKnown:
						a = again(a, rand.IntN(2) == 0)
					case s.kind != "repeat" || !isKnown:
						a = prepared(t, pool, ids[s.webhook], s.kind == "success")
						a.RetryIn = time.Hour
					}
					last[s.webhook] = a
					mu.Lock()
					attempts[a.DeliveryID] = a
					mu.Unlock()
					time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) // so that others are recorded meanwhile
					if _, err := recorders[rand.IntN(2)].Record(context.Background(), a); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, s := range steps {
			work <- s
		}
		close(work)
		all.Wait()

		for _, id := range ids {
			want := Health{Active: true}
			planned := map[string]int{}
			rows, err := pool.Query(context.Background(), "SELECT id, seq FROM deliveries WHERE webhook_id = $1 ORDER BY seq", id)
			require.NoError(rt, err)
			type recorded struct {
				ID  uuid.UUID
				Seq int64
			}
			history, err := pgx.CollectRows(rows, pgx.RowToStructByPos[recorded])
			require.NoError(rt, err)
			slices.Sort(enabled[id])
			enableAll := func(before int64) {
				for len(enabled[id]) > 0 && enabled[id][0] < before {
					want.Active, want.FailureCount, want.EarlyFailures, want.Generation = true, 0, 0, want.Generation+1
					enabled[id] = enabled[id][1:]
				}
			}
			for _, row := range history {
				enableAll(row.Seq)
				a := attempts[row.ID]
				want = want.After(a, false)
				if planned[a.EventID] <= a.Number {
					delete(planned, a.EventID)
				}
				if !a.Success && a.RetryIn > 0 && planned[a.EventID] == 0 {
					planned[a.EventID] = a.Number + 1
				}
				if !want.Active {
					clear(planned)
				}
			}
			enableAll(1 << 62)
			require.Equal(rt, want, stateOf(rt, pool, id).Health)
			got := map[string]int{}
			for _, row := range queueOf(rt, pool, id) {
				got[row.EventID] = row.Attempt
			}
			require.True(rt, maps.Equal(planned, got), "planned %v, not %v", got, planned)
		}
	})
}

func BenchmarkRecorder(b *testing.B) {
	pool := dbtest.New(b)
	for _, webhooks := range []int{1, 100} {
		b.Run(fmt.Sprintf("webhooks=%d", webhooks), func(b *testing.B) {
			r, _ := newTestRecorder(b, pool)
			ids := make([]uuid.UUID, webhooks)
			for i := range ids {
				ids[i] = addWebhook(b, pool)
			}
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := r.Record(context.Background(), outcome(ids[rand.IntN(len(ids))], true)); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
