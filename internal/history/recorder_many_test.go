package history

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func TestRecorder_RecordMany(t *testing.T) {
	t.Parallel()

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
				if err != nil || after.FailureCount != 1 || !after.Planned {
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

	t.Run("AttemptThatDisablesIsNamed", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		execute(t, pool, "UPDATE bots SET notify_url = 'sealed'")
		execute(t, pool, "UPDATE webhooks SET failure_count = 9, failure_run = 1")
		tenth, later, success := prepared(t, pool, id, false), prepared(t, pool, id, false), outcome(id, true)
		later.Error = "timeout"
		var batch []*recording
		for _, a := range []Attempt{tenth, later, success} {
			batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
		}
		r.flush(batch)
		require.Equal(t, tenth.DeliveryID, stateOf(t, pool, id).DisabledBy.UUID)
		var event, lastError string
		var failures int
		scan(t, pool, "SELECT event_id, last_error, failure_count FROM notices", nil, &event, &lastError, &failures)
		require.Equal(t, []any{tenth.EventID, "HTTP 500", 10}, []any{event, lastError, failures}, "whatever comes after it in its batch")
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
				case <-time.After(5 * time.Millisecond): // the rate of the cuts
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
