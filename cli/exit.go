package cli

import (
	"errors"
	"os"
	"strconv"
)

// exitUsage says that the command line is at fault, and exitWrong that "ops status" found something. 0 is success, and 1, as
// kong has it for every other error, that the API said no or the delivery failed.
const (
	exitUsage = 2
	exitWrong = 3
)

// kongUsage is what kong exits with when it cannot parse the command line.
const kongUsage = 80

// errFailed and errWrong end a command whose output has said already what is wrong.
const (
	errFailed = saidError(1)
	errWrong  = saidError(exitWrong)
)

// saidError is an exit code about which nothing more is to be said.
type saidError int

func (e saidError) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// ExitIfSaid ends the process if the command's output has said already what is wrong.
func ExitIfSaid(err error) {
	var said saidError
	if errors.As(err, &said) {
		os.Exit(int(said))
	}
}

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
