package supervise

import (
	"runtime"
)

// Thread is a thread of the operating system that starts children until this process ends. A child inherits the thread's
// namespaces on Linux.
type Thread struct {
	jobs chan func()
}

// NewThread makes a thread and runs prepare on it, such as one that enters a namespace. After prepare's error the thread
// ends.
func NewThread(prepare func() error) (*Thread, error) {
	t := &Thread{jobs: make(chan func())}
	prepared := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := prepare()
		prepared <- err
		if err != nil {
			return
		}
		for job := range t.jobs {
			job()
		}
	}()
	return t, <-prepared
}

// Do runs job on the thread. Jobs run one after the other.
func (t *Thread) Do(job func() error) error {
	done := make(chan error)
	t.jobs <- func() { done <- job() }
	return <-done
}

// End ends the thread. What it started gets its orphan signal.
func (t *Thread) End() { close(t.jobs) }
