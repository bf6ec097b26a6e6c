//go:build failpoints

// Package failpoint names the places at which the fault tests' build of the program kills itself or panics. In any other
// build they cost nothing.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// armed is what MATHUB_FAILPOINT says. "place:n": the n-th time that the program comes by, it kills itself as the kernel
// would, in the middle of what it does. "place:n:panic": it panics the first n times.
var armed = func() *arming {
	f := new(arming)
	setting, ok := os.LookupEnv("MATHUB_FAILPOINT")
	if !ok {
		return f
	}
	place, rest, _ := strings.Cut(setting, ":")
	times, how, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseInt(times, 10, 64)
	if err != nil || n < 1 || how != "" && how != "panic" {
		panic(fmt.Sprintf("MATHUB_FAILPOINT must be place:n or place:n:panic, not %q", setting))
	}
	f.place, f.panics = place, how == "panic"
	f.left.Store(n)
	return f
}()

type arming struct {
	place  string
	panics bool
	left   atomic.Int64
}

// Here is a place.
func Here(place string) {
	if place != armed.place {
		return
	}
	left := armed.left.Add(-1)
	if armed.panics && left >= 0 {
		fmt.Fprintln(os.Stderr, "panicked on purpose at "+place)
		panic("panicked on purpose at " + place)
	}
	if armed.panics || left != 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}
