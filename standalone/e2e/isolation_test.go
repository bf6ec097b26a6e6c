package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/standalone/e2e"
)

// TestSIGTERMFinishesWhatIsUnderWay: in-flight deliveries end and are recorded, what waits is left to another worker,
// and the process is gone within ten seconds.
func TestSIGTERMFinishesWhatIsUnderWay(t *testing.T) {
	const events = 20
	stack := e2e.Start(t, e2e.Options{Apps: []e2e.App{{Args: []string{"api"}}, {Args: []string{"worker"}}}})
	worker := stack.Apps[1]
	receiver := e2e.NewReceiver(t)
	receiver.Answer("/", receiver.Slow(2*time.Second, e2e.Status(http.StatusOK)))
	bot := stack.API().CreateBot(t, "sigterm")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	for range events {
		bot.Emit(t, e2e.Event{Type: post})
	}
	receiver.Await(t, "/", events)
	worker.Stop(t)
	require.Len(t, bot.Deliveries(t, hook.ID), events, "all were recorded by the worker that stopped")

	receiver.Answer("/", e2e.Status(http.StatusOK))
	waiting := bot.Emit(t, e2e.Event{Type: post})
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
	}, time.Minute, time.Second)
	require.Equal(t, events+1, receiver.Count(), "nothing was sent twice")
}

func TestRetries(t *testing.T) {
	stack := e2e.Start(t, e2e.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "1s,1s,1s"}})
	t.Run("cases", func(t *testing.T) {
		t.Run("until taken", func(t *testing.T) {
			t.Parallel()
			receiver := e2e.NewReceiver(t)
			receiver.Answer("/", e2e.Status(500), e2e.Status(503), e2e.Status(200))
			bot := stack.API().CreateBot(t, "retried")
			hook := bot.CreateWebhook(t, receiver.URL("/"), "s", post)
			event := bot.Emit(t, e2e.Event{Type: post})
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
			receiver := e2e.NewReceiver(t)
			receiver.Answer("/", e2e.Status(404))
			bot := stack.API().CreateBot(t, "exhausted")
			hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
			bot.Emit(t, e2e.Event{Type: post})
			bot.AwaitDeliveries(t, hook.ID, 4)
			time.Sleep(3 * time.Second)
			require.Equal(t, 4, receiver.Count())
			require.Equal(t, 4, bot.Webhook(t, hook.ID).FailureCount)
		})
		t.Run("later where the receiver says so", func(t *testing.T) {
			t.Parallel()
			receiver := e2e.NewReceiver(t)
			receiver.Answer("/", e2e.RetryAfter(http.StatusTooManyRequests, 5*time.Second), e2e.Status(200))
			bot := stack.API().CreateBot(t, "later")
			bot.CreateWebhook(t, receiver.URL("/"), "", post)
			bot.Emit(t, e2e.Event{Type: post})
			requests := receiver.Await(t, "/", 2)
			require.GreaterOrEqual(t, requests[1].At.Sub(requests[0].At), 5*time.Second)
		})
		t.Run("not once disabled, deleted or unsubscribed", func(t *testing.T) {
			t.Parallel()
			receiver := e2e.NewReceiver(t)
			bot := stack.API().CreateBot(t, "stopped")
			for i, stop := range []func(id string){
				func(id string) { bot.Patch(t, id, map[string]any{"isActive": false}) },
				func(id string) { bot.Delete(t, id) },
				func(id string) { bot.Patch(t, id, map[string]any{"events": []string{"mention"}}) },
			} {
				path := fmt.Sprintf("/%d", i)
				receiver.Answer(path, e2e.Status(500))
				hook := bot.CreateWebhook(t, receiver.URL(path), "", post)
				bot.Emit(t, e2e.Event{Type: post})
				receiver.Await(t, path, 1)
				stop(hook.ID)
			}
			time.Sleep(5 * time.Second)
			for i := range 3 {
				require.LessOrEqual(t, len(receiver.Requests(fmt.Sprintf("/%d", i))), 2, "one may have begun before")
			}
		})
	})
}

// TestHangingNeighbours feeds a healthy webhook alone, and then beside twenty that hang, at the same rate, and
// compares its times from emit to receipt.
func TestHangingNeighbours(t *testing.T) {
	const perSecond, seconds, hanging = 20, 15, 20
	stack := e2e.Start(t, e2e.Options{})
	healthy := e2e.NewReceiver(t)
	bot := stack.API().CreateBot(t, "healthy")
	bot.CreateWebhook(t, healthy.URL("/"), "", post)
	measure := func(prefix string, seconds int, alsoTo []string) time.Duration {
		var mu sync.Mutex
		var all sync.WaitGroup
		emitted := map[string]time.Time{}
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		before := len(healthy.Requests("/"))
		for i := range perSecond * seconds {
			<-tick.C
			all.Go(func() {
				id := fmt.Sprintf("%s-%d", prefix, i)
				mu.Lock()
				emitted[id] = time.Now()
				mu.Unlock()
				stack.API().Emit(t, e2e.Event{ID: id, Type: post, BotIDs: []string{bot.ID}})
			})
			if len(alsoTo) > 0 {
				all.Go(func() { stack.API().Emit(t, e2e.Event{Type: post, BotIDs: alsoTo}) })
			}
		}
		all.Wait()
		var took []time.Duration
		worst := make([]time.Duration, seconds) // of each second
		for i, r := range healthy.Await(t, "/", before+perSecond*seconds)[before:] {
			took = append(took, r.At.Sub(emitted[r.EventID()]))
			worst[i/perSecond] = max(worst[i/perSecond], took[i])
		}
		var line strings.Builder
		for _, d := range worst {
			fmt.Fprintf(&line, " %d", d.Milliseconds())
		}
		slices.Sort(took)
		t.Logf("%s: p50 %v, p99 %v, the worst of each second, in ms:%s", prefix, took[len(took)/2], took[len(took)*99/100], line.String())
		return took[len(took)*99/100]
	}
	measure("warm", 5, nil)
	alone := measure("alone", seconds, nil)

	hangs := e2e.NewReceiver(t)
	var bots []string
	var bad []*e2e.Bot
	for i := range 4 {
		b := stack.API().CreateBot(t, fmt.Sprintf("bad %d", i))
		bots, bad = append(bots, b.ID), append(bad, b)
		for j := range hanging / 4 {
			path := fmt.Sprintf("/%d/%d", i, j)
			hangs.Answer(path, hangs.Hang())
			b.CreateWebhook(t, hangs.URL(path), "", post)
		}
	}
	beside := measure("beside", seconds, bots)
	t.Logf("p99 of emit to receipt: %v alone, %v beside %d that hang: %.2f times", alone, beside, hanging, float64(beside)/float64(alone))
	for _, q := range []string{"WorkflowType='RetryDelivery'", "WorkflowType='DeliverEvent'"} {
		n, err := stack.Temporal(t).CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: q})
		t.Log(q, n, err)
	}
	res, err := stack.Temporal(t).ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
	h := map[int64]int{}
	for _, e := range res.GetExecutions() {
		h[e.HistoryLength]++
	}
	t.Log(h, err)
	// The ratio is a measurement; this is the promise that a machine of any speed must keep: nobody waits for a hanging
	// neighbour's five seconds.
	require.Less(t, beside, alone+4*time.Second)
	for _, b := range bad {
		for _, hook := range b.Webhooks(t) {
			for _, d := range b.Deliveries(t, hook.ID) {
				require.Equal(t, "timeout", *d.Error)
				require.InDelta(t, 5000, d.DurationMS, 500, "a wait for a turn never counts as the receiver's")
			}
		}
	}
	require.Zero(t, bot.Webhooks(t)[0].FailureCount)
}
