//go:build failpoints

package activities

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// armed is what MATHUB_FAILPOINT says, "place:n": the n-th time that the program comes by, it kills itself as the
// kernel would, in the middle of what it does.
var armed = func() *arming {
	f := new(arming)
	setting, ok := os.LookupEnv("MATHUB_FAILPOINT")
	if !ok {
		return f
	}
	place, times, _ := strings.Cut(setting, ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if err != nil || n < 1 {
		panic(fmt.Sprintf("MATHUB_FAILPOINT must be place:n, not %q", setting))
	}
	f.place = place
	f.left.Store(n)
	return f
}()

type arming struct {
	place string
	left  atomic.Int64
}

func failpoint(place string) {
	if place == armed.place && armed.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}
