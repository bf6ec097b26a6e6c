package faults_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// cut is a POST that a crash cut off between sending and recording: it may come once more.
type cut struct {
	by          string    // such as "kill at after-post"
	died, noted time.Time // the crash, and when what came before it was read
}

// cuts explain repeats one by one: what came twice was cut off by a crash after the first time and before the second.
type cuts struct {
	of       map[string][]cut // by what is delivered
	repeated map[string]int   // repeats by the kind of crash that explains them
	stalled  map[string]int   // what stalls has said, by what is delivered
}

func newCuts() *cuts { return &cuts{of: map[string][]cut{}, repeated: map[string]int{}} }

// note notes what a crash, after which nothing was sent until now, had cut off.
func (c *cuts) note(by string, died time.Time, keys ...string) {
	noted := time.Now()
	for _, key := range keys {
		c.of[key] = append(c.of[key], cut{by: by, died: died, noted: noted})
	}
}

// explain returns how many repeats there are of what came at the times given, and fails the test unless a crash of its own
// explains each. Those that a stall explains do not count.
func (c *cuts) explain(t *testing.T, key string, came []time.Time) (repeats int) {
	t.Helper()
	slices.SortFunc(came, time.Time.Compare)
	left := slices.Clone(c.of[key])
	for i := 1; i < len(came); i++ {
		first, again := came[i-1], came[i]
		n := slices.IndexFunc(left, func(of cut) bool { return !first.After(of.noted) && !again.Before(of.died) })
		if n < 0 && c.stalled[key] > 0 {
			c.stalled[key]--
			continue
		}
		if n < 0 {
			t.Fatalf("%s came at %v and again at %v, which no crash explains: %s", key, first, again, c.of[key])
		}
		c.repeated[left[n].by]++
		left = slices.Delete(left, n, n+1)
		repeats++
	}
	return repeats
}

func (c cut) String() string { return fmt.Sprintf("%s at %v", c.by, c.died) }

// String says how many repeats which crashes explain.
func (c *cuts) String() string {
	all := make([]string, 0, len(c.repeated))
	for _, by := range slices.Sorted(maps.Keys(c.repeated)) {
		all = append(all, fmt.Sprintf("%d by a %s", c.repeated[by], by))
	}
	return "repeats: " + strings.Join(all, ", ")
}
