package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

func TestRedeliverAndRecover(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": ""}})
	t.Run("cases", func(t *testing.T) {
		for name, run := range map[string]func(t *testing.T, stack *testkit.Stack){
			"a delivery is sent once more":                redeliver,
			"what was missed while disabled is recovered": recoverMissed,
			"a recovery stops when disabled again":        recoveryStops,
			"a recovery is cancelled":                     recoveryIsCancelled,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, stack)
			})
		}
	})
}

func redeliver(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Status(http.StatusBadGateway))
	bot := stack.API().CreateBot(t, "redeliver")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
	event := bot.Emit(t, testkit.Event{Type: post})
	first := bot.AwaitDeliveries(t, hook.ID, 1)[0]
	require.False(t, first.Success)

	bot.SetActive(t, hook.ID, false) // it works on a disabled webhook too
	second := bot.Redeliver(t, first.ID, hook.ID)
	require.False(t, second.Success)
	require.Equal(t, 2, second.Attempt)
	receiver.Answer("/", testkit.Status(http.StatusOK))
	third := bot.Redeliver(t, first.ID, hook.ID)
	require.True(t, third.Success)
	require.Equal(t, 3, third.Attempt)
	require.Equal(t, string(first.Payload), string(third.Payload))
	requests := receiver.Await(t, "/", 3)
	for _, r := range requests {
		require.Equal(t, event.ID, r.EventID())
		require.Equal(t, string(requests[0].Body), string(r.Body))
	}
	require.Len(t, bot.Deliveries(t, hook.ID), 3)
	require.Zero(t, bot.Webhook(t, hook.ID).FailureCount)
	_, err := stack.Temporal(t).DescribeWorkflowExecution(t.Context(), "retry-"+event.ID+"-"+hook.ID, "")
	var none *serviceerror.NotFound
	require.ErrorAs(t, err, &none, "an empty schedule retries nothing")

	stranger := stack.API().CreateBot(t, "stranger")
	answer, err := stack.API().Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks/"+hook.ID+"/deliveries/"+first.ID+"/redeliver", stranger.Key, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, answer.Status)
}

func recoverMissed(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "recover")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
	bot.Emit(t, testkit.Event{Type: post})
	bot.AwaitDeliveries(t, hook.ID, 1)
	bot.SetActive(t, hook.ID, false)
	const missed = 120 // more than a page
	var ids []string
	var receipts []testkit.Receipt
	for i := range missed {
		kind := post
		if i%10 == 0 {
			kind = "wiki.edited" // not subscribed
		}
		receipt := bot.Emit(t, testkit.Event{Type: mathub.EventType(kind)})
		receipts = append(receipts, receipt)
		if kind == post {
			ids = append(ids, receipt.ID)
		}
	}
	path := "/api/bot/v1/webhooks/" + hook.ID + "/recover"
	answer, err := stack.API().Do(t.Context(), http.MethodPost, path, bot.Key, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, answer.Status, "it is disabled")
	answer, err = stack.API().Do(t.Context(), http.MethodGet, path, bot.Key, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, answer.Status)

	awaitEvents(t, stack, receipts)
	require.Nil(t, bot.SetActive(t, hook.ID, true).DisabledAt)
	require.Equal(t, testkit.Recovery{State: "running"}, progress(bot.Recover(t, hook.ID, nil)))
	answer, err = stack.API().Do(t.Context(), http.MethodPost, path, bot.Key, map[string]any{})
	require.NoError(t, err)
	require.Equal(t, http.StatusConflict, answer.Status, "one at a time")

	done := bot.AwaitRecovery(t, hook.ID)
	requests := receiver.Await(t, "/", 1+len(ids))
	got := make([]string, len(ids))
	for i, r := range requests[1:] {
		got[i] = r.EventID()
	}
	require.ElementsMatch(t, ids, got)
	var accepted []string
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT array_agg(id ORDER BY accepted_at, id) FROM events WHERE id = ANY ($1)", ids).Scan(&accepted))
	for i, id := range got { // those of a round are sent at once
		require.InDelta(t, slices.Index(accepted, id), i, 32, "oldest first")
	}
	require.Equal(t, testkit.Recovery{State: "completed", Found: len(ids), Delivered: len(ids)}, progress(done))
	require.Equal(t, 1+len(ids), receiver.Count())

	bot.Recover(t, hook.ID, &mathub.Span{Since: hook.CreatedAt})
	require.Equal(t, testkit.Recovery{State: "completed"}, progress(bot.AwaitRecovery(t, hook.ID)), "nothing is missing any more")

	answer, err = stack.API().Do(t.Context(), http.MethodPost, path, bot.Key, map[string]any{"since": "2020-01-01T00:00:00Z"})
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, answer.Status)
	require.Contains(t, string(answer.Body), "at most 30d ago")
	answer, err = stack.API().Do(t.Context(), http.MethodPost, path, bot.Key, map[string]any{"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"})
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, answer.Status)
	require.Contains(t, string(answer.Body), `"since"`)
}

func recoveryStops(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "stops")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	bot.SetActive(t, hook.ID, false)
	var receipts []testkit.Receipt
	for i := range 15 {
		receipts = append(receipts, bot.Emit(t, testkit.Event{ID: fmt.Sprintf("stops-%d", i), Type: post}))
	}
	receiver.Answer("/", testkit.Status(http.StatusServiceUnavailable))
	awaitEvents(t, stack, receipts)
	bot.SetActive(t, hook.ID, true)
	bot.Recover(t, hook.ID, nil)
	done := bot.AwaitRecovery(t, hook.ID)
	require.Equal(t, 15, done.Found)
	require.Equal(t, "stopped", done.State)
	require.Equal(t, 10, done.Failed)
	require.Equal(t, 5, done.Remaining)
	require.Equal(t, "webhook disabled", *done.LastError)
	require.Equal(t, 10, receiver.Count())
	require.False(t, bot.Webhook(t, hook.ID).IsActive)

	// The ten that disabled it, and the five that were missed before, are found by the next.
	receiver.Answer("/", testkit.Status(http.StatusOK))
	bot.SetActive(t, hook.ID, true)
	bot.Recover(t, hook.ID, nil)
	require.Equal(t, testkit.Recovery{State: "completed", Found: 15, Delivered: 15}, progress(bot.AwaitRecovery(t, hook.ID)))
}

func recoveryIsCancelled(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "cancelled")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	bot.SetActive(t, hook.ID, false)
	var receipts []testkit.Receipt
	for i := range 50 {
		receipts = append(receipts, bot.Emit(t, testkit.Event{ID: fmt.Sprintf("cancelled-%d", i), Type: post}))
	}
	awaitEvents(t, stack, receipts)
	bot.SetActive(t, hook.ID, true)
	bot.Recover(t, hook.ID, nil)
	receiver.Await(t, "/", 3)
	answer, err := stack.API().Do(t.Context(), http.MethodDelete, "/api/bot/v1/webhooks/"+hook.ID+"/recover", bot.Key, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusNoContent, answer.Status)
	done := bot.AwaitRecovery(t, hook.ID)
	require.Equal(t, "cancelled", done.State)
	require.Less(t, done.Delivered, 50)
	require.Equal(t, done.Found, done.Delivered+done.Failed+done.Remaining)
	require.Eventually(t, func() bool { return bot.AwaitRecovery(t, hook.ID).Delivered == receiver.Count() }, 3*time.Minute, 50*time.Millisecond, "what was in flight was brought to its end and counted")
}

// awaitEvents waits until the events have been accepted and their webhooks looked up: while that is in progress, a webhook
// that is enabled may still be among them.
func awaitEvents(t *testing.T, stack *testkit.Stack, receipts []testkit.Receipt) {
	t.Helper()
	for _, r := range receipts {
		require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), r.WorkflowID, "").Get(t.Context(), nil))
	}
}

// progress is how far a recovery has come, without its times.
func progress(r testkit.Recovery) testkit.Recovery {
	return testkit.Recovery{State: r.State, Found: r.Found, Delivered: r.Delivered, Failed: r.Failed, Remaining: r.Remaining, LastError: r.LastError}
}
