package cli

import (
	"errors"
	"os"
)

// exitUsage says that the command line is at fault, and exitWrong that "ops status" found something. 0 is success, and 1, as
// kong has it for every other error, that the API said no or the delivery failed.
const (
	exitUsage = 2
	exitWrong = 3
)

// kongUsage is what kong exits with when it cannot parse the command line.
const kongUsage = 80

// errFailed ends a command whose output has said already what went wrong.
var errFailed = errors.New("the delivery failed")

// errWrong ends a command whose output has said what is wrong.
var errWrong = wrongError{errors.New("something is wrong")}

type wrongError struct{ error }

// ExitCode is kong's way of asking.
func (wrongError) ExitCode() int { return exitWrong }

// usageError is a fault of the command line that is found after it was parsed.
type usageError struct{ error }

// ExitCode is kong's way of asking.
func (usageError) ExitCode() int { return exitUsage }

// Exit ends the process with the command line's documented exit codes.
func Exit(code int) {
	if code == kongUsage {
		code = exitUsage
	}
	os.Exit(code)
}
