package delivery

import (
	"math"
	"runtime"
	gometrics "runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestProcessors_ScarceBy(t *testing.T) {
	t.Parallel()
	var p processors
	waits := &gometrics.Float64Histogram{Buckets: []float64{0, 1e-6, 1e-3, scarceWait, 1e-2, math.Inf(1)}, Counts: make([]uint64, 5)}
	for _, step := range []struct {
		name   string
		more   [5]uint64
		scarce bool
	}{
		{"Nothing has run", [5]uint64{}, false},
		{"None waited", [5]uint64{1000, 100, 10, 0, 0}, false},
		{"Few waited", [5]uint64{900, 0, 0, 50, 49}, false},
		{"A tenth waited", [5]uint64{900, 0, 0, 50, 50}, true},
		{"All waited", [5]uint64{0, 0, 0, 0, 1}, true},
		{"What was is past", [5]uint64{100, 0, 0, 0, 0}, false},
	} {
		for i, n := range step.more {
			waits.Counts[i] += n
		}
		require.Equal(t, step.scarce, p.scarceBy(waits), step.name)
	}
}

// TestProcessors_Scarce has many goroutines compute at once.
func TestProcessors_Scarce(t *testing.T) {
	t.Parallel()
	var p processors
	p.scarce()
	end := make(chan struct{})
	var computing sync.WaitGroup
	for range 50 * runtime.GOMAXPROCS(0) {
		computing.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					runtime.Gosched()
					for n := time.Now(); time.Since(n) < 100*time.Microsecond; {
					}
				}
			}
		})
	}
	require.Eventually(t, p.scarce, 3*time.Minute, 50*time.Millisecond)
	close(end)
	computing.Wait()
}
