//go:build unix

package egress

import "syscall"

// openFileLimit is how many files and sockets this process may have open. Go has raised it to the hard limit already.
func openFileLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return uint64(limit.Cur) //nolint:unconvert // its type is not the same on every system
}
