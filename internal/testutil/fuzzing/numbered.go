package fuzzing

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Numbered is the long form of a fuzz target: it runs inputs 1, 2, 3… of it, each made of its number alone, as many as
// MATHUB_FUZZ_INPUTS says. MATHUB_FUZZ_FROM is the first, so that a run goes on where another has stopped. Several workers, as many as
// MATHUB_FUZZ_WORKERS says, one by default, each have a world of their own, which begin makes. Run returns what became of an
// input; the report counts by it.
func Numbered(t *testing.T, otherwise uint64, begin func(t *testing.T) (run func(n uint64) int)) {
	t.Helper()
	first, last := number(t, "MATHUB_FUZZ_FROM", 1), number(t, "MATHUB_FUZZ_INPUTS", otherwise)
	var next atomic.Uint64
	next.Store(first - 1)
	var mu sync.Mutex
	outcomes := map[int]int{}
	began := time.Now()
	var all sync.WaitGroup
	for range number(t, "MATHUB_FUZZ_WORKERS", 1) {
		run := begin(t)
		all.Go(func() {
			for n := next.Add(1); n <= last && !t.Failed(); n = next.Add(1) {
				outcome := run(n)
				mu.Lock()
				outcomes[outcome]++
				mu.Unlock()
				if n%10_000 == 0 {
					t.Logf("%d inputs, %.0f/s", n, float64(n-first+1)/time.Since(began).Seconds())
				}
			}
		})
	}
	all.Wait()
	ran := 0
	for _, n := range outcomes {
		ran += n
	}
	t.Logf("%d inputs from %d on, %.0f/s: %v", ran, first, float64(ran)/time.Since(began).Seconds(), outcomes)
}

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, name)
	return max(n, 1)
}
