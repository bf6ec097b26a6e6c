//go:build !unix

package egress

// openFileLimit is a guess where the system does not say.
func openFileLimit() uint64 { return 1024 }
