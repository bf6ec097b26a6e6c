package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestReplayBeforeADeploy: this version goes on with what it has begun itself, and one whose queues do one step more
// without GetVersion does not, which the command says by type and id, and by its exit code.
func TestReplayBeforeADeploy(t *testing.T) {
	t.Parallel()
	next := testkit.BuildChanged(t, map[string]func(string) string{
		"workflows/webhook_queue.go": testkit.Insert(t, "	_ = workflow.UpsertMemo(ctx, map[string]any{\"changed\": true})\n", "	state, err := q.look(ctx)\n	for round"),
	})
	made, err := exec.CommandContext(t.Context(), testkit.Build(t), "keyset", "new").Output()
	require.NoError(t, err)
	keyset := strings.TrimSpace(string(made)) // what Temporal keeps is sealed
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_CODEC_KEYSET": keyset}})
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusServiceUnavailable))
	bot := stack.API().CreateBot(t, "replayed")
	bot.CreateWebhook(t, receiver.URL("/ok"), "", post)
	failing := bot.CreateWebhook(t, receiver.URL("/failing"), "", post)
	for range 3 {
		bot.Emit(t, testkit.Event{Type: post})
	}
	receiver.Await(t, "/ok", 3)
	bot.AwaitDeliveries(t, failing.ID, 2)
	tm := openTerminal(t, stack, bot)
	tm.env = append(tm.env, "TEMPORAL_ADDRESS="+stack.TemporalAddr(), "MATHUB_CODEC_KEYSET="+keyset)

	type report struct {
		Type         string
		Open, Closed int
		Failures     []struct{ WorkflowID, RunID, Error string }
	}
	replay := func(c require.TestingT, args ...string) (of map[string]report, code int) {
		out, errs, code := tm.run(t, append([]string{"replay", "--json"}, args...)...)
		var list []report
		require.NoError(c, json.Unmarshal([]byte(out), &list), errs)
		of = map[string]report{}
		for _, r := range list {
			of[r.Type] = r
		}
		return of, code
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) { // Temporal's lists are a second behind
		of, code := replay(c)
		assert.Zero(c, code, "%+v", of)
		assert.Equal(c, 1, of["WebhookQueue"].Open)
		assert.Positive(c, of["DeliverEvent"].Closed+of["DeliverEvents"].Closed)
		assert.Contains(c, of, "VerifyEndpoint", "also a type that was never run")
	}, 3*time.Minute, time.Second)

	of, _ := replay(t, "--open", "0", "--closed", "1")
	require.Zero(t, of["WebhookQueue"].Open)
	require.LessOrEqual(t, of["DeliverEvent"].Closed, 1)
	_, errs, code := tm.run(t, "replay", "--open", "-1")
	require.Equal(t, 2, code, errs)

	dir := t.TempDir()
	require.NoError(t, os.Symlink(next, filepath.Join(dir, "mathub-webhooks")))
	tm.env = append(tm.env, "PATH="+dir+":"+testkit.ToolsPath(t))
	require.EventuallyWithT(t, func(c *assert.CollectT) { // the queue may wait out a rest within its first task, of which history holds nothing yet
		of, code = replay(c)
		assert.Equal(c, 1, code)
	}, 3*time.Minute, time.Second)
	require.Len(t, of["WebhookQueue"].Failures, 1)
	require.Equal(t, "webhook-"+failing.ID, of["WebhookQueue"].Failures[0].WorkflowID)
	require.Contains(t, of["WebhookQueue"].Failures[0].Error, "TMPRL1100", "Temporal's mark of a history that does not fit the code")
	require.Empty(t, of["DeliverEvent"].Failures)
	out, errs, code := tm.run(t, "replay")
	require.Equal(t, 1, code)
	require.Contains(t, out, "WebhookQueue webhook-"+failing.ID)
	require.Contains(t, errs, "do not deploy it")
}
