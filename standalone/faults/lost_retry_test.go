package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestACrashAfterAFailureLosesNoRetry ends all workers once failures are recorded, of an event to a bot with more webhooks
// than may be in progress at once and to others, and starts one again: every webhook gets the event by itself. The workers
// are killed at any moment, or die between the recording of a failure and the waking of whoever is to make the retry.
func TestACrashAfterAFailureLosesNoRetry(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Binary: testkit.Build(t, "-tags=failpoints"), Servers: durable,
		Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}, {Args: []string{"worker"}}, {Args: []string{"worker"}}},
		Env:  map[string]string{"MATHUB_RETRY_SCHEDULE": "4s,4s,4s,4s,4s", "MATHUB_MAX_WEBHOOKS_PER_BOT": "260"},
	})
	c := &crashes{stack: stack, receiver: testkit.NewReceiver(t), paths: map[string]string{}, took: map[string]bool{}}
	c.subscribe(t, 1, 260)
	c.subscribe(t, 5, 1)
	for round := range either(1, 10) {
		c.run(t, fmt.Sprintf("killed-%d", round), "", func(id string) {
			enough := 10 + rand.IntN(50)
			require.True(t, until(slack*time.Minute, func() bool { return recorded(t, stack, id) >= enough }), "%d failures are recorded", recorded(t, stack, id))
			for _, worker := range stack.Apps[1:] {
				c.ends.Go(worker.Kill)
			}
		})
		if !soak {
			continue // a sweep for what nobody woke takes half a minute; TestNextAttemptAt waits for one
		}
		c.run(t, fmt.Sprintf("unwoken-%d", round), "before-wake:1", func(string) {
			dead := make(chan string, len(stack.Apps))
			for _, worker := range stack.Apps[1:] {
				c.ends.Go(func() {
					<-worker.Process().Done()
					dead <- worker.Name
				})
			}
			select {
			case name := <-dead:
				t.Logf("%s died before it woke anyone", name)
			case <-time.After(20 * time.Second): // the most that it may take
				t.Error("no worker has come to wake anyone")
			}
			for _, worker := range stack.Apps[1:] {
				worker.Kill()
			}
		})
	}
	finished(t, stack, time.Minute)
}

// crashes is an audience that fails, and the workers that crash.
type crashes struct {
	stack    *testkit.Stack
	receiver *testkit.Receiver
	bots     []string
	paths    map[string]string // by the webhook's id
	ends     sync.WaitGroup    // of workers

	mu   sync.Mutex
	took map[string]bool // by path and event
}

// subscribe makes so many bots with so many webhooks each.
func (c *crashes) subscribe(t *testing.T, bots, each int) {
	t.Helper()
	for range bots {
		bot := c.stack.API().CreateBot(t, "crash")
		c.bots = append(c.bots, bot.ID)
		for range each {
			path := fmt.Sprintf("/%d", len(c.paths))
			c.paths[bot.CreateWebhook(t, c.receiver.URL(path), "", post).ID] = path
		}
	}
}

// run emits an event that fails everywhere, to workers with a failpoint, has them end by crash, lets the receivers be well,
// and sees whether they get the event from a worker without one.
func (c *crashes) run(t *testing.T, id, failpoint string, crash func(id string)) {
	t.Helper()
	for _, path := range c.paths {
		// Not all at once, so that some have failed while others are in progress or wait.
		delay := time.Duration(rand.IntN(500)) * time.Millisecond
		c.receiver.Answer(path, c.receiver.Slow(delay, testkit.Status(http.StatusServiceUnavailable)))
	}
	workers := c.stack.Apps[1:]
	for _, worker := range workers {
		if worker.Process().Alive() {
			worker.Stop(t)
		}
		if worker.Env["MATHUB_FAILPOINT"] = failpoint; failpoint == "" {
			delete(worker.Env, "MATHUB_FAILPOINT")
		}
		worker.Start(t)
	}
	c.stack.API().Emit(t, testkit.Event{ID: id, Type: post, BotIDs: c.bots})
	crash(id)
	c.ends.Wait()
	failures := recorded(t, c.stack, id)
	for _, path := range c.paths {
		c.receiver.Answer(path, c.take)
	}
	delete(workers[0].Env, "MATHUB_FAILPOINT")
	crashed := time.Now()
	workers[0].Start(t)
	all := until(slack*(wokenWithin+6*time.Second), func() bool { return c.missing(id) == nil }) // a retry is due within 4.8 s
	missing := c.missing(id)
	t.Logf("event %s to %d webhooks: 3 workers gone after %d failures were recorded, 1 started: %d took it within %v",
		id, len(c.paths), failures, len(c.paths)-len(missing), time.Since(crashed).Round(100*time.Millisecond))
	for _, hook := range missing[:min(3, len(missing))] {
		failed, _ := attempts(t, c.stack, hook)
		t.Logf("webhook %s has not: it has %d failures recorded", hook, failed)
	}
	require.NotZero(t, failures)
	require.True(t, all, "%d webhooks never got what had failed, or was under way, before the crash", len(missing))
}

func (c *crashes) take(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.took[r.URL.Path+" "+r.Header.Get("Webhook-Id")] = true
	c.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// missing are the webhooks that have not taken the event.
func (c *crashes) missing(eventID string) (hooks []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for hook, path := range c.paths {
		if !c.took[path+" "+eventID] {
			hooks = append(hooks, hook)
		}
	}
	return hooks
}
