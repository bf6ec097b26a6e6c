package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestDeliveriesArePaused by an operator's commands, for a host of which one receiver takes everything and one fails. The
// process is killed and started again meanwhile: nothing arrives and nothing counts. Afterwards everything arrives once.
func TestDeliveriesArePaused(t *testing.T) {
	t.Parallel()
	const events = 50
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "1h,2s,2s,2s"}})
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/fails", testkit.Status(http.StatusServiceUnavailable), testkit.Status(http.StatusOK))
	bot := stack.API().CreateBot(t, "paused")
	healthy := bot.CreateWebhook(t, receiver.URL("/takes"), "s3cret", post)
	failing := bot.CreateWebhook(t, receiver.URL("/fails"), "s3cret", post)
	tm := openTerminal(t, stack, bot)
	run := func(code int, says string, args ...string) {
		t.Helper()
		stdout, stderr, got := tm.run(t, args...)
		require.Equal(t, code, got, "%v: %s%s", args, stdout, stderr)
		require.Contains(t, stdout+stderr, says, "%v", args)
	}

	bot.Emit(t, testkit.Event{ID: "before", Type: post})
	receiver.Await(t, "/takes", 1)
	receiver.Await(t, "/fails", 1)
	run(2, "--reason", "ops", "pause", "all")
	run(1, "value", "ops", "pause", "host", "127.0.0.1:80", "--reason", "r")
	run(1, "404", "ops", "pause", "bot", "nobody", "--reason", "r")
	run(1, "404", "ops", "resume", "all")
	run(0, "127.0.0.1", "ops", "pause", "host", "127.0.0.1", "--reason", "We move.")
	run(0, "We move.", "ops", "pauses", "list")
	run(0, `"scope":"host"`, "ops", "pauses", "list", "--json")
	run(0, "Paused by an operator since", "ops", "webhooks", "get", healthy.ID)
	run(1, "409", "webhooks", "test", healthy.ID)

	ids := []string{"before"}
	for i := range events {
		id := fmt.Sprintf("paused-%02d", i)
		bot.Emit(t, testkit.Event{ID: id, Type: post})
		ids = append(ids, id)
		if i == events/2 {
			stack.Apps[0].Kill()
			stack.Apps[0].Start(t)
		}
	}
	waiting := func() (n int) {
		require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM queue WHERE webhook_id IN ($1, $2)", healthy.ID, failing.ID).Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return waiting() == 2*events+1 }, 3*time.Minute, 50*time.Millisecond)
	require.Len(t, receiver.Requests("/takes"), 1)
	require.Len(t, receiver.Requests("/fails"), 1)
	require.Equal(t, 1, bot.Webhook(t, failing.ID).FailureCount)

	// The second attempt, which is not due until then however long all of this took.
	_, err := stack.Database(t).Exec(t.Context(), "UPDATE queue SET due_at = now() WHERE due_at > now()")
	require.NoError(t, err)
	run(0, "", "ops", "resume", "host", "127.0.0.1")
	for path, requests := range map[string]int{"/takes": events + 1, "/fails": events + 2} {
		var arrived []string
		for _, r := range receiver.AwaitWithin(t, path, requests, time.Minute) {
			arrived = append(arrived, r.Header.Get("webhook-id"))
		}
		require.ElementsMatch(t, ids, arrived[requests-len(ids):], path)
	}
	require.Eventually(t, func() bool { return waiting() == 0 }, 3*time.Minute, 50*time.Millisecond)
	run(0, "SCOPE", "ops", "pauses", "list")
}
