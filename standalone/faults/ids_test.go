package faults_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestEventIDsCollideWithNothing emits events whose ids look like those of the product's workflows, before and after these
// workflows: the batches of a large audience, a test, a redelivery, a retry, a recovery, a webhook's queue. Each event is
// accepted as itself and reaches its whole audience, once.
func TestEventIDsCollideWithNothing(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "1s"}})
	large := newAudience(t, stack, 6, 50) // more than a page of 250
	one := newPatient(t, stack, "one")

	for _, order := range []struct{ name, id string }{{"the large event first", "x"}, {"the large event last", "y"}} {
		t.Run(order.name, func(t *testing.T) {
			lookalikes := []string{
				order.id + "-batch-1", order.id + "-batch-2", "batch-" + order.id + "-1", "event-" + order.id, "event-" + order.id + "-batch-1", "events-" + order.id,
				"event-batch-" + order.id + "-1", order.id + "-1", "redeliver-" + order.id + "-" + one.hook.ID + "-2", "retry-" + order.id + "-" + one.hook.ID,
			}
			emit := func(id string, bots []string) {
				receipt := stack.API().Emit(t, testkit.Event{ID: id, Type: post, BotIDs: bots})
				require.False(t, receipt.Duplicate, "%s was never emitted before", id)
				// The first has begun its batches before the next comes.
				require.True(t, until(slack*time.Minute, func() bool { return stored(t, stack, id) }), "%s is not stored", id)
			}
			everyone := append([]string{one.bot.ID}, large.bots...)
			if order.id == "x" {
				emit(order.id, everyone)
				large.await(t, order.id)
			}
			for i, id := range lookalikes {
				if i == 0 { // itself large enough for batches
					emit(id, everyone)
					large.await(t, id)
				} else {
					emit(id, []string{one.bot.ID})
				}
			}
			if order.id == "y" {
				emit(order.id, everyone)
			}
			large.await(t, order.id)
			one.arrives(t, append(lookalikes, order.id)...)
			t.Logf("%s of %d webhooks, and %v: all arrived", order.id, len(large.hooks)+1, lookalikes)
		})
	}

	var redelivered string
	t.Run("workflows of a webhook", func(t *testing.T) {
		lookalikes := func(prefix string) (ids []string) {
			for _, kind := range []string{"test", "webhook", "recover", "notify", "queue", "disabled"} {
				ids = append(ids, kind+"-"+one.hook.ID+prefix)
			}
			return ids
		}
		emit := func(ids []string) {
			for _, id := range ids {
				require.False(t, stack.API().Emit(t, testkit.Event{ID: id, Type: post, BotIDs: []string{one.bot.ID}}).Duplicate, id)
			}
			one.arrives(t, ids...)
		}
		before := append(lookalikes(""), "remove-expired")
		emit(before)
		finished(t, stack, time.Minute) // all are recorded
		delivered := one.bot.Deliveries(t, one.hook.ID)[0]
		require.True(t, one.bot.Test(t, one.hook.ID).Success)
		again := one.bot.Redeliver(t, delivered.ID, one.hook.ID)
		require.True(t, again.Success)
		require.Equal(t, 2, again.Attempt)
		redelivered = again.EventID
		// A failure that is retried: the webhook has a queue.
		one.receiver.Answer(one.path, testkit.Status(http.StatusServiceUnavailable), one.take)
		retried := stack.API().Emit(t, testkit.Event{Type: post, BotIDs: []string{one.bot.ID}})
		one.arrives(t, retried.ID)
		// One that is missed: it has a recovery.
		one.bot.SetActive(t, one.hook.ID, false)
		missed := stack.API().Emit(t, testkit.Event{Type: post, BotIDs: []string{one.bot.ID}})
		require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), missed.WorkflowID, "").Get(t.Context(), nil))
		one.bot.SetActive(t, one.hook.ID, true)
		one.bot.Recover(t, one.hook.ID, nil)
		recovery := one.bot.AwaitRecovery(t, one.hook.ID)
		require.Equal(t, []any{"completed", 1}, []any{recovery.State, recovery.Found})
		one.arrives(t, missed.ID)
		var tests []testkit.Delivery
		for _, d := range one.bot.Deliveries(t, one.hook.ID) {
			if d.EventType == "test" {
				tests = append(tests, d)
			}
		}
		require.Len(t, tests, 1)
		after := append(lookalikes("-1"), "test-"+tests[0].EventID, "event-"+tests[0].EventID, "recover-"+one.hook.ID+"-"+missed.ID,
			"redeliver-"+again.EventID+"-"+one.hook.ID+"-2", "retry-"+retried.ID+"-"+one.hook.ID)
		emit(after)
		require.True(t, one.bot.Test(t, one.hook.ID).Success)
		t.Logf("%v before, and %v after, a test, a redelivery, a retry and a recovery: all arrived", before, after)
	})

	finished(t, stack, time.Minute)
	for id, times := range one.well() {
		if id != redelivered {
			require.Equal(t, 1, times, "event %s", id)
		}
	}
	large.once(t)
}

// audience is many webhooks of some bots, each on a path of its own.
type audience struct {
	receiver *testkit.Receiver
	bots     []string
	hooks    []string // paths
}

func newAudience(t *testing.T, stack *testkit.Stack, bots, each int) *audience {
	t.Helper()
	a := &audience{receiver: testkit.NewReceiver(t)}
	for i := range bots {
		bot := stack.API().CreateBot(t, fmt.Sprintf("audience %d", i))
		a.bots = append(a.bots, bot.ID)
		for j := range each {
			path := fmt.Sprintf("/%d/%d", i, j)
			bot.CreateWebhook(t, a.receiver.URL(path), "", post)
			a.hooks = append(a.hooks, path)
		}
	}
	return a
}

// await waits until the event is at each webhook.
func (a *audience) await(t *testing.T, eventID string) {
	t.Helper()
	var got int
	reached := reaches(slack*time.Minute, len(a.hooks), func() int {
		got = 0
		for _, path := range a.hooks {
			got += min(1, eventIDs(a.receiver.Requests(path))[eventID])
		}
		return got
	})
	require.True(t, reached, "event %s is at %d of %d webhooks", eventID, got, len(a.hooks))
}

// once checks that no webhook got an event twice.
func (a *audience) once(t *testing.T) {
	t.Helper()
	for path, requests := range a.receiver.All() {
		for id, times := range eventIDs(requests) {
			require.Equal(t, 1, times, "event %s to %s", id, path)
		}
	}
}
