package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestOperatorsFindAnEvent that one webhook took, one refused, and one, disabled, did not get.
func TestOperatorsFindAnEvent(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_TEMPORAL_UI": "http://127.0.0.1:8233"}})
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusServiceUnavailable))
	bot := stack.API().CreateBot(t, "found")
	healthy := bot.CreateWebhook(t, receiver.URL("/healthy"), "s3cret", post)
	failing := bot.CreateWebhook(t, receiver.URL("/failing"), "s3cret", post)
	disabled := bot.CreateWebhook(t, receiver.URL("/disabled"), "s3cret", post)
	bot.SetActive(t, disabled.ID, false)
	receipt := bot.Emit(t, testkit.Event{ID: "post-p1", Type: post, Data: json.RawMessage(`{"postId":"p1"}`)})
	tm := openTerminal(t, stack, bot)

	var found struct {
		Workflow struct{ ID, RunID, URL string }
		Audience struct{ Webhooks, Delivered, Failed, Waiting int }
		Payload  json.RawMessage
		Webhooks []struct {
			WebhookID, Outcome string
			NextAttemptAt      *time.Time
		}
	}
	require.Eventually(t, func() bool {
		stdout, _, code := tm.run(t, "ops", "event", receipt.ID, "--json")
		return code == 0 && json.Unmarshal([]byte(stdout), &found) == nil && found.Audience.Delivered == 1 && found.Audience.Waiting == 1
	}, 3*time.Minute, 100*time.Millisecond)
	require.Equal(t, 2, found.Audience.Webhooks, "a disabled webhook is not in the audience")
	require.Equal(t, string(receiver.Requests("/healthy")[0].Body), string(found.Payload))
	outcomes := map[string]string{}
	for _, w := range found.Webhooks {
		outcomes[w.WebhookID] = w.Outcome
		require.Equal(t, w.Outcome == "waiting", w.NextAttemptAt != nil)
	}
	require.Equal(t, map[string]string{healthy.ID: "delivered", failing.ID: "waiting"}, outcomes)
	run, err := stack.Temporal(t).DescribeWorkflowExecution(t.Context(), receipt.WorkflowID, "")
	require.NoError(t, err)
	runID := run.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	require.Equal(t, []string{receipt.WorkflowID, runID}, []string{found.Workflow.ID, found.Workflow.RunID})
	require.Equal(t, "http://127.0.0.1:8233/namespaces/default/workflows/"+receipt.WorkflowID+"/"+runID, found.Workflow.URL)

	// Disabled, the failing webhook waits for nothing.
	bot.SetActive(t, failing.ID, false)
	stdout, stderr, code := tm.run(t, "ops", "event", receipt.ID, "--outcome", "failed")
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, found.Workflow.URL)
	require.Contains(t, stdout, "2: 1 delivered, 1 failed, 0 waiting")
	require.Regexp(t, `(?m)^failed +1 +\S+ +HTTP 503 +- +no +\S+ +`+bot.ID+` +`+failing.ID+`$`, stdout)
	require.NotContains(t, stdout, healthy.ID)
	require.NotContains(t, stdout, "/failing", "the URL may hold a token")

	for _, c := range []struct {
		code       int
		says, args string
	}{
		{1, "404", "ops event unknown"},
		{1, "401", "ops event post-p1 --service-token wrong"},
		{1, "after", "ops event post-p1 --after nonsense"},
		{2, "1 to 128", "ops event a.b"},
		{2, "--outcome", "ops event post-p1 --outcome lost"},
		{2, "", "ops event"},
		{2, "", "ops"},
	} {
		stdout, stderr, code := tm.run(t, strings.Fields(c.args)...)
		require.Equal(t, c.code, code, "%s\n%s%s", c.args, stdout, stderr)
		require.Contains(t, stdout+stderr, c.says, c.args)
		require.NotContains(t, stdout+stderr, stack.API().ServiceToken)
	}
}
