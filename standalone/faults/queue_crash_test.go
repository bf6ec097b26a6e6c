package faults_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestKilledWhileAQueueIsAtWork kills the worker at each place of a queue's work between which a crash makes a difference,
// and replaces it; the short form at three of them. The receiver fails every event's first attempt, so that each goes through
// the queue, and one event for ever, which waits for its last attempt, so that the queue's workflow goes on, and continues as a
// new run.
func TestKilledWhileAQueueIsAtWork(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Binary: testkit.Build(t, "-tags=failpoints"), Servers: durable, Apps: []testkit.App{{Args: []string{"api"}}},
	})
	worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}, Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "200ms,1s,1s,1s,1h"}})
	places := either([]place{{"queued", 1}, {"before-wake", 2}, {"before-removal", 3}}, []place{
		{"queued", 1}, {"before-wake", 2}, {"after-wake", 2}, {"after-post", 5}, {"before-commit", 4}, {"before-removal", 3}, {"after-commit", 4}, {"continue-as-new", 1},
	})
	rounds(t, shareOf(100)/len(places), func(t *testing.T, round int) {
		q, places := newQueueLedger(t, stack, fmt.Sprintf("queue-%d", round)), places
		if round > 1 {
			places = places[:len(places)-1] // the last takes hundreds of events
		}
		for _, at := range places {
			worker.Env["MATHUB_FAILPOINT"] = at.String()
			worker.Launch(t)
			q.feed(t, worker, 400)
			require.Contains(t, worker.Process().Ended(), "killed", at.name)
			t.Logf("killed at %s after %d events", at.name, len(q.events))
			q.crashed(t, "kill at "+at.name)
		}
		delete(worker.Env, "MATHUB_FAILPOINT")
		worker.Start(t)
		repeats := q.settle(t)
		worker.Stop(t)
		t.Logf("%d events, %d kills: %d repeats; %v", len(q.events), len(places), repeats, q.cuts)
	})
}

// queueLedger feeds one webhook whose receiver fails each event's first attempt.
type queueLedger struct {
	name     string
	stack    *testkit.Stack
	bot      *testkit.Bot
	hook     testkit.Webhook
	receiver *testkit.Receiver
	events   []string

	mu   sync.Mutex
	seen map[string]bool // events whose first attempt has come
	cuts *cuts           // by delivery
}

// event is the id of the n-th.
func (q *queueLedger) event(n int) string { return fmt.Sprintf("%s-%d", q.name, n) }

func newQueueLedger(t *testing.T, stack *testkit.Stack, name string) *queueLedger {
	t.Helper()
	q := &queueLedger{name: name, stack: stack, receiver: testkit.NewReceiver(t), bot: stack.API().CreateBot(t, name), seen: map[string]bool{}, cuts: newCuts()}
	neverTaken := q.event(0)
	q.receiver.Answer("/", func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get("webhook-id")
		q.mu.Lock()
		defer q.mu.Unlock()
		if !q.seen[id] || id == neverTaken {
			q.seen[id] = true
			w.WriteHeader(http.StatusServiceUnavailable)
			if id == neverTaken {
				return
			}
		}
	})
	q.hook = q.bot.CreateWebhook(t, q.receiver.URL("/"), "", post)
	return q
}

// feed emits events, each when the one before has been taken, until the worker is dead, and so many at most.
func (q *queueLedger) feed(t *testing.T, worker *testkit.App, most int) {
	t.Helper()
	for range most {
		id := q.event(len(q.events))
		q.events = append(q.events, id)
		require.NoError(t, emitPatiently(t.Context(), q.stack.API(), testkit.Event{ID: id, Type: post, BotIDs: []string{q.bot.ID}}))
		for deadline := time.Now().Add(slack * time.Minute); len(q.events) > 1 && !q.taken(t, id); time.Sleep(20 * time.Millisecond) { // before it looks again
			select {
			case <-worker.Process().Done():
				return
			default:
				require.True(t, time.Now().Before(deadline), "event %s is not taken", id)
			}
		}
	}
	t.Fatalf("the worker never came to %s", worker.Env["MATHUB_FAILPOINT"])
}

func (q *queueLedger) taken(t *testing.T, id string) (taken bool) {
	t.Helper()
	require.NoError(t, q.stack.Database(t).QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM deliveries WHERE event_id = $1 AND success)", id).Scan(&taken))
	return taken
}

// recorded are the deliveries in the history.
func (q *queueLedger) recorded(t *testing.T) map[string]bool {
	t.Helper()
	var ids []string
	require.NoError(t, q.stack.Database(t).QueryRow(t.Context(), "SELECT coalesce(array_agg(id::text), '{}') FROM deliveries WHERE webhook_id = $1", q.hook.ID).Scan(&ids))
	recorded := map[string]bool{}
	for _, id := range ids {
		recorded[id] = true
	}
	return recorded
}

// crashed notes which deliveries were sent and not recorded when the worker died: these may be repeated, and no others.
func (q *queueLedger) crashed(t *testing.T, by string) {
	t.Helper()
	died := time.Now()
	q.receiver.AwaitSendersGone(t) // what the dead process has sent is still on its way
	recorded := q.recorded(t)
	for _, r := range q.receiver.Requests("/") {
		if id := r.Header.Get("X-Mathub-Delivery"); !recorded[id] {
			q.cuts.note(by, died, id)
		}
	}
}

// settle waits until every event is taken, and checks that what came is in the history, once each but for what crashes
// explain, and that nothing is left but the event that is never taken.
func (q *queueLedger) settle(t *testing.T) (repeats int) {
	t.Helper()
	var left int
	require.Eventually(t, func() bool {
		err := q.stack.Database(t).QueryRow(t.Context(), `SELECT count(*) FROM unnest($1::text[]) AS e (id)
			WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.event_id = e.id AND d.success)`, q.events).Scan(&left)
		return err == nil && left == 1
	}, slack*2*time.Minute, 100*time.Millisecond, "all but one are taken")
	came := map[string][]time.Time{}
	for _, r := range q.receiver.Requests("/") {
		id := r.Header.Get("X-Mathub-Delivery")
		came[id] = append(came[id], r.At)
	}
	var recorded map[string]bool
	require.Eventually(t, func() bool { // the event that is never taken may be on its way
		recorded = q.recorded(t)
		return !slices.ContainsFunc(slices.Collect(maps.Keys(came)), func(id string) bool { return !recorded[id] })
	}, time.Minute, 100*time.Millisecond, "what came is in the history")
	q.cuts.stalled = stalls(t, q.stack)
	for id, times := range came {
		repeats += q.cuts.explain(t, id, times)
	}
	for _, r := range q.receiver.Requests("/") { // once more, for what came since
		delete(recorded, r.Header.Get("X-Mathub-Delivery"))
	}
	require.Empty(t, recorded, "what is in the history came")
	var successes int
	require.NoError(t, q.stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE webhook_id = $1 AND success", q.hook.ID).Scan(&successes))
	require.Equal(t, len(q.events)-1, successes, "each was taken once")
	hook := q.bot.Webhook(t, q.hook.ID)
	require.True(t, hook.IsActive)
	return repeats
}
