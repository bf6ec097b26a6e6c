package faults_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestRollingDeploy replaces two workers one after the other, under load, by a build whose workflows do one thing more,
// guarded by Temporal's GetVersion. What the old build began, either build finishes.
func TestRollingDeploy(t *testing.T) {
	t.Parallel()
	next := nextVersion(t)
	stack := testkit.Start(t, testkit.Options{
		Servers: durable,
		Apps:    []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}, {Args: []string{"worker"}}},
		Env:     map[string]string{"MATHUB_RETRY_SCHEDULE": "2s,2s,2s,1h"},
	})
	l := newLedger(t, stack, "deploy", 5)
	for i, hook := range l.hooks { // long enough that each replacement meets many in progress
		receiver := l.receivers[i%len(l.receivers)]
		receiver.Answer(l.place[hook.ID], receiver.Slow(500*time.Millisecond, testkit.Status(http.StatusNoContent)))
	}
	// Retries that live through the whole deploy, however long it takes: the last is due when it is asked for.
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Status(http.StatusServiceUnavailable))
	bot := stack.API().CreateBot(t, "retried")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	retried := bot.Emit(t, testkit.Event{Type: post, BotIDs: []string{bot.ID}})
	bot.AwaitDeliveries(t, hook.ID, 1)

	// An event of a type that the workers do not know yet, as the API is the first to be replaced. It holds up none that shares its workflow.
	stack.Apps[0].Stop(t)
	stack.Apps[0].Binary = next
	stack.Apps[0].Start(t)
	archived := bot.CreateWebhook(t, receiver.URL("/archived"), "", "post.archived")
	bot.Emit(t, testkit.Event{Type: "post.archived", ID: "archived", Data: json.RawMessage(`{}`)})
	require.Eventually(t, func() bool {
		run, err := stack.Temporal(t).DescribeWorkflowExecution(t.Context(), emit.WorkflowID("archived"), "")
		require.NoError(t, err)
		require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, run.GetWorkflowExecutionInfo().GetStatus())
		return run.GetPendingWorkflowTask().GetAttempt() > 1
	}, time.Minute, 20*time.Millisecond)
	edited := bot.CreateWebhook(t, receiver.URL("/edited"), "", "wiki.edited")
	stack.API().EmitBatch(t, []testkit.Event{{Type: "post.archived", ID: "with-another", Data: json.RawMessage(`{}`)}, {Type: "wiki.edited", ID: "edited"}})
	receiver.Await(t, "/edited", 1)

	stop := l.stream(t, 20*time.Millisecond)
	for _, worker := range stack.Apps[1:] {
		l.flows(t, 250)
		worker.Stop(t)
		worker.Binary = next
		worker.Start(t)
	}
	l.flows(t, 250)
	stop()
	require.Zero(t, l.settle(t, time.Minute), "a deploy sent something twice")
	receiver.Await(t, "/archived", 2)
	bot.AwaitDeliveries(t, archived.ID, 2)
	require.Len(t, bot.Deliveries(t, edited.ID), 1)
	receiver.Await(t, "/", 4)
	bot.AwaitDeliveries(t, hook.ID, 4)
	receiver.Answer("/", testkit.Status(http.StatusNoContent))
	retryNow, err := stack.API().Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks/"+hook.ID+"/retry-now", bot.Key, map[string]any{})
	require.NoError(t, err)
	require.Less(t, retryNow.Status, http.StatusMultipleChoices, "%s", retryNow.Body)
	finished(t, stack, time.Minute)
	require.Equal(t, retried.ID, bot.Deliveries(t, hook.ID)[0].EventID)
	require.True(t, bot.Deliveries(t, hook.ID)[0].Success)
	for _, app := range stack.Apps {
		log, err := os.ReadFile(app.LogPath())
		require.NoError(t, err)
		require.NotContains(t, strings.ToLower(string(log)), "nondeterminis", "a history did not fit the code")
	}
}

// nextVersion builds the product with a compatible change of its workflow code, and another event type.
func nextVersion(t *testing.T) string {
	t.Helper()
	return testkit.BuildChanged(t, changedWorkflows(t))
}

func changedWorkflows(t *testing.T) testkit.Changes {
	t.Helper()
	const rest = `	if workflow.GetVersion(ctx, "rest", workflow.DefaultVersion, 1) == 1 {
		_ = workflow.Sleep(ctx, 10_000_000)
	}
`
	return testkit.Changes{
		"webhook/catalog.go":         testkit.Insert(t, "	{\"post.archived\", Broadcast, \"A post was archived.\", []Field{fieldPostID}},\n", "	{WikiEdited, Broadcast, "),
		"workflows/fan_out.go":       testkit.Insert(t, rest, "	f.updateDetails(ctx)\n	return err\n"),
		"workflows/webhook_queue.go": testkit.Insert(t, rest, "	if r.BusyFor > 0 {\n"),
	}
}
