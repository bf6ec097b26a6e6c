package faults_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// TestAnOwnerIsToldOnceWhateverCrashes kills the worker between the commit that disables a webhook and the start of the
// workflow that tells its owner, and between that and the note that it has started.
func TestAnOwnerIsToldOnceWhateverCrashes(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Binary: testkit.Build(t, "-tags=failpoints"), Servers: durable,
		Apps: []testkit.App{{Args: []string{"api"}}},
		Env:  map[string]string{"MATHUB_RETRY_SCHEDULE": ""},
	})
	worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}})
	receiver := testkit.NewReceiver(t)
	for _, place := range []string{"disabled", "notice-started"} {
		bot := stack.API().CreateBot(t, place)
		owner, path := "/owner/"+place, "/"+place
		answer, err := stack.API().Do(t.Context(), http.MethodPatch, "/api/internal/v1/bots/"+bot.ID, stack.API().ServiceToken, map[string]string{"notifyUrl": receiver.URL(owner)})
		require.NoError(t, err)
		var told struct{ NotifySecret string }
		require.NoError(t, json.Unmarshal(answer.Body, &told))
		receiver.Answer(path, testkit.Status(http.StatusServiceUnavailable))
		hook := bot.CreateWebhook(t, receiver.URL(path), "", post)
		const emitted = 15 // failures of attempts that were in flight together count five at most
		fail := func() {
			for range emitted {
				bot.Emit(t, testkit.Event{Type: post})
			}
		}
		worker.Env["MATHUB_FAILPOINT"] = place + ":1"
		worker.Launch(t)
		fail()
		select {
		case <-worker.Process().Done():
		case <-time.After(2 * time.Minute): // the most that it may take
			t.Fatalf("the worker never came to %s", place)
		}
		require.Contains(t, worker.Process().Ended(), "killed")
		require.False(t, bot.Webhook(t, hook.ID).IsActive, "what is committed stays")
		var waiting int
		require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM notices").Scan(&waiting))
		require.Equal(t, 1, waiting, "and so does what is to be told")
		require.Empty(t, receiver.Requests(owner))

		delete(worker.Env, "MATHUB_FAILPOINT")
		worker.Start(t)
		first := receiver.Await(t, owner, 1)[0]
		require.Equal(t, webhook.Sign(told.NotifySecret, first.Body), first.Header.Get("X-Mathub-Signature"))
		var sent struct {
			Event string
			Data  struct {
				WebhookID, BotID, DisabledAt, LastError, EventID string
				FailureCount                                     int
				Enable, Recover                                  struct {
					Method, Path string
					Body         map[string]any
				}
			}
		}
		require.NoError(t, json.Unmarshal(first.Body, &sent))
		require.Equal(t, "webhook.disabled", sent.Event)
		require.Equal(t, hook.ID, sent.Data.WebhookID)
		require.Equal(t, bot.ID, sent.Data.BotID)
		require.Equal(t, 10, sent.Data.FailureCount)
		require.Equal(t, "HTTP 503", sent.Data.LastError)
		require.Equal(t, bot.Deliveries(t, hook.ID)[0].EventID, sent.Data.EventID)
		require.Equal(t, webhook.FormatTime(*bot.Webhook(t, hook.ID).DisabledAt), sent.Data.DisabledAt)

		// What it says to do works: the webhook gets what it missed. And when it fails again, its owner hears again.
		receiver.Answer(path, testkit.Status(http.StatusNoContent))
		for _, call := range []struct {
			method, path string
			body         any
			status       int
		}{
			{sent.Data.Enable.Method, sent.Data.Enable.Path, sent.Data.Enable.Body, http.StatusOK},
			{sent.Data.Recover.Method, sent.Data.Recover.Path, nil, http.StatusAccepted},
		} {
			answer, err := stack.API().Do(t.Context(), call.method, call.path, bot.Key, call.body)
			require.NoError(t, err)
			require.Equal(t, call.status, answer.Status, string(answer.Body))
		}
		require.Equal(t, emitted, bot.AwaitRecovery(t, hook.ID).Delivered)
		require.Len(t, receiver.Requests(owner), 1, "told once")
		bot.SetActive(t, hook.ID, false) // by its owner, who knows
		bot.SetActive(t, hook.ID, true)
		receiver.Answer(path, testkit.Status(http.StatusServiceUnavailable))
		fail()
		second := receiver.Await(t, owner, 2)[1]
		require.NotEqual(t, first.EventID(), second.EventID())
		finished(t, stack, time.Minute)
		require.Len(t, receiver.Requests(owner), 2)
		require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM notices").Scan(&waiting))
		require.Zero(t, waiting)
		worker.Stop(t)
	}
}
