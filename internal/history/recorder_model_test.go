package history

import (
	"context"
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
)

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
