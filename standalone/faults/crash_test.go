package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/testkit"
)

// durable: a throw-away Postgres forgets what it has just committed.
var durable = servers.Options{Durable: true}

// apart runs API and worker as two processes.
func apart() []testkit.App { return []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}} }

// TestKilledAtANamedPlace kills the worker at each place between which a crash makes a difference, while events flow,
// and replaces it.
func TestKilledAtANamedPlace(t *testing.T) {
	binary := testkit.Build(t, "-tags=failpoints")
	for _, c := range []struct {
		hooks, events int
		pause         time.Duration
		hits          int // of a place until the kill
	}{
		{hooks: 1, events: either(200, 500), pause: 10 * time.Millisecond, hits: 30},
		{hooks: 10, events: either(200, 500), pause: 20 * time.Millisecond, hits: 100},
		{hooks: 300, events: either(20, 500), pause: 100 * time.Millisecond, hits: 400},
	} {
		t.Run(fmt.Sprintf("%d webhooks an event", c.hooks), func(t *testing.T) {
			t.Parallel()
			stack := testkit.Start(t, testkit.Options{Binary: binary, Servers: durable, Apps: []testkit.App{{
				Args: []string{"api"}, Env: map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000"},
			}}})
			worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}})
			l := newLedger(t, stack, "named", c.hooks)
			places := []struct {
				name string
				hits int // until the kill
			}{
				// Events that come in while the worker is away share workflows, so that these are few.
				{"accepted", min(5, max(1, c.hits/c.hooks))},
				{"before-post", c.hits},
				{"during-post", c.hits},
				{"after-post", c.hits},
				{"before-commit", 5},
				{"after-commit", 5},
				{"before-completion", min(5, max(1, c.hits/c.hooks))}, // one for all of an event's
			}
			var emitted []func()
			for _, place := range places {
				emitted = append(emitted, l.emit(t, c.events/len(places)+1, c.pause))
				delete(worker.Env, "MATHUB_FAILPOINT")
				if place.name == "during-post" {
					worker.Launch(t)
					killDuringPost(l, worker, place.hits)
				} else {
					worker.Env["MATHUB_FAILPOINT"] = fmt.Sprintf("%s:%d", place.name, place.hits)
					worker.Launch(t)
				}
				select {
				case <-worker.Process().Done():
				case <-time.After(90 * time.Second): // the most that it may take
					t.Fatalf("the worker never came to %s", place.name)
				}
				require.Contains(t, worker.Process().Ended(), "killed", place.name)
				l.crashed(t)
			}
			delete(worker.Env, "MATHUB_FAILPOINT")
			worker.Start(t)
			for _, wait := range emitted {
				wait()
			}
			repeats := l.settle(t, 2*time.Minute)
			finished(t, stack, time.Minute)
			t.Logf("%d events to %d webhooks, 7 kills: %d repeats, %d explained by a POST not yet recorded", len(l.accepted), c.hooks, repeats, len(l.explained))
		})
	}
}

// killDuringPost kills the worker while its n-th request from now on is at a receiver, unanswered.
func killDuringPost(l *ledger, worker *testkit.App, n int) {
	var arrived atomic.Int64
	for i, hook := range l.hooks {
		receiver := l.receivers[i%len(l.receivers)]
		answer := receiver.Slow(20*time.Millisecond, testkit.Status(http.StatusNoContent))
		receiver.Answer(l.place[hook.ID], func(w http.ResponseWriter, r *http.Request) {
			if arrived.Add(1) == int64(n) {
				worker.Kill()
			}
			answer(w, r)
		})
	}
}

// TestKilledAtRandom kills the worker again and again while events flow.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	kills := either(6, 200)
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	worker := stack.Apps[1]
	l := newLedger(t, stack, "random", 3)
	stop := l.stream(t, 30*time.Millisecond)
	for range kills {
		l.flows(t, 1+rand.IntN(90))
		worker.Kill()
		l.crashed(t)
		worker.Start(t)
	}
	stop()
	repeats := l.settle(t, 2*time.Minute)
	finished(t, stack, time.Minute)
	t.Logf("%d events to 3 webhooks, %d kills: %d repeats", len(l.accepted), kills, repeats)
}

// TestTheAPIIsKilledBetweenAcceptingAndAnswering kills the process that accepts, which runs workers too, again and
// again. Clients that got no answer emit again with the same id.
func TestTheAPIIsKilledBetweenAcceptingAndAnswering(t *testing.T) {
	t.Parallel()
	kills := either(4, 100)
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: []testkit.App{{Args: []string{"serve"}}, {Args: []string{"api"}}}})
	serve, api := stack.Apps[0], stack.Apps[1]
	l := newLedger(t, stack, "api", 3)
	stop := l.stream(t, 10*time.Millisecond, stack.APIOf(serve), stack.APIOf(api))
	for i := range kills {
		l.flows(t, 1+rand.IntN(150))
		victim := stack.Apps[i%2]
		victim.Kill()
		if victim == serve {
			l.crashed(t)
		}
		victim.Start(t)
	}
	stop()
	repeats := l.settle(t, 2*time.Minute)
	finished(t, stack, time.Minute)
	t.Logf("%d events to 3 webhooks, %d kills: %d repeats", len(l.accepted), kills, repeats)
}
