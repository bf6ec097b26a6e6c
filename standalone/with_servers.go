package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/mathub/webhooks/standalone/scratch"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/supervise"
)

// commandGrace is what the command gets to end by itself after SIGINT or SIGTERM.
const commandGrace = 30 * time.Second

type withServersCommand struct {
	NoTemporal bool `help:"Start Postgres alone."`
	Durable    bool `help:"Have Postgres write to the disk, as on real data, for what is measured."`

	Command []string `arg:"" passthrough:"" help:"What to run, such as: -- go test ./..."`
}

// Run starts the servers, runs the command and ends everything again, however the command or this process is ended.
func (c *withServersCommand) Run() (err error) {
	args := c.Command
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("give a command, as in: standalone with-servers -- go test ./pkg")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	dir, remove, err := c.dataDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go boundLogs(ctx, dir)
	started := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by %s while the servers started", s))
		case <-started:
		}
	}()
	begin := time.Now()
	private, err := servers.Start(ctx, servers.Options{Dir: dir, Durable: c.Durable, NoTemporal: c.NoTemporal})
	close(started)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fmt.Errorf("%w\n%s", err, logTails(dir))
	}
	defer func() { err = errors.Join(err, private.Stop()) }()
	what, environment := "Private Postgres and Temporal servers are", []string{"MATHUB_TEST_DATABASE_URL=" + private.DatabaseURL("postgres")}
	if c.NoTemporal {
		what = "A private Postgres server is"
	} else {
		environment = append(environment, "TEMPORAL_ADDRESS="+private.TemporalAddr())
	}
	fmt.Fprintf(os.Stderr, "%s running (%.1fs).\n", what, time.Since(begin).Seconds())

	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // what the user asked for; it is stopped below
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), environment...)
	// At a terminal the command stays in this process's group: the terminal's Ctrl-C reaches both, and the command may
	// read. Elsewhere it leads a group, which can be ended as a whole.
	process, err := supervise.Start(args[0], cmd, supervise.Options{
		OrphanSignal: syscall.SIGTERM, ShareGroup: term.IsTerminal(int(os.Stdin.Fd())),
	})
	if err != nil {
		return err
	}
	return wait(process, private, signals)
}

// dataDir makes a folder for the servers' data, and returns what removes it.
func (c *withServersCommand) dataDir() (dir string, remove func() error, err error) {
	if !c.Durable {
		return scratch.Make()
	}
	dir, err = os.MkdirTemp("", "mathub-servers-*")
	return dir, func() error { return os.RemoveAll(dir) }, err
}

// wait passes signals on to the command and returns how it ended, as an exit status.
func wait(process *supervise.Process, private *servers.Servers, signals <-chan os.Signal) error {
	var kill <-chan time.Time
	postgres := private.Postgres.Done()
	var temporal <-chan struct{} // nil where there is none
	if private.Temporal != nil {
		temporal = private.Temporal.Done()
	}
	for {
		select {
		case <-process.Done():
			var exit *exec.ExitError
			if errors.As(process.Wait(), &exit) {
				return exitStatus(exit)
			}
			return process.Wait()
		case s := <-signals:
			if kill == nil {
				_ = process.SignalGroup(s.(syscall.Signal)) // on Unix, all are of this type
				kill = time.After(commandGrace)
				continue
			}
			process.Kill() // the second time
		case <-kill:
			process.Kill()
		case <-postgres:
			fmt.Fprintln(os.Stderr, "Postgres ended while the command ran:", private.Postgres.Ended())
			postgres = nil
		case <-temporal:
			fmt.Fprintln(os.Stderr, "Temporal ended while the command ran:", private.Temporal.Ended())
			temporal = nil
		}
	}
}

// status is an error that says only with which status to exit.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func exitStatus(exit *exec.ExitError) error {
	if state, ok := exit.Sys().(syscall.WaitStatus); ok && state.Signaled() {
		return status(128 + int(state.Signal())) // as shells say it
	}
	return status(exit.ExitCode())
}
