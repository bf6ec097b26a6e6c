package faults_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	post = "post.created"
	// emitters emit at once, so that events overlap.
	emitters = 16
	// emitPatience is how long an emitter goes on with an event that is not accepted.
	emitPatience = 3 * time.Minute
)

// ledger feeds webhooks of one bot and settles accounts afterwards.
type ledger struct {
	stack     *testkit.Stack
	bot       *testkit.Bot
	receivers []*testkit.Receiver
	hooks     []testkit.Webhook
	place     map[string]string // the receiver's path by webhook id

	mu       sync.Mutex
	emitted  int                  // events, accepted or about to be
	accepted []string             // event ids
	at       map[string]time.Time // when each event was first emitted
	cuts     *cuts                // by webhook and event
}

// newLedger makes so many webhooks, spread over three receivers.
func newLedger(t *testing.T, stack *testkit.Stack, name string, hooks int) *ledger {
	t.Helper()
	return newLedgerBy(t, stack, name, hooks, func(_ int, receiver *testkit.Receiver) string { return receiver.URL("") })
}

// newLedgerBy is newLedger where a webhook's URL begins as way says.
func newLedgerBy(t *testing.T, stack *testkit.Stack, name string, hooks int, way func(i int, receiver *testkit.Receiver) string) *ledger {
	t.Helper()
	receivers := []*testkit.Receiver{testkit.NewReceiver(t), testkit.NewReceiver(t), testkit.NewReceiver(t)}
	return newLedgerAt(t, stack, name, hooks, receivers, way)
}

// newLedgerAt is newLedgerBy with receivers of the caller's.
func newLedgerAt(t *testing.T, stack *testkit.Stack, name string, hooks int, receivers []*testkit.Receiver, way func(i int, receiver *testkit.Receiver) string) *ledger {
	t.Helper()
	l := &ledger{
		stack: stack, bot: stack.API().CreateBot(t, name), receivers: receivers,
		place: map[string]string{}, at: map[string]time.Time{}, cuts: newCuts(),
	}
	for i := range hooks {
		path := fmt.Sprintf("/%s/%d", name, i)
		receiver := l.receivers[i%len(l.receivers)]
		receiver.Answer(path, receiver.Slow(20*time.Millisecond, testkit.Status(http.StatusNoContent)))
		hook := l.bot.CreateWebhook(t, way(i, receiver)+path, "s3cret", post)
		l.hooks = append(l.hooks, hook)
		l.place[hook.ID] = path
	}
	return l
}

// requests are what a webhook's receiver has got.
func (l *ledger) requests(hook int) []testkit.Request {
	return l.receivers[hook%len(l.receivers)].Requests(l.place[l.hooks[hook].ID])
}

// emit emits so many events, one each pause, and returns at once; the function returned waits for the end. An emitter
// that gets no answer, or an error, emits again with the same id, as a backend should; the APIs take turns.
func (l *ledger) emit(t *testing.T, events int, pause time.Duration, apis ...*testkit.API) (wait func()) {
	return l.emitWhile(t, func(n int) bool { return n < events }, pause, apis...)
}

// stream emits one event each pause until it is stopped, which waits for the last to be accepted.
func (l *ledger) stream(t *testing.T, pause time.Duration, apis ...*testkit.API) (stop func()) {
	var stopping atomic.Bool
	wait := l.emitWhile(t, func(int) bool { return !stopping.Load() }, pause, apis...)
	end := func() { stopping.Store(true) }
	t.Cleanup(end)
	return func() {
		end()
		wait()
	}
}

// emitWhile emits while goOn, which is asked with the number emitted so far.
func (l *ledger) emitWhile(t *testing.T, goOn func(n int) bool, pause time.Duration, apis ...*testkit.API) (wait func()) {
	if len(apis) == 0 {
		apis = []*testkit.API{l.stack.API()}
	}
	ids := make(chan int)
	var all sync.WaitGroup
	for range emitters {
		all.Go(func() {
			for n := range ids {
				id := fmt.Sprintf("%s-%d", l.bot.ID, n)
				if err := l.emitOne(t.Context(), id, apis[n%len(apis)]); err != nil && t.Context().Err() == nil {
					t.Errorf("emit %s: %v", id, err)
				}
			}
		})
	}
	all.Go(func() {
		defer close(ids)
		for n := 0; goOn(n) && t.Context().Err() == nil; n++ {
			ids <- l.next()
			time.Sleep(pause) // the rate of the emits
		}
	})
	t.Cleanup(all.Wait) // a test that fails does not wait by itself
	return all.Wait
}

// next numbers the events, also of several that emit at once.
func (l *ledger) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emitted++
	return l.emitted
}

// count is how many requests have come to the receivers.
func (l *ledger) count() (all int) {
	for _, r := range l.receivers {
		all += r.Count()
	}
	return all
}

// flows waits until n more requests have come to the receivers: the load is there, and what comes next meets it.
func (l *ledger) flows(t *testing.T, n int) {
	t.Helper()
	l.flowsTo(t, l.count()+n)
}

// flowsTo waits until so many requests have come to the receivers in all.
func (l *ledger) flowsTo(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return l.count() >= n }, slack*time.Minute, 5*time.Millisecond, "the load does not flow")
}

func (l *ledger) emitOne(ctx context.Context, id string, api *testkit.API) error {
	l.mu.Lock()
	l.at[id] = time.Now()
	l.mu.Unlock()
	err := emitPatiently(ctx, api, testkit.Event{ID: id, Type: post, BotIDs: []string{l.bot.ID}})
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepted = append(l.accepted, id)
	}
	return err
}

// emitPatiently emits an event that has an id of its own again and again until it is accepted, as the contract asks.
func emitPatiently(ctx context.Context, api *testkit.API, event testkit.Event) error {
	for deadline := time.Now().Add(emitPatience); ; time.Sleep(50 * time.Millisecond) { // before it emits again
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := api.TryEmit(soon, event)
		cancel()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// key names an event's delivery to a webhook.
func key(webhookID, eventID string) string { return webhookID + " " + eventID }

// crashed notes, after the death of the only worker, which POSTs were in progress or not yet recorded: these may be repeated, once
// each, and no others. by says what the death was, such as "kill".
func (l *ledger) crashed(t *testing.T, by string) {
	t.Helper()
	died := time.Now()
	for _, r := range l.receivers { // what the dead process has sent is still on its way to them
		r.AwaitSendersGone(t)
	}
	l.cutOff(t, by, died)
}

// crashedAmong is crashed where other workers live. What the dead one had in progress, Temporal gives to another after ten seconds.
func (l *ledger) crashedAmong(t *testing.T, by string) {
	t.Helper()
	died := time.Now()
	time.Sleep(2 * time.Second) // what was sent is still on its way to the receivers
	l.cutOff(t, by, died)
}

// cutOff notes what a crash has cut off, of what has come.
func (l *ledger) cutOff(t *testing.T, by string, died time.Time) {
	t.Helper()
	sent := map[string]bool{}
	for i, hook := range l.hooks {
		for _, r := range l.requests(i) {
			sent[key(hook.ID, r.EventID())] = true
		}
	}
	rows, err := l.stack.Database(t).Query(t.Context(), "SELECT d.webhook_id::text, d.event_id FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1", l.bot.ID)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var webhookID, eventID string
		require.NoError(t, rows.Scan(&webhookID, &eventID))
		delete(sent, key(webhookID, eventID))
	}
	require.NoError(t, rows.Err())
	l.cuts.note(by, died, slices.Collect(maps.Keys(sent))...)
}

// settle waits until everything is delivered, or for patience until more is, and checks that nothing was lost, doubled
// or miscounted, and that no webhook got an event more often than crashes explain. It returns the number of repeats.
func (l *ledger) settle(t *testing.T, patience time.Duration) (repeats int) {
	t.Helper()
	wanted := len(l.accepted) * len(l.hooks)
	db := l.stack.Database(t)
	var rows, succeeded, pairs, failed int
	count := func() error {
		return db.QueryRow(t.Context(), `
			SELECT count(*), count(*) FILTER (WHERE d.success), count(DISTINCT (d.webhook_id, d.event_id)), count(*) FILTER (WHERE NOT d.success)
			FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1`, l.bot.ID).Scan(&rows, &succeeded, &pairs, &failed)
	}
	before, deadline := 0, time.Now().Add(patience)
	for ; ; time.Sleep(100 * time.Millisecond) { // before it looks again
		err := count()
		if err == nil && succeeded >= wanted || time.Now().After(deadline) {
			require.NoError(t, err)
			break
		}
		if succeeded > before { // a backlog may take its time
			before, deadline = succeeded, time.Now().Add(patience)
		}
	}
	if succeeded != wanted {
		l.explainMissing(t)
	}
	require.Equal(t, wanted, succeeded, "successful deliveries recorded, of %d events to %d webhooks; %d failed", len(l.accepted), len(l.hooks), failed)
	require.Zero(t, failed, "our own side's fault is not the receiver's failure: %s", l.blamed(t))
	require.Equal(t, []int{wanted, wanted}, []int{rows, pairs}, "one row an event and webhook")

	var events int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE $1 = ANY (bot_ids)", l.bot.ID).Scan(&events))
	require.Equal(t, len(l.accepted), events)

	recorded := map[string]bool{} // delivery ids
	all, err := db.Query(t.Context(), "SELECT d.id::text FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1", l.bot.ID)
	require.NoError(t, err)
	for all.Next() {
		var id string
		require.NoError(t, all.Scan(&id))
		recorded[id] = true
	}
	require.NoError(t, all.Err())
	clear(l.cuts.repeated)
	l.cuts.stalled = stalls(t, l.stack)
	for i, hook := range l.hooks {
		times := map[string][]time.Time{}
		for _, r := range l.requests(i) {
			times[r.EventID()] = append(times[r.EventID()], r.At)
			require.True(t, recorded[r.Header.Get("X-Mathub-Delivery")], "what arrived is in the history")
		}
		for _, id := range l.accepted {
			require.NotEmpty(t, times[id], "event %s never came to webhook %d", id, i)
			repeats += l.cuts.explain(t, key(hook.ID, id), times[id])
		}
		require.Len(t, times, len(l.accepted), "nothing came that was not accepted")
	}
	var wrong int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM webhooks WHERE bot_id = $1 AND NOT (is_active AND failure_count = 0)", l.bot.ID).Scan(&wrong))
	require.Zero(t, wrong, "webhooks with a failure on their account")
	return repeats
}

// blamed are the errors of failed attempts, and how often and when each came.
func (l *ledger) blamed(t *testing.T) (errors string) {
	t.Helper()
	require.NoError(t, l.stack.Database(t).QueryRow(t.Context(), `
		SELECT coalesce(string_agg(line, '; '), '') FROM (
			SELECT format('%s: %s from %s to %s', error, count(*), min(attempted_at)::time, max(attempted_at)::time) AS line
			FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE w.bot_id = $1 AND NOT d.success GROUP BY error) AS errors`, l.bot.ID).Scan(&errors))
	return errors
}

// explainMissing says where accepted events are that have not been delivered to all.
func (l *ledger) explainMissing(t *testing.T) {
	t.Helper()
	rows, err := l.stack.Database(t).Query(t.Context(), `
		SELECT a.id, (SELECT count(*) FROM events WHERE id = a.id), count(d.id) FILTER (WHERE d.success)
		FROM unnest($1::text[]) AS a (id) LEFT JOIN deliveries d ON d.event_id = a.id
		GROUP BY a.id HAVING count(d.id) FILTER (WHERE d.success) < $2 LIMIT 5`, l.accepted, len(l.hooks))
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		var stored, delivered int
		require.NoError(t, rows.Scan(&id, &stored, &delivered))
		workflow, err := l.stack.Temporal(t).DescribeWorkflowExecution(t.Context(), emit.WorkflowID(id), "")
		t.Logf("event %s: %d rows, %d delivered; its workflow: %v %v, task %v", id, stored, delivered, err, workflow.GetWorkflowExecutionInfo(), workflow.GetPendingWorkflowTask())
		for history := l.stack.Temporal(t).GetWorkflowHistory(t.Context(), emit.WorkflowID(id), "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); history.HasNext(); {
			event, err := history.Next()
			if err != nil {
				t.Log(err)
				break
			}
			t.Log(event.EventTime.AsTime(), event.EventType)
		}
	}
	require.NoError(t, rows.Err())
}

// finished waits until Temporal runs no workflow any more, and no queue has an attempt that is due soon, or for patience until fewer:
// what a crash left behind has been brought to its end, and what a fault of our own kept from being made is made.
func finished(t *testing.T, stack *testkit.Stack, patience time.Duration) {
	t.Helper()
	patience *= slack
	fewest, deadline := math.MaxInt, time.Now().Add(patience)
	for ; ; time.Sleep(100 * time.Millisecond) { // before it looks again
		left, err := stack.Running(t.Context())
		if err == nil && left == 0 { // what has ended has left in the queues what it has left
			left, err = dueSoon(t, stack)
		}
		if err == nil && left == 0 {
			return
		}
		if err == nil && left < fewest {
			fewest, deadline = left, time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			require.NoError(t, err)
			t.Fatalf("%d workflows still run, or attempts are due", left)
		}
	}
}

// dueSoon is how many attempts are due within seconds, as those are that a fault of our own kept from being made.
func dueSoon(t *testing.T, stack *testkit.Stack) (rows int, err error) {
	t.Helper()
	err = stack.Database(t).QueryRow(t.Context(), `
		SELECT count(*) FROM queue q JOIN webhooks w ON w.id = q.webhook_id
		WHERE w.is_active AND NOT w.suspended AND q.due_at < now() + interval '10 s'`).Scan(&rows)
	return rows, err
}
