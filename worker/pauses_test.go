package worker_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// TestPaused: of what comes in during a pause nothing is sent and nothing counts, also when the workers are replaced meanwhile.
// Once it is over, all of it arrives once, in the order of its acceptance for each webhook.
func TestPaused(t *testing.T) {
	for name, of := range map[string]struct {
		scope history.PauseScope
		value string
	}{"all": {history.PauseAll, ""}, "bot": {history.PauseBot, "bot"}, "host": {history.PauseHost, "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const events = 50
			schedule := webhook.Schedule{time.Hour, time.Second, time.Second, time.Second}
			s := newStack(t, schedule)
			var mu sync.Mutex
			order := map[string][]string{}
			s.answer(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				order[r.URL.Path] = append(order[r.URL.Path], r.Header.Get("webhook-id"))
				if r.URL.Path == "/fails" && r.Header.Get("webhook-id") == "before" && len(slices.DeleteFunc(slices.Clone(order["/fails"]), func(id string) bool { return id != "before" })) <= 2 {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			arrived := func(path string) []string {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(order[path])
			}
			healthy, failing := s.subscribe(t, "/takes"), s.subscribe(t, "/fails")
			s.emit(t, "before")
			require.Eventually(t, func() bool {
				return s.state(t, failing) == "queued, 1 failures, 1 rows" && s.state(t, healthy) == "direct, 0 failures, 0 rows"
			}, 3*time.Minute, 10*time.Millisecond)
			id := workflows.QueueWorkflowID(failing)
			s.awaitDetails(t, id, "The next attempt is due at") // it runs before the pause, which starts none

			pauses := &history.Pauses{Pool: s.pool}
			_, err := pauses.Begin(t.Context(), of.scope, of.value, "an outage of ours")
			require.NoError(t, err)
			var accepted []string
			for i := range events {
				id := fmt.Sprintf("paused-%02d", i)
				accepted = append(accepted, id)
				sum := result[workflows.Summary](t, s.client, s.emit(t, id).WorkflowID)
				require.Equal(t, 2, sum.Queued, "%v", sum)
				if i == events/2 {
					s.stopWorkers()
					s.startWorker(t, schedule)
				}
			}
			// Its workflow wakes for the retry, which is not due until then however long all of this took, and finds the pause.
			_, err = s.pool.Exec(t.Context(), "UPDATE queue SET due_at = now() WHERE due_at > now()")
			require.NoError(t, err)
			require.NoError(t, s.client.SignalWorkflow(t.Context(), id, "", workflows.WakeSignal, nil))
			s.awaitDetails(t, id, "**Paused** by `system` since ")
			require.Contains(t, s.details(t, id), "an outage of ours")
			require.Equal(t, []string{"before"}, arrived("/takes"))
			require.Equal(t, []string{"before"}, arrived("/fails"))
			require.Equal(t, "queued, 0 failures, 50 rows", s.state(t, healthy))
			require.Equal(t, "queued, 1 failures, 51 rows", s.state(t, failing))

			require.NoError(t, pauses.End(t.Context(), of.scope, of.value))
			s.emit(t, "after")
			all := append(append([]string{"before"}, accepted...), "after")
			require.Eventually(t, func() bool { return len(arrived("/takes")) >= len(all) && len(arrived("/fails")) >= len(all)+2 }, 3*time.Minute, 20*time.Millisecond)
			requireOrder(t, all, arrived("/takes"))
			firsts := map[string]bool{}
			first := slices.DeleteFunc(arrived("/fails"), func(id string) bool { was := firsts[id]; firsts[id] = true; return was })
			requireOrder(t, all, first)
			for _, of := range []uuid.UUID{healthy, failing} {
				require.Eventually(t, func() bool { return s.state(t, of) == "direct, 0 failures, 0 rows" }, 3*time.Minute, 20*time.Millisecond)
			}
		})
	}
}

// requireOrder requires that all has arrived, each once, and in order, but that those of a window are sent side by side: the
// window begins with one and doubles.
func requireOrder(t *testing.T, all, arrived []string) {
	t.Helper()
	require.ElementsMatch(t, all, arrived)
	for place, id := range arrived {
		require.InDelta(t, slices.Index(all, id), place, float64(min(place, 32)), "%v", arrived)
	}
}
