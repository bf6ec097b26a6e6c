// Package supervise starts child processes, keeps them running and ends them: none outlives its parent.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Process is a child process in a process group of its own, so that a terminal's Ctrl-C does not reach it. On Linux
// the kernel ends it when this process ends in whatever way.
type Process struct {
	Name   string
	pid    int
	shared bool // it is in this process's group
	done   chan struct{}
	err    error // how it ended; read after done
}

// Options say how a child hangs on its parent.
type Options struct {
	// OrphanSignal is what the child gets when this process is gone; SIGKILL when zero. Linux only.
	OrphanSignal syscall.Signal
	// Thread starts the child, which is then in the thread's namespaces; any thread when nil.
	Thread *Thread
	// ShareGroup leaves the child in this process's group: it gets the terminal's signals and may read from it.
	ShareGroup bool
}

// Start starts cmd. What cmd writes must go to files: a pipe's reader would hang on its grandchildren.
func Start(name string, cmd *exec.Cmd, options Options) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !options.ShareGroup
	if options.OrphanSignal == 0 {
		options.OrphanSignal = syscall.SIGKILL
	}
	if err := startTied(cmd, options.Thread, options.OrphanSignal); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, pid: cmd.Process.Pid, shared: options.ShareGroup, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		if !p.shared {
			// What it left behind in its group ends with it.
			_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		}
		close(p.done)
	}()
	return p, nil
}

// PID is the child's process id, and its group's unless it shares this process's.
func (p *Process) PID() int { return p.pid }

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive says whether the child has not ended yet.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait returns how the child ended, as exec.Cmd.Wait does, once it has.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Ended says how the child ended, in words: "exit status 1", "signal: killed". Empty while it runs.
func (p *Process) Ended() string {
	switch {
	case p.Alive():
		return ""
	case p.err == nil:
		return "exit status 0"
	default:
		return p.err.Error()
	}
}

// Signal sends sig to the child alone. A child that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error { return p.send(p.pid, sig) }

// SignalGroup sends sig to the child and all that it started, or to the child alone where it shares this process's
// group.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	if p.shared {
		return p.Signal(sig)
	}
	return p.send(-p.pid, sig)
}

// Kill ends the child and its group at once and waits until the child is gone.
func (p *Process) Kill() {
	_ = p.SignalGroup(syscall.SIGKILL)
	<-p.done
}

// Stop sends sig and waits for the child's end. After grace, or when ctx ends, the whole group is killed, and that is
// the error.
func (p *Process) Stop(ctx context.Context, sig syscall.Signal, grace time.Duration) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not stop within %s and was killed", p.Name, grace)
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s was killed before it had stopped", p.Name)
	}
}

func (p *Process) send(pid int, sig syscall.Signal) error {
	if !p.Alive() {
		return nil
	}
	err := syscall.Kill(pid, sig)
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
