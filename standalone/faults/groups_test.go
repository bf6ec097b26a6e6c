package faults_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestGroupsLoseNothing breaks the product while bursts of events share workflows and batches of 100 come in: the process
// that takes them in and delivers them is killed at each place between which a crash makes a difference, and then Postgres
// crashes and Temporal is killed. Emitters that get no answer, or are refused, emit again with the same ids, at another
// process.
func TestGroupsLoseNothing(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Binary: testkit.Build(t, "-tags=failpoints"), Servers: durable, Apps: []testkit.App{{Args: []string{"api"}}},
		Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "200ms,1s,1s,1s,1s"},
	})
	victim := stack.NewApp(t, testkit.App{Args: []string{"serve"}})
	g := newGroupLedger(t, stack, stack.APIOf(victim), stack.API())
	rounds := either(1, 10)

	killed := t.Run("a process is killed", func(t *testing.T) {
		places := []struct {
			name    string
			hits    int  // of the place, until the kill; as many at most in the long form
			onStart bool // it is where a workflow is started, so that only who emits comes by
		}{
			{"before-start", 2, true},
			{"started", 10, true},
			{"accepted", 2, false},
			{"queued", 1, false},
			{"before-wake", 1, false},
			{"before-post", 150, false},
			{"after-post", 150, false},
			{"before-commit", 4, false},
			{"after-commit", 4, false},
			{"before-completion", 1, false},
		}
		var emitted []func()
		for round := range rounds {
			for _, place := range places {
				g.queueFlaky(t)
				victim.Env["MATHUB_FAILPOINT"] = fmt.Sprintf("%s:%d", place.name, either(place.hits, 1+rand.IntN(place.hits)))
				if place.onStart {
					victim.Start(t)
				} else {
					victim.Launch(t) // what is left of the last burst may kill it before it is ready
				}
				emitted = append(emitted, g.burst(t, 60*(1+round%3), 1+round%3))
				select {
				case <-victim.Process().Done():
				case <-time.After(4 * time.Minute): // the most that it may take, beside other work
					t.Fatalf("the process never came to %s", place.name)
				}
				require.Contains(t, victim.Process().Ended(), "killed", place.name)
				g.crashed(t)
			}
		}
		delete(victim.Env, "MATHUB_FAILPOINT")
		victim.Start(t)
		for _, wait := range emitted {
			wait()
		}
		repeats := g.settle(t)
		t.Logf("%d events in %d workflows to %d webhooks, %d kills: %d repeats, of %d POSTs that were not recorded at a kill",
			len(g.accepted), g.workflows(t), len(g.hooks), rounds*len(places), repeats, g.mayRepeat())
	})

	if !killed {
		return
	}
	t.Run("Postgres crashes, Temporal is killed", func(t *testing.T) {
		before := g.repeats(t)
		for range rounds {
			wait := g.burst(t, 60, 2)
			require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGQUIT))
			duringPostgres := g.burst(t, 20, 1)
			time.Sleep(either(2*time.Second, outage)) // the length of the outage
			require.NoError(t, stack.Servers.StartPostgres(t.Context()))
			restartTemporalUnlessItWorks(t, stack)
			wait()
			wait = g.burst(t, 60, 2)
			stack.Servers.Temporal.Kill()
			duringTemporal := g.burst(t, 20, 1)
			time.Sleep(either(2*time.Second, outage)) // the length of the outage
			require.NoError(t, stack.Servers.StartTemporal(t.Context()))
			wait()
			duringPostgres()
			duringTemporal()
		}
		require.Equal(t, before, g.settle(t), "repeats without a crash of the product")
		survived(t, stack)
	})
}

// groupLedger emits bursts and batches to webhooks, of which one fails now and then, and settles accounts afterwards.
type groupLedger struct {
	stack *testkit.Stack
	bot   *testkit.Bot
	apis  []*testkit.API // emitters go from one to the next when they get no answer
	hooks []*groupHook

	mu        sync.Mutex
	emitted   int
	accepted  []string
	explained map[string]int // by delivery id, how often it had come and was not recorded at the last kill: it may come once more
}

type groupHook struct {
	testkit.Webhook
	receiver *testkit.Receiver
	path     string
	flaky    bool
}

// newGroupLedger makes three webhooks that take everything and one that does not take the first attempt at one event in fifty.
func newGroupLedger(t *testing.T, stack *testkit.Stack, apis ...*testkit.API) *groupLedger {
	t.Helper()
	g := &groupLedger{stack: stack, bot: stack.API().CreateBot(t, "groups"), apis: apis, explained: map[string]int{}}
	for i := range 4 {
		h := &groupHook{receiver: testkit.NewReceiver(t), path: fmt.Sprintf("/groups/%d", i), flaky: i == 3}
		take := h.receiver.Slow(5*time.Millisecond, testkit.Status(http.StatusNoContent))
		h.receiver.Answer(h.path, take)
		if h.flaky {
			var mu sync.Mutex
			seen := map[string]bool{}
			h.receiver.Answer(h.path, func(w http.ResponseWriter, r *http.Request) {
				id := r.Header.Get("Webhook-Id")
				mu.Lock()
				again := seen[id]
				seen[id] = true
				mu.Unlock()
				if !again && fails(id) {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				take(w, r)
			})
		}
		h.Webhook = g.bot.CreateWebhook(t, h.receiver.URL(h.path), "s3cret", post)
		g.hooks = append(g.hooks, h)
	}
	return g
}

// fails says whether the flaky webhook does not take the first attempt at an event.
func fails(eventID string) bool {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(eventID))
	return hash.Sum32()%50 == 0
}

// queueFlaky has the flaky webhook's next deliveries go through its queue.
func (g *groupLedger) queueFlaky(t *testing.T) {
	t.Helper()
	_, err := g.stack.Database(t).Exec(t.Context(), "UPDATE webhooks SET queued = true WHERE id = $1", g.hooks[3].ID)
	require.NoError(t, err)
}

// burst emits so many events, each by a call of its own, and so many batches of 100, all at once, and returns; the function
// returned waits until all are accepted.
func (g *groupLedger) burst(t *testing.T, singles, batches int) (wait func()) {
	t.Helper()
	var all sync.WaitGroup
	for i := range singles + batches {
		events := make([]testkit.Event, 1)
		if i >= singles {
			events = make([]testkit.Event, 100)
		}
		for j := range events {
			events[j] = testkit.Event{ID: fmt.Sprintf("group-%d", g.emitted), Type: post, BotIDs: []string{g.bot.ID}}
			g.emitted++
		}
		all.Go(func() {
			if err := g.emit(events, i); err != nil {
				t.Errorf("emit %s and %d others: %v", events[0].ID, len(events)-1, err)
			}
		})
	}
	return all.Wait
}

// emit emits events until they are accepted, at one API after the other.
func (g *groupLedger) emit(events []testkit.Event, first int) error {
	for deadline, try := time.Now().Add(emitPatience), first; ; try++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		receipts, err := emitAll(ctx, g.apis[try%len(g.apis)], events)
		cancel()
		if err == nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			for i, r := range receipts {
				if r.ID != events[i].ID || r.WorkflowID == "" {
					return fmt.Errorf("the receipt of %s is %+v", events[i].ID, r)
				}
				g.accepted = append(g.accepted, r.ID)
			}
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond) // before it asks again
	}
}

// emitAll emits one event by itself and several as a batch.
func emitAll(ctx context.Context, api *testkit.API, events []testkit.Event) ([]testkit.Receipt, error) {
	if len(events) > 1 {
		receipts, err := api.TryEmitBatch(ctx, events)
		if err == nil && len(receipts) != len(events) {
			err = fmt.Errorf("%d receipts for %d events", len(receipts), len(events))
		}
		return receipts, err
	}
	receipt, err := api.TryEmit(ctx, events[0])
	return []testkit.Receipt{receipt}, err
}

// workflows is how many workflows have accepted the events.
func (g *groupLedger) workflows(t *testing.T) (n int) {
	t.Helper()
	require.NoError(t, g.stack.Database(t).QueryRow(t.Context(),
		"SELECT count(DISTINCT coalesce(workflow_id, id)) FROM events WHERE id = ANY ($1)", g.accepted).Scan(&n))
	return n
}

// crashed notes which deliveries were sent and not recorded when the process died.
func (g *groupLedger) crashed(t *testing.T) {
	t.Helper()
	for _, h := range g.hooks { // what the dead process has sent is still on its way to them
		h.receiver.AwaitSendersGone(t)
	}
	recorded := g.recorded(t)
	for id, times := range g.came() {
		if !recorded[id] {
			g.explained[id] = times
		}
	}
}

// mayRepeat is how many repeats the kills explain.
func (g *groupLedger) mayRepeat() (n int) {
	for _, times := range g.explained {
		n += times
	}
	return n
}

// came counts the POSTs of each delivery.
func (g *groupLedger) came() map[string]int {
	times := map[string]int{}
	for _, h := range g.hooks {
		for _, r := range h.receiver.Requests(h.path) {
			times[r.Header.Get("X-Mathub-Delivery")]++
		}
	}
	return times
}

func (g *groupLedger) recorded(t *testing.T) map[string]bool {
	t.Helper()
	var ids []string
	require.NoError(t, g.stack.Database(t).QueryRow(t.Context(),
		"SELECT coalesce(array_agg(d.id::text), '{}') FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1", g.bot.ID).Scan(&ids))
	recorded := make(map[string]bool, len(ids))
	for _, id := range ids {
		recorded[id] = true
	}
	return recorded
}

// repeats counts the POSTs beyond the first of each delivery, and checks that crashes explain them.
func (g *groupLedger) repeats(t *testing.T) (n int) {
	t.Helper()
	stalled := stalls(t, g.stack)
	for id, times := range g.came() {
		times -= min(times-1, stalled[id])
		require.LessOrEqual(t, times-1, g.explained[id], "delivery %s came %d times, which no crash explains", id, times)
		n += times - 1
	}
	return n
}

// settle waits until nothing is left to do, and checks that every accepted event was taken by each webhook, that each attempt
// came and is in the history, once but for what crashes explain, and that no failure is left on an account. It returns the
// number of repeats.
func (g *groupLedger) settle(t *testing.T) int {
	t.Helper()
	var taken int
	for before, deadline := 0, time.Now().Add(time.Minute); taken < len(g.accepted)*len(g.hooks) && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) { // before it looks again
		require.NoError(t, g.stack.Database(t).QueryRow(t.Context(), `
			SELECT count(*) FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1 AND d.success`, g.bot.ID).Scan(&taken))
		if taken > before {
			before, deadline = taken, time.Now().Add(time.Minute)
		}
	}
	finished(t, g.stack, time.Minute)
	var stored, queued int
	require.NoError(t, g.stack.Database(t).QueryRow(t.Context(),
		"SELECT (SELECT count(*) FROM events WHERE $1 = ANY (bot_ids)), (SELECT count(*) FROM queue)", g.bot.ID).Scan(&stored, &queued))
	require.Equal(t, len(g.accepted), g.emitted, "each event is accepted in the end")
	require.Equal(t, len(g.accepted), stored, "events")
	require.Zero(t, queued, "rows left in the queue")
	for _, h := range g.hooks {
		g.settleHook(t, h)
	}
	recorded, came := g.recorded(t), g.came()
	for id := range came {
		require.True(t, recorded[id], "what came is in the history")
	}
	require.Len(t, recorded, len(came), "what is in the history came")
	return g.repeats(t)
}

func (g *groupLedger) settleHook(t *testing.T, h *groupHook) {
	t.Helper()
	times := eventIDs(h.receiver.Requests(h.path))
	var missing []string
	for _, id := range g.accepted {
		if times[id] == 0 {
			missing = append(missing, id)
		}
	}
	require.Empty(t, missing[:min(5, len(missing))], "%d of %d accepted events never came to %s", len(missing), len(g.accepted), h.path)
	require.Len(t, times, len(g.accepted), "nothing came to %s that was not accepted", h.path)
	var rows, attempts, taken, events, failed int
	require.NoError(t, g.stack.Database(t).QueryRow(t.Context(), `
		SELECT count(*), count(DISTINCT (event_id, attempt)), count(*) FILTER (WHERE success), count(DISTINCT event_id) FILTER (WHERE success), count(*) FILTER (WHERE NOT success)
		FROM deliveries WHERE webhook_id = $1`, h.ID).Scan(&rows, &attempts, &taken, &events, &failed))
	require.Equal(t, rows, attempts, "one row an attempt at %s", h.path)
	require.Equal(t, []int{len(g.accepted), len(g.accepted)}, []int{taken, events}, "each event is taken once by %s", h.path)
	refused := 0
	if h.flaky {
		refused = len(slices.DeleteFunc(slices.Clone(g.accepted), func(id string) bool { return !fails(id) }))
	}
	require.LessOrEqual(t, failed, refused, "failures that are the receiver's, of %s", h.path)
	hook := g.bot.Webhook(t, h.ID)
	require.True(t, hook.IsActive)
	require.Zero(t, hook.FailureCount, h.path)
}
