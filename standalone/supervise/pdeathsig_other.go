//go:build !linux

package supervise

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd. Only Linux can tie a child's life to its parent's: elsewhere a child outlives a parent that was
// killed by force.
func startTied(cmd *exec.Cmd, thread *Thread, _ syscall.Signal) error {
	if thread == nil {
		return cmd.Start()
	}
	return thread.Do(cmd.Start)
}
