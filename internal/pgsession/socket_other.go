//go:build !linux

package pgsession

import "syscall"

// limitUnacknowledged needs an option that Linux alone has; elsewhere the watch finds what the kernel does not.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }
