//go:build unix

package openfiles

import (
	"math"
	"syscall"
)

// Limit is how many files and sockets this process may have open (RLIMIT_NOFILE). Go has raised it to the hard limit already.
func Limit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(uint64(limit.Cur), math.MaxInt32)) //nolint:unconvert // its type is not the same on every system
}
