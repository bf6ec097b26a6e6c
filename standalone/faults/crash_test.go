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

// perKill is how many events are emitted for each kill.
var perKill = either(30, 120)

// TestKilledAtANamedPlace kills the worker at each place between which a crash makes a difference, while events flow,
// and replaces it.
func TestKilledAtANamedPlace(t *testing.T) {
	t.Parallel()
	binary := testkit.Build(t, "-tags=failpoints")
	for _, c := range []struct {
		hooks, events int // events for each kill
		pause         time.Duration
		hits          int // of a place until the kill
		share         int // of a thousand kills
	}{
		{hooks: 1, events: perKill, pause: 10 * time.Millisecond, hits: 30, share: 280},
		{hooks: 10, events: perKill, pause: 20 * time.Millisecond, hits: 100, share: 56},
		{hooks: 510, events: either(3, 42), pause: 100 * time.Millisecond, hits: 600, share: 8}, // two batches
	} {
		t.Run(fmt.Sprintf("%d webhooks an event", c.hooks), func(t *testing.T) {
			t.Parallel()
			stack := testkit.Start(t, testkit.Options{Binary: binary, Servers: durable, Apps: []testkit.App{{
				Args: []string{"api"}, Env: map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000"},
			}}})
			worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}})
			places := []place{
				// Events that come in while the worker is away share workflows, so that these are few.
				{"accepted", min(5, max(1, c.hits/c.hooks))},
				{"before-post", c.hits},
				{"during-post", c.hits},
				{"after-post", c.hits},
				{"before-commit", 5},
				{"after-commit", 5},
				{"before-completion", min(5, max(1, c.hits/c.hooks))}, // one for all of an event's
			}
			if c.hooks > 500 {
				places = append(places, place{"batch-started", 2})
			}
			rounds(t, shareOf(c.share)/len(places), func(t *testing.T, round int) {
				l := newLedger(t, stack, fmt.Sprintf("named-%d", round), c.hooks)
				var emitted []func()
				for _, at := range places {
					if round > 1 {
						at.hits = 1 + rand.IntN(at.hits)
					}
					dead := make(chan struct{})
					emitted = append(emitted, l.emitUntil(t, dead, c.events, c.pause))
					killedAt(t, l, worker, at)
					close(dead)
				}
				worker.Start(t)
				for _, wait := range emitted {
					wait()
				}
				repeats := l.settle(t, 2*time.Minute)
				finished(t, stack, time.Minute)
				worker.Stop(t)
				t.Logf("%d events to %d webhooks, %d kills: %d repeats; %v", len(l.accepted), c.hooks, len(places), repeats, l.cuts)
			})
		})
	}
}

// emitUntil emits so many events, one each pause, and then one each twenty until something has happened: events that come in while
// a worker starts share workflows, and their deliveries transactions, on a slow machine all of them.
func (l *ledger) emitUntil(t *testing.T, happened <-chan struct{}, events int, pause time.Duration) (wait func()) {
	return l.emitWhile(t, func(n int) bool {
		if n < events {
			return true
		}
		select {
		case <-happened:
			return false
		case <-time.After(20 * pause): // the rate of the emits
			return true
		}
	}, pause)
}

// diesWithin is how long a worker may take to come to a place, on a machine that is busy too.
const diesWithin = 5 * time.Minute

// killedAt starts the worker and has it die at a place.
func killedAt(t *testing.T, l *ledger, worker *testkit.App, at place) {
	t.Helper()
	if at.name == "during-post" {
		worker.Launch(t)
		killDuringPost(l, worker, at.hits)
	} else {
		worker.Env["MATHUB_FAILPOINT"] = at.String()
		worker.Launch(t)
		delete(worker.Env, "MATHUB_FAILPOINT")
	}
	select {
	case <-worker.Process().Done():
	case <-time.After(diesWithin): // the most that it may take
		t.Fatalf("the worker never came to %v", at)
	}
	require.Contains(t, worker.Process().Ended(), "killed", at.name)
	l.crashed(t, "kill at "+at.name)
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

// killedRounds runs rounds of so many kills each, the last of which may have fewer, and each with accounts of its own.
func killedRounds(t *testing.T, short, thousand int, f func(t *testing.T, round, kills int)) {
	const most = 40 // kills of a round
	all := max(short, shareOf(thousand))
	rounds(t, (all+most-1)/most, func(t *testing.T, round int) {
		f(t, round, either(short, min(most, all-(round-1)*most)))
	})
}

// TestKilledAtRandom kills the worker again and again while events flow.
func TestKilledAtRandom(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	worker := stack.Apps[1]
	killedRounds(t, 6, 460, func(t *testing.T, round, kills int) {
		l := newLedger(t, stack, fmt.Sprintf("random-%d", round), 3)
		var emitted []func()
		for range kills {
			before := l.count()
			emitted = append(emitted, l.emit(t, perKill, 10*time.Millisecond))
			l.flowsTo(t, before+1+rand.IntN(perKill))
			worker.Kill()
			l.crashed(t, "kill")
			worker.Start(t)
		}
		l.settled(t, emitted, kills)
	})
}

// TestTheAPIIsKilledBetweenAcceptingAndAnswering kills the process that accepts, which runs workers too, again and
// again. Clients that got no answer emit again with the same id.
func TestTheAPIIsKilledBetweenAcceptingAndAnswering(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: []testkit.App{{Args: []string{"serve"}}, {Args: []string{"api"}}}})
	serve, api := stack.Apps[0], stack.Apps[1]
	killedRounds(t, 4, 112, func(t *testing.T, round, kills int) {
		l := newLedger(t, stack, fmt.Sprintf("api-%d", round), 3)
		var emitted []func()
		for i := range kills {
			before := l.count()
			emitted = append(emitted, l.emit(t, perKill, 10*time.Millisecond, stack.APIOf(serve), stack.APIOf(api)))
			l.flowsTo(t, before+1+rand.IntN(perKill))
			victim := stack.Apps[i%2]
			victim.Kill()
			if victim == serve {
				l.crashed(t, "kill")
			}
			victim.Start(t)
		}
		l.settled(t, emitted, kills)
	})
}

// settled settles the accounts of kills once all is emitted.
func (l *ledger) settled(t *testing.T, emitted []func(), kills int) {
	t.Helper()
	for _, wait := range emitted {
		wait()
	}
	repeats := l.settle(t, 2*time.Minute)
	finished(t, l.stack, time.Minute)
	t.Logf("%d events to %d webhooks, %d kills: %d repeats; %v", len(l.accepted), len(l.hooks), kills, repeats, l.cuts)
}
