package supervise

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// starter is the one thread that starts children. The kernel sends a child its orphan signal when the thread that
// started it ends, not the process, and the Go runtime ends threads as it likes: this one is locked for good.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

func startTied(cmd *exec.Cmd, orphan syscall.Signal) error {
	cmd.SysProcAttr.Pdeathsig = orphan
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}
