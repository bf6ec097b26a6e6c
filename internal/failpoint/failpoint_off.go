//go:build !failpoints

// Package failpoint names the places at which the fault tests' build of the program kills itself or panics. In any other
// build they cost nothing.
package failpoint

// Here is a place, see failpoint_on.go.
func Here(string) {}
