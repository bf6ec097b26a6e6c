package supervise

import (
	"os"
	"os/exec"
)

// Self is this program as a child with the given arguments, writing to log.
func Self(log *os.File, args ...string) (*exec.Cmd, error) {
	path, err := self()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, args...) //nolint:gosec,noctx // this program; Process ends it
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = log, log
	return cmd, nil
}
