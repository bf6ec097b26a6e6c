package faults_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// orderAttempts is how often TestKilledInOrder's schedule attempts an event.
const orderAttempts = 3

// exchange is a request at a receiver, from its first to its last moment.
type exchange struct {
	event      string
	begun, end time.Time
	status     int
}

// orderedReceiver fails at times, and keeps what it was sent in order.
type orderedReceiver struct {
	mu        sync.Mutex
	exchanges []exchange
	attempts  map[string]int
}

func (o *orderedReceiver) answer(w http.ResponseWriter, r *http.Request) {
	begun, event := time.Now(), r.Header.Get("Webhook-Id")
	time.Sleep(3 * time.Millisecond) // it works
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempts[event]++
	status := http.StatusNoContent
	var emitter string
	var n int
	_, _ = fmt.Sscanf(event, "%1s-%d", &emitter, &n)
	switch {
	case n%50 == 25, n%10 == 3 && o.attempts[event] == 1: // never, and not at once
		status = http.StatusServiceUnavailable
	}
	o.exchanges = append(o.exchanges, exchange{event, begun, time.Now(), status})
	w.WriteHeader(status)
}

func (o *orderedReceiver) seen() []exchange {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]exchange(nil), o.exchanges...)
}

// TestKilledInOrder kills two workers in turn, under events to an ordered webhook whose receiver fails at times, and reads the
// receiver's record: one exchange at a time; each event only when the one before was taken or given up; after that nothing of it.
func TestKilledInOrder(t *testing.T) {
	t.Parallel()
	each, kills := either(100, 2000), either(2, 40)
	stack := testkit.Start(t, testkit.Options{Servers: durable, Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "100ms,100ms"}, Apps: []testkit.App{
		{Args: []string{"api"}}, {Args: []string{"worker"}}, {Args: []string{"worker"}},
	}})
	bot, receiver, record := stack.API().CreateBot(t, "order"), testkit.NewReceiver(t), &orderedReceiver{attempts: map[string]int{}}
	receiver.Answer("/ordered", record.answer)
	made, err := stack.API().Do(t.Context(), http.MethodPost, "/api/bot/v1/webhooks", bot.Key, map[string]any{"url": receiver.URL("/ordered"), "events": []string{post}, "ordered": true})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, made.Status, string(made.Body))

	// Two emit at the same time, and each emits an event when the one before is stored: so its order is known.
	var emitters sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		emitters.Go(func() {
			for n := range each {
				event := fmt.Sprintf("%s-%d", name, n)
				if _, err := stack.API().EmitPatiently(t.Context(), testkit.Event{ID: event, Type: post, BotIDs: []string{bot.ID}}); err != nil {
					t.Error(err)
					return
				}
				if !until(slack*time.Minute, func() bool { return tableCount(t, stack, "events WHERE id = $1", event) == 1 }) {
					t.Errorf("%s is not accepted", event)
					return
				}
			}
		})
	}
	for i := range kills {
		at := len(record.seen())
		require.True(t, until(slack*time.Minute, func() bool { return len(record.seen()) > at+20 }), "nothing is delivered")
		victim := stack.Apps[1+i%2]
		victim.Kill()
		victim.Start(t)
	}
	emitters.Wait()
	isOver := func() bool {
		return tableCount(t, stack, "deliveries WHERE success") == 2*(each-each/50) && tableCount(t, stack, "queue") == 0
	}
	for !isOver() { // one at a time, thousands take their time
		at := len(record.seen())
		require.True(t, until(slack*time.Minute, func() bool { return len(record.seen()) > at || isOver() }),
			"%d deliveries, %d wait", tableCount(t, stack, "deliveries WHERE success"), tableCount(t, stack, "queue"))
	}
	repeats := checkOrder(t, record.seen())
	t.Logf("%d events, %d kills: %d repeats", 2*each, kills, repeats)
}

// checkOrder holds a record against the order of each emitter, and counts what was sent again after it was taken.
func checkOrder(t *testing.T, record []exchange) (repeats int) {
	t.Helper()
	last := map[string]int{} // by emitter, the event that was begun last, from 1
	failures, taken := map[string]int{}, map[string]bool{}
	isDone := func(event string) bool { return taken[event] || failures[event] >= orderAttempts }
	for i, x := range record {
		var emitter string
		var n int
		_, err := fmt.Sscanf(x.event, "%1s-%d", &emitter, &n)
		require.NoError(t, err)
		require.Contains(t, []int{last[emitter], last[emitter] + 1}, n+1, "%s after the event number %d", x.event, last[emitter]-1)
		if i > 0 && record[i-1].event != x.event {
			before := record[i-1]
			require.True(t, isDone(before.event), "%s is sent before %s is taken or given up", x.event, before.event)
			require.False(t, x.begun.Before(before.end), "%s is sent while %s is in flight", x.event, before.event)
			require.Equal(t, last[emitter], n, "%s is sent again after %s", x.event, before.event)
		}
		last[emitter] = n + 1
		if taken[x.event] {
			repeats++
		}
		if x.status == http.StatusNoContent {
			taken[x.event] = true
		} else {
			failures[x.event]++
		}
	}
	return repeats
}

// tableCount counts rows of a table.
func tableCount(t *testing.T, stack *testkit.Stack, from string, args ...any) (n int) {
	t.Helper()
	if err := stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM "+from, args...).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}
