package faults_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	// leastDelay is what a slow link adds to each answer at least.
	leastDelay = 50 * time.Millisecond
	// mostEvents bounds the load of a fault that nobody feels.
	mostEvents = 5000
)

// load emits events to one bot, 100 a second when nothing holds it up, each until it is accepted.
type load struct {
	stopping chan struct{}
	stopOnce sync.Once
	emitters sync.WaitGroup

	mu       sync.Mutex
	emits    []*emission
	accepted map[string]bool // event ids
	given    []error         // why events were given up
}

// emission is one try to emit one event.
type emission struct {
	began time.Time
	ended time.Time // zero while no answer has come
	err   error
	first bool // of its event: the answer to another try takes short cuts
}

func (e *emission) took() time.Duration {
	if e.ended.IsZero() {
		return time.Since(e.began)
	}
	return e.ended.Sub(e.began)
}

func accepted(e *emission) bool { return !e.ended.IsZero() && e.err == nil }

func acceptedAtOnce(e *emission) bool { return accepted(e) && e.first }

// interrupted: refused, or without an answer for more than a second.
func interrupted(e *emission) bool { return e.err != nil || e.took() > time.Second }

// startLoad emits until it is stopped, and so many events at least.
func startLoad(t *testing.T, api *testkit.API, botID, prefix string, least int) *load {
	t.Helper()
	l := &load{stopping: make(chan struct{}), accepted: map[string]bool{}}
	t.Cleanup(l.end)
	ids := make(chan string)
	for range 128 { // more than hang until a silence is seen
		l.emitters.Go(func() {
			for id := range ids {
				l.emit(api, testkit.Event{ID: id, Type: post, BotIDs: []string{botID}})
			}
		})
	}
	l.emitters.Go(func() {
		defer close(ids)
		for i := range mostEvents {
			select {
			case <-l.stopping:
				if i >= least {
					return
				}
			default:
			}
			ids <- fmt.Sprintf("%s-%04d", prefix, i)
			time.Sleep(10 * time.Millisecond) // the rate of the emits
		}
	})
	return l
}

func (l *load) emit(api *testkit.API, event testkit.Event) {
	deadline := time.Now().Add(40 * time.Second)
	for first := true; ; first = false {
		e := &emission{began: time.Now(), first: first}
		l.mu.Lock()
		l.emits = append(l.emits, e)
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err := api.TryEmit(ctx, event)
		cancel()
		l.mu.Lock()
		e.ended, e.err = time.Now(), err
		if err == nil {
			l.accepted[event.ID] = true
		} else if time.Now().After(deadline) {
			l.given = append(l.given, fmt.Errorf("emit %s: %w", event.ID, err))
			err = nil
		}
		l.mu.Unlock()
		if err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // before it asks again
	}
}

// await waits until n of the emits that begin from now on are as they should be, and returns them.
func (l *load) await(t *testing.T, n int, is func(*emission) bool, what string) []*emission {
	t.Helper()
	began := time.Now()
	l.mu.Lock()
	before := len(l.emits)
	l.mu.Unlock()
	var found []*emission
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		found = nil
		for _, e := range l.emits[before:] {
			if is(e) {
				found = append(found, &emission{began: e.began, ended: e.ended, err: e.err, first: e.first})
			}
		}
		return len(found) >= n
	}, time.Minute, 10*time.Millisecond, "fewer than %d emits were %s", n, what)
	t.Logf("%d emits were %s within %s", len(found), what, time.Since(began).Round(10*time.Millisecond))
	return found
}

// end lets no more events come than the least.
func (l *load) end() { l.stopOnce.Do(func() { close(l.stopping) }) }

// stop waits until all events are accepted, and returns their ids.
func (l *load) stop(t *testing.T) map[string]bool {
	t.Helper()
	l.end()
	l.emitters.Wait()
	require.Empty(t, l.given)
	return l.accepted
}

// summary says for people what emitting was like.
func (l *load) summary() string {
	refused, slowest := 0, time.Duration(0)
	for _, e := range l.emits {
		if e.err != nil {
			refused++
		}
		slowest = max(slowest, e.took())
	}
	return fmt.Sprintf("%d events were accepted, within %s at most; %d emits were refused", len(l.accepted), slowest.Round(time.Millisecond), refused)
}
