//go:build !linux

package supervise

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd. Only Linux can tie a child's life to its parent's: elsewhere a child outlives a parent that was
// killed by force.
func startTied(cmd *exec.Cmd, _ syscall.Signal) error { return cmd.Start() }
