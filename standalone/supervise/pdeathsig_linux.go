package supervise

import (
	"os/exec"
	"sync"
	"syscall"
)

// starter is the thread that starts children where Options name none. The kernel sends a child its orphan signal when the
// thread that started it ends, not the process, and the Go runtime ends threads as it likes: this one is locked for good.
var starter = sync.OnceValue(func() *Thread {
	thread, _ := NewThread(func() error { return nil }) // prepares nothing
	return thread
})

func startTied(cmd *exec.Cmd, thread *Thread, orphan syscall.Signal) error {
	cmd.SysProcAttr.Pdeathsig = orphan
	if thread == nil {
		thread = starter()
	}
	return thread.Do(cmd.Start)
}
