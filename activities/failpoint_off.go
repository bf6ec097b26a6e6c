//go:build !failpoints

package activities

// failpoint is a place at which the fault tests' build of the program kills itself; see failpoint_on.go.
func failpoint(string) {}
