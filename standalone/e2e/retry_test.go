package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestSIGTERMFinishesWhatIsUnderWay: in-flight deliveries end and are recorded, what waits is left to another worker,
// and the process is gone within ten seconds.
func TestSIGTERMFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	const events = 20
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}}})
	worker := stack.Apps[1]
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", receiver.Slow(2*time.Second, testkit.Status(http.StatusOK)))
	bot := stack.API().CreateBot(t, "sigterm")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	for range events {
		bot.Emit(t, testkit.Event{Type: post})
	}
	receiver.Await(t, "/", events)
	worker.Stop(t)
	require.Len(t, bot.Deliveries(t, hook.ID), events, "all were recorded by the worker that stopped")

	receiver.Answer("/", testkit.Status(http.StatusOK))
	waiting := bot.Emit(t, testkit.Event{Type: post})
	worker.Start(t)
	bot.AwaitDeliveries(t, hook.ID, events+1)
	require.Equal(t, waiting.ID, receiver.Await(t, "/", events+1)[events].EventID())
	for _, d := range bot.Deliveries(t, hook.ID) {
		require.True(t, d.Success)
		require.Equal(t, 1, d.Attempt)
	}
	// The workflows whose tasks were cut off are taken up again and find everything done.
	require.Eventually(t, func() bool {
		for _, d := range bot.Deliveries(t, hook.ID) {
			run := stack.Temporal(t).GetWorkflow(t.Context(), "event-"+d.EventID, "")
			if run.Get(t.Context(), nil) != nil {
				return false
			}
		}
		return true
	}, 3*time.Minute, time.Second)
	require.Equal(t, events+1, receiver.Count(), "nothing was sent twice")
}

func TestRetries(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "1s,1s,1s"}})
	t.Run("cases", func(t *testing.T) {
		t.Run("until taken", func(t *testing.T) {
			t.Parallel()
			receiver := testkit.NewReceiver(t)
			receiver.Answer("/", testkit.Status(500), testkit.Status(503), testkit.Status(200))
			bot := stack.API().CreateBot(t, "retried")
			hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
			event := bot.Emit(t, testkit.Event{Type: post})
			deliveries := bot.AwaitDeliveries(t, hook.ID, 3)
			var attempts []int
			var errs []string
			for _, d := range deliveries {
				attempts = append(attempts, d.Attempt)
				if d.Error != nil {
					errs = append(errs, *d.Error)
				}
			}
			require.Equal(t, []int{3, 2, 1}, attempts)
			require.Equal(t, []string{"HTTP 503", "HTTP 500"}, errs)
			requests := receiver.Requests("/")
			require.Len(t, requests, 3)
			for _, r := range requests {
				require.Equal(t, event.ID, r.EventID())
				require.Equal(t, string(requests[0].Body), string(r.Body), "every byte is the same")
			}
			require.Zero(t, bot.Webhook(t, hook.ID).FailureCount)
		})
		t.Run("until the schedule ends", func(t *testing.T) {
			t.Parallel()
			receiver := testkit.NewReceiver(t)
			receiver.Answer("/", testkit.Status(404))
			bot := stack.API().CreateBot(t, "exhausted")
			hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
			bot.Emit(t, testkit.Event{Type: post})
			bot.AwaitDeliveries(t, hook.ID, 4)
			time.Sleep(3 * time.Second) // for a fifth attempt, which must not come
			require.Equal(t, 4, receiver.Count())
			require.Equal(t, 4, bot.Webhook(t, hook.ID).FailureCount)
		})
		t.Run("later where the receiver says so", func(t *testing.T) {
			t.Parallel()
			receiver := testkit.NewReceiver(t)
			receiver.Answer("/", testkit.RetryAfter(http.StatusTooManyRequests, 5*time.Second), testkit.Status(200))
			bot := stack.API().CreateBot(t, "later")
			bot.CreateWebhook(t, receiver.URL("/"), "", post)
			bot.Emit(t, testkit.Event{Type: post})
			requests := receiver.Await(t, "/", 2)
			require.GreaterOrEqual(t, requests[1].At.Sub(requests[0].At), 5*time.Second)
		})
		t.Run("not once disabled, deleted or unsubscribed", func(t *testing.T) {
			t.Parallel()
			receiver := testkit.NewReceiver(t)
			bot := stack.API().CreateBot(t, "stopped")
			for i, stop := range []func(id string){
				func(id string) { bot.SetActive(t, id, false) },
				func(id string) { bot.Delete(t, id) },
				func(id string) { bot.Patch(t, id, mathub.WebhookChange{Events: mathub.EventTypes{"mention"}}) },
			} {
				path := fmt.Sprintf("/%d", i)
				receiver.Answer(path, testkit.Status(500))
				hook := bot.CreateWebhook(t, receiver.URL(path), "", post)
				bot.Emit(t, testkit.Event{Type: post})
				receiver.Await(t, path, 1)
				stop(hook.ID)
			}
			time.Sleep(5 * time.Second) // for further attempts, which must not come
			for i := range 3 {
				require.LessOrEqual(t, len(receiver.Requests(fmt.Sprintf("/%d", i))), 2, "one may have begun before")
			}
		})
	})
}
