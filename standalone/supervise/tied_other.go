//go:build !linux

package supervise

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd. Only Linux can tie a child's life to its parent's: elsewhere what a killed parent leaves
// running is found and stopped at the next start.
func startTied(cmd *exec.Cmd, _ syscall.Signal) error { return cmd.Start() }
