package faults_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestEachHandlerPanics makes every workflow and every activity panic twice, before it begins and when it is done, on
// ways that lead through all of them.
func TestEachHandlerPanics(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Binary: testkit.Build(t, "-tags=failpoints"), Env: map[string]string{
		"MATHUB_PANIC_ONCE": "1", "MATHUB_RETRY_SCHEDULE": "1s,1s,1s", "MATHUB_MAX_WEBHOOKS_PER_BOT": "300",
	}})
	healthy := newLedger(t, stack, "healthy", 3)
	emitted := healthy.emit(t, 500, 5*time.Millisecond)

	large := []*ledger{} // more than a page together: batches
	for i := range 3 {
		large = append(large, newLedger(t, stack, fmt.Sprintf("large-%d", i), 90))
	}
	large = append(large, newLedger(t, stack, "very-large", 260)) // more than a bot's share of places
	var bots []string
	for _, l := range large {
		bots = append(bots, l.bot.ID)
	}
	toAll := stack.API().Emit(t, testkit.Event{Type: post, BotIDs: bots})
	for _, l := range large {
		l.accepted = append(l.accepted, toAll.ID)
	}

	group := stack.API().EmitBatch(t, []testkit.Event{{Type: post, BotIDs: bots[:1]}, {Type: post, BotIDs: bots[:1]}})
	for _, receipt := range group {
		large[0].accepted = append(large[0].accepted, receipt.ID)
	}

	// One that fails once: its queue, a retry. Then by hand: a test, a redelivery and a recovery.
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Status(http.StatusInternalServerError), testkit.Status(http.StatusNoContent))
	bot := stack.API().CreateBot(t, "troubled")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	bot.Emit(t, testkit.Event{Type: post, BotIDs: []string{bot.ID}})
	bot.AwaitDeliveries(t, hook.ID, 2)
	require.True(t, bot.Test(t, hook.ID).Success)
	again := bot.Redeliver(t, bot.AwaitDeliveries(t, hook.ID, 3)[2].ID, hook.ID)
	require.True(t, again.Success)
	require.Equal(t, 3, again.Attempt)
	bot.SetActive(t, hook.ID, false)
	missed := bot.Emit(t, testkit.Event{Type: post, BotIDs: []string{bot.ID}})
	require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), missed.WorkflowID, "").Get(t.Context(), nil))
	bot.SetActive(t, hook.ID, true)
	bot.Recover(t, hook.ID, nil)
	recovery := bot.AwaitRecovery(t, hook.ID)
	require.Equal(t, []int{1, 0}, []int{recovery.Delivered, recovery.Failed})
	require.Equal(t, missed.ID, bot.Deliveries(t, hook.ID)[0].EventID)
	require.Len(t, bot.Deliveries(t, hook.ID), 5)
	require.Equal(t, 5, receiver.Count(), "a panic sent nothing twice")

	// What no delivery asks for: a removal, and a notice to an owner who wants none.
	for workflow, input := range map[string]any{
		"RemoveExpired": map[string]any{}, "NotifyDisabled": map[string]any{"webhookId": hook.ID, "botId": bot.ID},
	} {
		run, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "disabled-" + hook.ID + "-0", TaskQueue: emit.TaskQueue}, workflow, input)
		require.NoError(t, err)
		require.NoError(t, run.Get(t.Context(), nil))
	}

	emitted()
	require.Zero(t, healthy.settle(t, time.Minute), "a panic sent something twice")
	for _, l := range large {
		require.Zero(t, l.settle(t, time.Minute), "a panic sent something twice")
	}
	finished(t, stack, time.Minute)
	survived(t, stack)

	log, err := os.ReadFile(stack.Apps[0].LogPath())
	require.NoError(t, err)
	for _, handler := range []string{
		"workflow DeliverEvent", "workflow DeliverEvents", "workflow DeliverBatch", "workflow WebhookQueue", "workflow SendTest", "workflow Redeliver", "workflow Recover", "workflow RemoveExpired", "workflow NotifyDisabled",
		"activity AcceptEvents", "activity AddressPart", "activity Deliver", "activity DeliverGroup", "activity LookAtQueue", "activity DeliverRound", "activity PrepareTest", "activity PrepareRedelivery", "activity RecoverPage", "activity RemoveExpired", "activity NotifyOwner",
	} {
		for _, when := range []string{"before", "after"} {
			require.True(t, strings.Contains(string(log), fmt.Sprintf("\npanicked on purpose %s %s\n", when, handler)), "%s %s has not panicked", when, handler)
		}
	}
}
