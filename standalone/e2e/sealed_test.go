package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestWhatAWorkerCannotOpenWaits: an API may seal before each worker has the keys, as in a rolling deploy. What such a worker gets is
// delivered once it, or another, can open it.
func TestWhatAWorkerCannotOpenWaits(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}}})
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "sealed")
	bot.CreateWebhook(t, receiver.URL("/hook"), "", post)
	api, worker := stack.Apps[0], stack.Apps[1]
	seal := func(app *testkit.App, keyset string) {
		t.Helper()
		app.Stop(t)
		stack.SetEnv("MATHUB_CODEC_KEYSET", keyset)
		app.Start(t)
	}
	keyset := stack.Run(t, "keyset", "new")
	seal(api, keyset)
	awaitFailedTask := func(id string) {
		t.Helper()
		require.Eventually(t, func() bool {
			run, err := stack.Temporal(t).DescribeWorkflowExecution(t.Context(), emit.WorkflowID(id), "")
			require.NoError(t, err)
			require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, run.GetWorkflowExecutionInfo().GetStatus())
			return run.GetPendingWorkflowTask().GetAttempt() > 1
		}, time.Minute, 20*time.Millisecond)
	}
	bot.Emit(t, testkit.Event{Type: post, ID: "none", Data: json.RawMessage(`{}`)})
	awaitFailedTask("none")
	seal(worker, stack.Run(t, "keyset", "new"))
	bot.Emit(t, testkit.Event{Type: post, ID: "other", Data: json.RawMessage(`{}`)})
	awaitFailedTask("other")
	seal(worker, keyset)
	receiver.Await(t, "/hook", 2)
}

// TestWhatTemporalKeepsIsSealed: with MATHUB_CODEC_KEYSET nothing of an event's data stands in Temporal's databases, by whichever
// workflow it goes, and the codec server opens it for the Web UI. Everything else works as without, also for what began
// before the keyset was set, and for who emits without it.
func TestWhatTemporalKeepsIsSealed(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	const ui = "http://127.0.0.1:8233"
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_ADMIN_ADDR": admin, "MATHUB_TEMPORAL_UI": ui, "MATHUB_RETRY_SCHEDULE": "1s,1h"}})
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusServiceUnavailable))
	bot := stack.API().CreateBot(t, "sealed")
	failing := bot.CreateWebhook(t, receiver.URL("/failing"), "", post)
	bot.Emit(t, testkit.Event{Type: post, ID: "before", Data: json.RawMessage(`{"postId":"openly"}`)})
	bot.AwaitDeliveries(t, failing.ID, 2)

	app := stack.Apps[0]
	app.Stop(t)
	stack.SetEnv("MATHUB_CODEC_KEYSET", stack.Run(t, "keyset", "new"))
	app.Start(t)
	mark := "mark" + datadir.Token()
	data := json.RawMessage(`{"postId":"` + mark + `","body":"` + mark + `"}`)
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "whsec_"+strings.Repeat("QUJD", 8), post)
	bot.Verify(t, hook.ID)
	bot.Test(t, hook.ID)
	receiver.Await(t, "/hook", 1) // it counts no verification
	bot.Emit(t, testkit.Event{Type: post, ID: "one", Data: data})
	stack.API().EmitBatch(t, []testkit.Event{{Type: post, ID: "two", Data: data, BotIDs: []string{bot.ID}}, {Type: post, ID: "three", Data: data, BotIDs: []string{bot.ID}}})
	receiver.Await(t, "/hook", 4)
	again := bot.Emit(t, testkit.Event{Type: post, ID: "one", Data: data})
	require.Equal(t, []bool{true, false}, []bool{again.Duplicate, again.Conflict})
	other := bot.Emit(t, testkit.Event{Type: post, ID: "one", Data: json.RawMessage(`{"postId":"` + mark + `2"}`)})
	require.Equal(t, []bool{true, true}, []bool{other.Duplicate, other.Conflict})
	sent := bot.AwaitDeliveries(t, hook.ID, 5)
	bot.Redeliver(t, sent[0].ID, hook.ID)
	bot.SetActive(t, failing.ID, false)
	bot.SetActive(t, failing.ID, true)
	bot.Recover(t, failing.ID, &mathub.Span{Since: failing.CreatedAt})
	require.Eventually(t, func() bool { return len(receiver.Requests("/failing")) > 5 }, 3*time.Minute, 50*time.Millisecond)

	kept := dump(t, stack)
	require.True(t, found(kept["mathub.events"], mark), "it finds what is there")
	require.True(t, found(kept["temporal.history_node"], "openly"), "from before")
	for name, content := range kept {
		if strings.HasPrefix(name, "temporal") {
			require.False(t, found(content, mark), "%s holds an event's data in clear", name)
		}
	}
	require.False(t, found(histories(t, stack), mark))

	t.Run("the codec server opens it for the Web UI", func(t *testing.T) {
		history := stack.Temporal(t).GetWorkflowHistory(t.Context(), emit.WorkflowID("one"), "", false, 1)
		first, err := history.Next()
		require.NoError(t, err)
		input := first.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()[0]
		body, err := json.Marshal(map[string]any{"payloads": []any{map[string]any{"metadata": input.GetMetadata(), "data": input.GetData()}}})
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+admin+"/codec/decode", bytes.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Origin", ui)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, ui, response.Header.Get("Access-Control-Allow-Origin"))
		var opened bytes.Buffer
		_, err = opened.ReadFrom(response.Body)
		require.NoError(t, err)
		require.True(t, found(opened.Bytes(), mark))
	})
	t.Run("who emits without it", func(t *testing.T) {
		run, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: emit.WorkflowID("plain"), TaskQueue: emit.TaskQueue},
			emit.WorkflowType, map[string]any{"id": "plain", "event": post, "data": map[string]any{"n": 1}, "botIds": []string{bot.ID}})
		require.NoError(t, err)
		require.NotEmpty(t, run.GetRunID())
		require.Eventually(t, func() bool {
			return len(receiver.Requests("/hook")) == 6
		}, 3*time.Minute, 50*time.Millisecond, "it is delivered")
	})
}
