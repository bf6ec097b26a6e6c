package activities

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func newTestRecorder(t testing.TB, pool *pgxpool.Pool) *Recorder {
	r := NewRecorder(pool, slog.New(slog.DiscardHandler), nil)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

func addWebhook(t testing.TB, pool *pgxpool.Pool) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	execute(t, pool, "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	execute(t, pool, "INSERT INTO webhooks (id, bot_id, url, events) VALUES ($1, 'bot', 'https://example.com', '{post.created}')", id)
	return id
}

func execute(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func outcome(webhookID uuid.UUID, success bool) Attempt {
	event := webhook.NewID()
	a := Attempt{
		DeliveryID: webhook.DeliveryID(event, webhookID, 1), WebhookID: webhookID, EventID: event, Number: 1,
		Success: success, StatusCode: 200, ResponseBody: []byte("ok"), Duration: time.Millisecond, StartedAt: time.Now(),
	}
	if !success {
		a.StatusCode, a.Error = 500, "HTTP 500"
	}
	return a
}

type state struct {
	Active     bool
	Count      int32
	Generation int32
	DisabledAt *time.Time
	Xmin       string
}

func stateOf(t require.TestingT, pool *pgxpool.Pool, id uuid.UUID) (s state) {
	err := pool.QueryRow(context.Background(), "SELECT is_active, failure_count, generation, disabled_at, xmin::text FROM webhooks WHERE id = $1", id).
		Scan(&s.Active, &s.Count, &s.Generation, &s.DisabledAt, &s.Xmin)
	require.NoError(t, err)
	return s
}

type historyRow struct {
	Success    bool
	Generation int32
}

// historyOf is the webhook's history, oldest recording first.
func historyOf(t require.TestingT, pool *pgxpool.Pool, id uuid.UUID) (rows []historyRow) {
	found, err := pool.Query(context.Background(), "SELECT success, generation FROM deliveries WHERE webhook_id = $1 ORDER BY seq", id)
	require.NoError(t, err)
	defer found.Close()
	for found.Next() {
		var r historyRow
		require.NoError(t, found.Scan(&r.Success, &r.Generation))
		rows = append(rows, r)
	}
	require.NoError(t, found.Err())
	return rows
}

func TestTenFailuresInARowDisable(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	for i := 1; i <= webhook.MaxFailures; i++ {
		require.True(t, stateOf(t, pool, id).Active)
		after, err := r.Record(t.Context(), outcome(id, false))
		require.NoError(t, err)
		require.Equal(t, Recorded{Active: i < webhook.MaxFailures, FailureCount: i}, after)
	}
	s := stateOf(t, pool, id)
	require.False(t, s.Active)
	require.NotNil(t, s.DisabledAt)
	require.Len(t, historyOf(t, pool, id), webhook.MaxFailures)

	// A success, of a test event say, ends the run but enables nothing.
	after, err := r.Record(t.Context(), outcome(id, true))
	require.NoError(t, err)
	require.Equal(t, Recorded{}, after)
	require.Equal(t, s.DisabledAt, stateOf(t, pool, id).DisabledAt)
}

func TestASuccessEndsTheRun(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	for range 3 {
		for range webhook.MaxFailures - 1 {
			_, err := r.Record(t.Context(), outcome(id, false))
			require.NoError(t, err)
		}
		after, err := r.Record(t.Context(), outcome(id, true))
		require.NoError(t, err)
		require.Equal(t, Recorded{Active: true}, after)
	}
}

func TestAHealthySuccessDoesNotTouchTheWebhook(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	before := stateOf(t, pool, id)
	_, err := r.Record(t.Context(), outcome(id, true))
	require.NoError(t, err)
	require.Equal(t, before, stateOf(t, pool, id), "xmin tells every write")
}

func TestRecordingAgainChangesNothing(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, other := newTestRecorder(t, pool), newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	a := outcome(id, false)
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
	require.Equal(t, int32(1), stateOf(t, pool, id).Count)
	require.Len(t, historyOf(t, pool, id), 1)
}

func TestAFailureFromBeforeTheReenableDoesNotCount(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	began := outcome(id, false)
	execute(t, pool, "UPDATE webhooks SET generation = generation + 1 WHERE id = $1", id)
	after, err := r.Record(t.Context(), began)
	require.NoError(t, err)
	require.Equal(t, Recorded{Active: true}, after)
	require.Len(t, historyOf(t, pool, id), 1, "it is in the history all the same")
}

func TestADeletedWebhookLeavesNoRow(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	execute(t, pool, "DELETE FROM webhooks WHERE id = $1", id)
	after, err := r.Record(t.Context(), outcome(id, false))
	require.NoError(t, err)
	require.True(t, after.Gone)
	require.Empty(t, historyOf(t, pool, id))
}

func TestOneRefusedRowDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	var all sync.WaitGroup
	for i := range 20 {
		a := outcome(id, true)
		if i == 7 {
			a.EventID = "nul\x00"
		}
		all.Go(func() {
			_, err := r.Record(context.Background(), a)
			if (err != nil) != (i == 7) {
				t.Errorf("outcome %d: %v", i, err)
			}
		})
	}
	all.Wait()
	require.Len(t, historyOf(t, pool, id), 19)
}

// TestABatchHoldsOutcomesOfEveryKind: the successes that change nothing go a shorter way than the others, and it shows
// nowhere.
func TestABatchHoldsOutcomesOfEveryKind(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	add := func(change string) uuid.UUID {
		id := addWebhook(t, pool)
		if change != "" {
			execute(t, pool, "UPDATE webhooks SET "+change+" WHERE id = $1", id)
		}
		return id
	}
	well, recovering, fails, both, slow, quick, off := add(""), add("failure_count = 3"), add(""), add(""), add(""), add("is_slow = true"), add("is_active = false")
	gone := uuid.New()
	late := outcome(slow, true)
	late.Duration = slowAnswer + time.Millisecond
	repeated := outcome(well, true)
	var batch []*recording
	for _, a := range []Attempt{
		repeated, outcome(well, true), outcome(recovering, true), outcome(fails, false), outcome(both, false), outcome(both, true),
		late, outcome(quick, true), outcome(off, true), outcome(gone, true), repeated,
	} {
		batch = append(batch, &recording{attempt: a, done: make(chan struct{})})
	}
	all := slices.Clone(batch)
	r.flush(batch)
	var after []Recorded
	for _, rec := range all {
		<-rec.done
		require.NoError(t, rec.err)
		after = append(after, rec.after)
	}
	fine := Recorded{Active: true}
	require.Equal(t, []Recorded{
		fine, fine, fine, {Active: true, FailureCount: 1}, {Active: true, FailureCount: 1}, fine, fine, fine, {}, {Gone: true}, fine,
	}, after)
	for id, want := range map[uuid.UUID]struct {
		rows  int
		count int32
		slow  bool
	}{well: {2, 0, false}, recovering: {1, 0, false}, fails: {1, 1, false}, both: {2, 0, false}, slow: {1, 0, true}, quick: {1, 0, false}, off: {1, 0, false}, gone: {}} {
		require.Len(t, historyOf(t, pool, id), want.rows)
		if id == gone {
			continue
		}
		require.Equal(t, want.count, stateOf(t, pool, id).Count)
		var isSlow bool
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT is_slow FROM webhooks WHERE id = $1", id).Scan(&isSlow))
		require.Equal(t, want.slow, isSlow)
	}
}

func TestLostConnectionsLoseNoOutcome(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
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
	for range 8 {
		all.Go(func() {
			for range 50 {
				if _, err := r.Record(context.Background(), outcome(id, true)); err != nil {
					t.Errorf("record: %v", err)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	killer.Wait()
	require.Len(t, historyOf(t, pool, id), 400)
}

// TestCountersEqualTheHistory: whatever finishes at once, in any order, in two processes, with re-enablings in
// between, the counters are what recording one by one in the recorded order gives.
func TestCountersEqualTheHistory(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	recorders := []*Recorder{newTestRecorder(t, pool), newTestRecorder(t, pool)}
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
			return step{rapid.IntRange(0, len(ids)-1).Draw(rt, "webhook"), rapid.SampledFrom([]string{"success", "failure", "failure", "failure", "failure", "repeat", "enable"}).Draw(rt, "kind")}
		}), 1, 80).Draw(rt, "steps")
		goroutines := rapid.IntRange(1, 16).Draw(rt, "goroutines")
		enabled := make([]bool, len(ids))

		var all sync.WaitGroup
		work := make(chan step)
		for range goroutines {
			all.Go(func() {
				var last Attempt
				for s := range work {
					id := ids[s.webhook]
					if s.kind == "enable" {
						_, err := pool.Exec(context.Background(), "UPDATE webhooks SET is_active = true, failure_count = 0, disabled_at = NULL, generation = generation + 1 WHERE id = $1", id)
						if err != nil {
							t.Error(err)
						}
						continue
					}
					if s.kind != "repeat" || last.EventID == "" {
						last = outcome(id, s.kind == "success")
						last.Generation = stateOf(t, pool, id).Generation
						time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
					}
					if _, err := recorders[rand.IntN(2)].Record(context.Background(), last); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, s := range steps {
			enabled[s.webhook] = enabled[s.webhook] || s.kind == "enable"
			work <- s
		}
		close(work)
		all.Wait()

		for i, id := range ids {
			now, history := stateOf(rt, pool, id), historyOf(rt, pool, id)
			run, top := int32(0), slices.Clone(history)
			slices.Reverse(top)
			for _, row := range top {
				if row.Success {
					break
				}
				if row.Generation == now.Generation {
					run++
				}
			}
			require.Equal(rt, run, now.Count, "the run of failures on top of %v", history)
			if enabled[i] {
				continue
			}
			s := standing{Active: true}
			for _, row := range history {
				s = tally(s, Attempt{Success: row.Success, Generation: row.Generation})
			}
			require.Equal(rt, s.FailureCount, now.Count)
			require.Equal(rt, s.Active, now.Active)
			require.Equal(rt, s.Active, now.DisabledAt == nil)
		}
	})
}

func BenchmarkRecorder(b *testing.B) {
	pool := dbtest.New(b)
	for _, webhooks := range []int{1, 100} {
		b.Run(fmt.Sprintf("webhooks=%d", webhooks), func(b *testing.B) {
			r := newTestRecorder(b, pool)
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
