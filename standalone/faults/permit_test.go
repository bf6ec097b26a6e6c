package faults_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// panicsAPlace is more than may be in progress to one webhook: were a place in its window, a lock or a connection kept by
// each attempt that panicked, nothing would be left.
const panicsAPlace = windowMost + 8

// TestAPanicGivesEverythingBack has attempts panic at each named place, one after the other, more often than a window has
// places. All events arrive, the worker lives, later events go out at once as if nothing had been, and the worker stops in
// order.
func TestAPanicGivesEverythingBack(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Binary: testkit.Build(t, "-tags=failpoints"), Apps: []testkit.App{{Args: []string{"api"}}}})
	for _, place := range either(
		[]string{"admitted", "before-post", "after-commit"},
		[]string{"accepted", "admitted", "before-post", "after-post", "before-commit", "after-commit", "before-completion"},
	) {
		t.Run(place, func(t *testing.T) { panicsAt(t, stack, place) })
	}
}

func panicsAt(t *testing.T, stack *testkit.Stack, place string) {
	worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}, Env: map[string]string{"MATHUB_FAILPOINT": fmt.Sprintf("%s:%d:panic", place, panicsAPlace)}})
	worker.Start(t)
	p := newPatient(t, stack, place)
	panics := func() (times int) {
		log, err := os.ReadFile(worker.LogPath())
		if err != nil {
			t.Errorf("read the worker's log: %v", err)
		}
		for line := range strings.Lines(string(log)) {
			if line == "panicked on purpose at "+place+"\n" {
				times++
			}
		}
		return times
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		until(10*time.Second, func() bool { return !worker.Process().Alive() || panics() >= panicsAPlace })
	}()
	began := time.Now()
	during := steadily(ctx, t, stack.API(), place+"-during", 40, p.bot.ID)
	all := until(30*time.Second, func() bool { return !worker.Process().Alive() || during.missing(p.well()) == nil })
	t.Logf("%d panics at %s, %d events meanwhile: %d POSTs, %d taken within %v", panics(), place, len(during.ids), p.receiver.Count(), len(p.well()), time.Since(began).Round(100*time.Millisecond))
	require.True(t, worker.Process().Alive(), "the worker has ended: %s", worker.Process().Ended())
	require.GreaterOrEqual(t, panics(), panicsAPlace, "panics at %s", place)
	require.True(t, all, "such as %v have not arrived", during.missing(p.well()))
	repeats := p.receiver.Count() - len(during.ids)
	require.LessOrEqual(t, repeats, panicsAPlace, "only what was sent and not recorded is sent again")

	after, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	probe := steadily(after, t, stack.API(), place+"-after", 10, p.bot.ID)
	p.arrives(t, probe.ids...)
	delays := probe.delays(p.receiver.Requests(p.path))
	median := delays[len(delays)/2]
	t.Logf("%d events after them: p50 %v, longest wait %v", len(probe.ids), median.Round(time.Millisecond), delays[len(delays)-1].Round(time.Millisecond))
	require.Less(t, median, either(4*time.Second, 400*time.Millisecond), "what has no place in the window waits for half a second")
	failed, _ := attempts(t, stack, p.hook.ID)
	require.Zero(t, failed, "a panic of ours is not the receiver's failure")
	worker.Stop(t)
}
