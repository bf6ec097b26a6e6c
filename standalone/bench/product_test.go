package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

// patience bounds how long deliveries may be in progress.
const patience = 5 * time.Minute

// eventType is one that goes to every webhook subscribed to it.
const eventType = "post.created"

// counter is a receiver that only counts, and notes when each event first arrived: one that keeps every request would
// be measured too.
type counter struct {
	url      string
	count    atomic.Int64
	arrivals sync.Map // event id -> time.Time
}

// newCounter makes one that listens on loopback, or where listen says.
func newCounter(t *testing.T, listen func() (net.Listener, error)) *counter {
	t.Helper()
	c := &counter{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		_, _ = io.Copy(io.Discard, r.Body)
		c.arrivals.LoadOrStore(r.Header.Get("Webhook-Id"), now)
		c.count.Add(1)
	}))
	if listen != nil {
		require.NoError(t, server.Listener.Close())
		var err error
		server.Listener, err = listen()
		require.NoError(t, err)
	}
	server.Start()
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *counter) await(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); c.count.Load() < n; time.Sleep(2 * time.Millisecond) { // before it looks again
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d deliveries arrived", c.count.Load(), n)
		}
	}
}

// data is an event's: a post of some length.
func data() json.RawMessage {
	return json.RawMessage(`{"postId":"p1","threadId":"t1","authorId":"a1","body":"` + strings.Repeat("x", 300) + `"}`)
}

// audience is a number of webhooks of a system, and what they have been sent.
type audience struct {
	*counter
	*system
	prefix   string // of bots' and events' ids
	webhooks int
	events   atomic.Int64
}

var audiences atomic.Int64

func newAudience(t *testing.T, s *system, webhooks int) *audience {
	t.Helper()
	a := &audience{counter: newCounter(t, s.listen), system: s, webhooks: webhooks, prefix: fmt.Sprintf("a%d", audiences.Add(1))}
	s.insert(t, a)
	_, err := a.db.Exec(t.Context(), "ANALYZE webhooks")
	require.NoError(t, err)
	return a
}

// retire unsubscribes the audience; its history stays.
func (a *audience) retire(t *testing.T) {
	_, err := a.db.Exec(t.Context(), "UPDATE webhooks SET is_active = false WHERE "+a.urlColumn+" = $1", a.url)
	require.NoError(t, err)
}

// everQueued is how many deliveries anyone has tried to insert into the table queue: a sequence numbers them.
func (a *audience) everQueued(t *testing.T) (rows int64) {
	t.Helper()
	require.NoError(t, a.db.QueryRow(t.Context(), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM queue_seq_seq").Scan(&rows))
	return rows
}

// nextEvent is one that has not been emitted.
func (a *audience) nextEvent() testkit.Event {
	return testkit.Event{ID: a.nextID(), Type: eventType, Data: data()}
}

func (a *audience) nextID() string { return fmt.Sprintf("%s-%d", a.prefix, a.events.Add(1)) }

// emit emits an event over HTTP, as a backend would.
func (a *audience) emit(ctx context.Context) error { return a.post(ctx, eventsPath, a.nextEvent()) }

// emitBatch emits as many events in one call as a call may hold.
func (a *audience) emitBatch(ctx context.Context) error { return a.emitEvents(ctx, batch) }

// emitEvents emits n events in one call.
func (a *audience) emitEvents(ctx context.Context, n int) error {
	events := make([]testkit.Event, n)
	for i := range events {
		events[i] = a.nextEvent()
	}
	return a.post(ctx, batchPath, map[string]any{"events": events})
}

// startWorkflow emits an event by a plain Temporal client, c.
func (a *audience) startWorkflow(c client.Client) func(context.Context) error {
	return func(ctx context.Context) error { return startEvent(ctx, c, a.nextID()) }
}

// startEvent emits an event with an id by a plain Temporal client. It may be repeated.
func startEvent(ctx context.Context, c client.Client, id string) error {
	options := client.StartWorkflowOptions{ID: emit.WorkflowID(id), TaskQueue: emit.TaskQueue}
	_, err := c.ExecuteWorkflow(ctx, options, "DeliverEvent", map[string]any{"event": eventType, "data": data()})
	return err
}

// burst makes so many calls of emit as fast as they are taken, and returns the deliveries per second until the last
// arrived.
func (a *audience) burst(t *testing.T, calls int, emit func(context.Context) error) float64 {
	t.Helper()
	began, before := time.Now(), a.events.Load()
	atOnce(t, calls, func(int) error { return emit(t.Context()) })
	events := a.events.Load()
	a.await(t, events*int64(a.webhooks))
	return float64((events-before)*int64(a.webhooks)) / time.Since(began).Seconds()
}

// paced emits so many events a second, over HTTP, and returns the times from the emitter's call to the receiver, in order.
func (a *audience) paced(t *testing.T, perSecond, events int) []time.Duration {
	t.Helper()
	return paced(t, perSecond, events, a.nextID, &a.arrivals, func(id string) error {
		return a.post(t.Context(), eventsPath, testkit.Event{ID: id, Type: eventType, Data: data()})
	})
}

// paced makes n calls of emit, so many a second, and returns how long after each its id arrived, in order.
func paced(t *testing.T, perSecond, n int, nextID func() string, arrivals *sync.Map, emit func(id string) error) []time.Duration {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	emitted := map[string]time.Time{}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for range n {
		<-tick.C
		all.Go(func() {
			id := nextID()
			mu.Lock()
			emitted[id] = time.Now()
			mu.Unlock()
			if err := emit(id); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	took := make([]time.Duration, 0, n)
	deadline := time.Now().Add(patience)
	for id, at := range emitted {
		arrived, ok := arrivals.Load(id)
		for ; !ok; arrived, ok = arrivals.Load(id) {
			require.True(t, time.Now().Before(deadline), "%s did not arrive", id)
			time.Sleep(2 * time.Millisecond) // before it looks again
		}
		took = append(took, arrived.(time.Time).Sub(at))
	}
	slices.Sort(took)
	return took
}

// check checks that every event arrived at every webhook and was recorded once.
func (a *audience) check(t *testing.T) {
	t.Helper()
	want := a.events.Load() * int64(a.webhooks)
	time.Sleep(200 * time.Millisecond) // for what should not come
	require.Equal(t, want, a.count.Load(), "deliveries")
	a.checkRecorded(t)
}

// checkRecorded checks that every event was recorded at every webhook once. A process that is stopped while it waits for an answer may
// have sent it again.
func (a *audience) checkRecorded(t *testing.T) {
	t.Helper()
	want := a.events.Load() * int64(a.webhooks)
	var rows, succeeded, pairs int64
	require.Eventually(t, func() bool {
		err := a.db.QueryRow(context.Background(), `
			SELECT count(*), count(*) FILTER (WHERE success), count(DISTINCT (webhook_id, event_id)) FROM deliveries
			WHERE webhook_id IN (SELECT id FROM webhooks WHERE `+a.urlColumn+` = $1)`, a.url).Scan(&rows, &succeeded, &pairs)
		return err == nil && rows >= want
	}, time.Minute, 50*time.Millisecond, "every delivery is recorded")
	require.Equal(t, []int64{want, want, want}, []int64{rows, succeeded, pairs}, "rows, successes, events at webhooks")
}

// atOnce runs n calls of f, concurrency at once.
func atOnce(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range concurrency {
		all.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := f(i); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// timedOut is how many workflow tasks of events have timed out until now: a task that takes longer than ten seconds is
// done again, and so is all that it began.
func timedOut(t *testing.T, stack *testkit.Stack) (n int) {
	t.Helper()
	// Undisturbed, a history has seven events: the event's acceptance and its deliveries are one each.
	query := "(WorkflowType = 'DeliverEvent' OR WorkflowType = 'DeliverEvents') AND HistoryLength > 7"
	c := stack.Temporal(t)
	var next []byte
	for {
		page, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query, PageSize: 1000, NextPageToken: next})
		require.NoError(t, err)
		for _, e := range page.Executions {
			for history := c.GetWorkflowHistory(t.Context(), e.Execution.WorkflowId, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); history.HasNext(); {
				event, err := history.Next()
				require.NoError(t, err)
				if event.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT || event.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_FAILED {
					n++
				}
			}
		}
		if next = page.NextPageToken; len(next) == 0 {
			return n
		}
	}
}

// load fills the tables with what years may leave: webhooks of other event types, events, and their deliveries.
func load(t *testing.T, stack *testkit.Stack, webhooks, deliveries int) {
	t.Helper()
	db := stack.Database(t)
	for _, statement := range []string{
		"INSERT INTO bots (id, name) SELECT 'load-' || n, 'load' FROM generate_series(0, $1 / 10) n WHERE $2 > 0",
		`INSERT INTO webhooks (id, bot_id, url, origin, events)
			SELECT md5('webhook' || n)::uuid, 'load-' || n / 10, convert_to('https://example.com/' || n, 'UTF8'), 'https://example.com', '{wiki.edited,thread.created}' FROM generate_series(0, $1 - 1) n WHERE $2 > 0`,
		`INSERT INTO events (id, type, payload, run_id, accepted_at)
			SELECT 'load-' || n, 'wiki.edited', convert_to(repeat('x', 400), 'UTF8'), n::text, now() - make_interval(secs => n)
			FROM generate_series(0, $2 / 10) n WHERE $1 > 0`,
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, duration_ms, attempted_at)
			SELECT overlay(md5('delivery' || n) placing left(first_delivery(now() - make_interval(secs => n / 10))::text, 8) from 1 for 8)::uuid, md5('webhook' || n % $1)::uuid, 'load-' || n / 10, 1, true, 204, 20, now() - make_interval(secs => n)
			FROM generate_series(0, $2 - 1) n`,
	} {
		_, err := db.Exec(t.Context(), statement, webhooks, deliveries)
		require.NoError(t, err)
	}
	_, err := db.Exec(t.Context(), "VACUUM ANALYZE")
	require.NoError(t, err)
}
