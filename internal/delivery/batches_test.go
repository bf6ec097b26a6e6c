package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// starter is a Deliverer with an engine that takes a second for a start, and refuses those that refuse says.
func starter(refuse func(start int) bool) (d *Deliverer, started map[string][]int, most func() int) {
	var mu sync.Mutex
	started = map[string][]int{}
	starts, inProgress, largest := 0, 0, 0
	d = &Deliverer{reporter: newReporter(slog.New(slog.DiscardHandler)), starts: make(chan struct{}, startsAtOnce)}
	d.cfg.StartBatch = func(ctx context.Context, in Batches, n int) error {
		mu.Lock()
		defer mu.Unlock()
		if starts++; ctx.Err() != nil {
			return ctx.Err()
		}
		if refuse(starts) {
			return errors.New("resource exhausted")
		}
		inProgress++
		largest = max(largest, inProgress)
		mu.Unlock()
		select {
		case <-time.After(time.Second): // of testing/synctest's clock
		case <-ctx.Done():
		}
		mu.Lock()
		inProgress--
		if started[in.EventID] == nil {
			started[in.EventID] = make([]int, len(in.Pages))
		}
		started[in.EventID][n]++
		return ctx.Err()
	}
	return d, started, func() int { return largest }
}

// startAll calls until all are started, as a workflow does.
func startAll(t *testing.T, d *Deliverer, in Batches) (calls int) {
	t.Helper()
	for in.Started < len(in.Pages) {
		started, err := d.StartBatches(t.Context(), in)
		require.True(t, err == nil || started == in.Started)
		in.Started = started
		calls++
		require.Less(t, calls, 100)
	}
	return calls
}

func TestDeliverer_StartBatches(t *testing.T) {
	t.Parallel()
	total := func(started []int) (n int) {
		for _, times := range started {
			n += times
		}
		return n
	}
	t.Run("GoesOnWhereItsTimeEnded", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			d, started, _ := starter(func(int) bool { return false })
			calls := startAll(t, d, Batches{EventID: "e", Pages: make([]Page, MaxPages)})
			require.Greater(t, calls, 1)
			require.LessOrEqual(t, total(started["e"]), MaxPages+2*calls*startsAtOnce)
		})
	})
	t.Run("GoesOnWhereAStartWasRefused", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			d, started, _ := starter(func(start int) bool { return start%50 == 0 })
			calls := startAll(t, d, Batches{EventID: "e", Pages: make([]Page, MaxPages)})
			require.Greater(t, calls, MaxPages/50)
			require.LessOrEqual(t, total(started["e"]), MaxPages+2*calls*startsAtOnce)
		})
	})
	t.Run("FewAtOnceInAProcess", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			d, started, most := starter(func(int) bool { return false })
			var events sync.WaitGroup
			for _, id := range []string{"a", "b", "c", "d"} {
				events.Go(func() { startAll(t, d, Batches{EventID: id, Pages: make([]Page, 100)}) })
			}
			events.Wait()
			require.Len(t, started, 4)
			require.Equal(t, startsAtOnce, most())
		})
	})
	t.Run("RefusesANumberOfNoPages", func(t *testing.T) {
		t.Parallel()
		for _, n := range []int{-1, 2} {
			_, err := (&Deliverer{}).StartBatches(t.Context(), Batches{Pages: make([]Page, 1), Started: n})
			require.ErrorContains(t, err, "started")
		}
	})
}
