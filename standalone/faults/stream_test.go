package faults_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mathub/webhooks/standalone/testkit"
)

// stream is a steady flow of events to some bots. It emits again, with the same id, what is not accepted.
type stream struct {
	mu  sync.Mutex
	ids []string // in the order of the first emit
	at  []time.Time
}

// steadily emits perSecond events a second until ctx ends, waits until all are accepted, and returns them. Their ids are
// prefix-0, prefix-1 …
func steadily(ctx context.Context, t *testing.T, api *testkit.API, prefix string, perSecond float64, bots ...string) *stream {
	t.Helper()
	s := new(stream)
	tick := time.NewTicker(time.Duration(float64(time.Second) / perSecond))
	defer tick.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	for n := 0; ; n++ {
		id := fmt.Sprintf("%s-%d", prefix, n)
		s.emitting(id)
		all.Go(func() {
			if err := emitPatiently(t.Context(), api, testkit.Event{ID: id, Type: post, BotIDs: bots}); err != nil {
				t.Errorf("emit %s: %v", id, err)
			}
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s
		}
	}
}

func (s *stream) emitting(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids, s.at = append(s.ids, id), append(s.at, time.Now())
}

// begun is when the first event was emitted, and last when the last was.
func (s *stream) begun() time.Time { return s.at[0] }
func (s *stream) last() time.Time  { return s.at[len(s.at)-1] }

// delays are how long after its emit each event arrived for the first time, shortest first. Events that have not arrived
// are left out.
func (s *stream) delays(requests []testkit.Request) (delays []time.Duration) {
	arrived := map[string]time.Time{}
	for _, r := range requests {
		if _, ok := arrived[r.EventID()]; !ok {
			arrived[r.EventID()] = r.At
		}
	}
	for i, id := range s.ids {
		if at, ok := arrived[id]; ok {
			delays = append(delays, at.Sub(s.at[i]))
		}
	}
	slices.Sort(delays)
	return delays
}

// overtaken is by how many events that were accepted later an event was overtaken at most.
func overtaken(accepted []string, requests []testkit.Request) (most int) {
	number := map[string]int{}
	for i, id := range accepted {
		number[id] = i
	}
	var before []int // sorted
	for _, r := range requests {
		n := number[r.EventID()]
		place, _ := slices.BinarySearch(before, n)
		most = max(most, len(before)-place)
		before = slices.Insert(before, place, n)
	}
	return most
}

// missing are the events, at most five of them, that are not among those given.
func (s *stream) missing(taken map[string]int) (ids []string) {
	for _, id := range s.ids {
		if taken[id] == 0 && len(ids) < 5 {
			ids = append(ids, id)
		}
	}
	return ids
}

// until waits for a condition and says whether it came within the limit.
func until(limit time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) { // before it looks again
		if condition() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// reaches waits until a number has come to a goal, or for patience until it has grown, and says whether it came there.
func reaches(patience time.Duration, goal int, number func() int) bool {
	most, deadline := 0, time.Now().Add(patience)
	for ; ; time.Sleep(50 * time.Millisecond) { // before it looks again
		n := number()
		switch {
		case n >= goal:
			return true
		case n > most:
			most, deadline = n, time.Now().Add(patience)
		case time.Now().After(deadline):
			return false
		}
	}
}

// eventIDs counts the requests of each event.
func eventIDs(requests []testkit.Request) map[string]int {
	times := map[string]int{}
	for _, r := range requests {
		times[r.EventID()]++
	}
	return times
}
