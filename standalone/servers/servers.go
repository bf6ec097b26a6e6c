// Package servers starts a private, throw-away Postgres and Temporal server for tests and benchmarks. Each can be
// stopped, killed and started again by itself.
package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
)

// MainDatabase is the product's database.
const MainDatabase = "mathub"

// attempts is how often a server is started on another port when the one that was free is not any more.
const attempts = 3

// Options change what is started. The zero value will do, but for Dir.
type Options struct {
	// Dir gets the data and logs. It is the caller's to make and to remove.
	Dir string
	// Durable keeps fsync and its like on, as on real data.
	Durable bool
	// Postgres are settings by their names in postgresql.conf.
	Postgres map[string]string
	// Temporal's settings; PostgresURL and Port are set by Start.
	Temporal temporal.Settings
	// NoTemporal starts Postgres alone.
	NoTemporal bool
	// Template is a folder that the function Template made, of which the servers get a copy instead of making all they need;
	// "": none. Temporal's settings that are fixed with the first start, such as HistoryShards, are then the template's.
	Template string
	// Program is the standalone program, which becomes the Temporal server; this one when empty, see temporal.Settings.Command.
	Program string
}

// Servers are a Postgres and a Temporal server. Its methods are for one goroutine.
type Servers struct {
	Postgres, Temporal *supervise.Process

	options     Options
	server      *postgres.Server
	postgresLog *os.File
	temporalLog *os.File
}

// Start starts them and waits until they work. After an error nothing is left running.
func Start(ctx context.Context, options Options) (_ *Servers, err error) {
	s := &Servers{options: options}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	if s.postgresLog, err = logFile(options.Dir, "postgres.log"); err != nil {
		return nil, err
	}
	if s.temporalLog, err = logFile(options.Dir, "temporal.log"); err != nil {
		return nil, err
	}
	if err = s.firstPostgres(ctx); err != nil {
		return nil, err
	}
	if err = s.server.CreateDatabases(ctx, MainDatabase, temporal.Database, temporal.VisibilityDatabase); err != nil {
		return nil, err
	}
	if options.NoTemporal {
		return s, nil
	}
	s.options.Temporal.PostgresURL = s.server.LocalURL("postgres")
	for range attempts {
		if s.options.Temporal.Port, err = freeport.Find(); err != nil {
			return nil, err
		}
		if err = s.StartTemporal(ctx); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Template makes what servers hold before anyone has used them, in options.Dir, and returns the folder for Options.Template.
func Template(ctx context.Context, options Options) (folder string, err error) {
	s, err := Start(ctx, options)
	if err != nil {
		return "", err
	}
	s.Temporal.Kill() // what it keeps is in Postgres
	err = errors.Join(s.StopPostgres(ctx, postgres.StopSignal), s.Stop())
	return filepath.Join(options.Dir, postgresFolder), err
}

// postgresFolder is the data's, in Options.Dir.
const postgresFolder = "postgres"

func (s *Servers) firstPostgres(ctx context.Context) (err error) {
	folder := filepath.Join(s.options.Dir, postgresFolder)
	if s.options.Template != "" {
		// With the owner, who is another where root runs this.
		if out, err := exec.CommandContext(ctx, "cp", "-a", s.options.Template, folder).CombinedOutput(); err != nil { //nolint:gosec // the caller's folders
			return fmt.Errorf("copy the template: %w: %s", err, out)
		}
	}
	for range attempts {
		var port int
		if port, err = freeport.Find(); err != nil {
			return err
		}
		s.server, err = postgres.Prepare(ctx, postgres.Config{
			Dir:       folder,
			Port:      port,
			Password:  "throw-away", // on loopback, with nothing in it
			Log:       s.postgresLog,
			Throwaway: !s.options.Durable,
			Settings:  s.options.Postgres,
		})
		if err != nil {
			return err
		}
		if err = s.StartPostgres(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		err = errors.Join(err, s.server.Close())
		s.server = nil
	}
	return err
}

// LocalURL is DatabaseURL by the server's socket, where there is one: as `make run` has it.
func (s *Servers) LocalURL(database string) string { return s.server.LocalURL(database) }

// DatabaseURL is how a superuser reaches a database.
func (s *Servers) DatabaseURL(database string) string { return s.server.URL(database) }

// TemporalAddr is the frontend's host and port.
func (s *Servers) TemporalAddr() string { return s.options.Temporal.Addr() }

// StartPostgres starts Postgres, after it was stopped or killed, and waits until it takes connections.
func (s *Servers) StartPostgres(ctx context.Context) error {
	process, err := supervise.Start("Postgres", s.server.Command(), supervise.Options{OrphanSignal: postgres.StopSignal})
	if err != nil {
		return err
	}
	s.Postgres = process
	if err := s.server.AwaitReady(ctx, process.Done()); err != nil {
		process.Kill()
		return err
	}
	return nil
}

// StopPostgres ends Postgres: SIGINT is its fast mode, SIGQUIT its immediate mode, without a checkpoint, after which it
// recovers from its log.
func (s *Servers) StopPostgres(ctx context.Context, mode syscall.Signal) error {
	return s.Postgres.Stop(ctx, mode, 20*time.Second)
}

// StartTemporal starts Temporal, after it was stopped or killed, and waits until it runs workflows.
func (s *Servers) StartTemporal(ctx context.Context) error {
	cmd, err := s.temporalCommand()
	if err != nil {
		return err
	}
	process, err := supervise.Start("Temporal", cmd, supervise.Options{})
	if err != nil {
		return err
	}
	s.Temporal = process
	if err := temporal.AwaitReady(ctx, s.options.Temporal.Addr(), process.Done()); err != nil {
		process.Kill()
		return fmt.Errorf("%w: see %s", err, s.temporalLog.Name())
	}
	return nil
}

// SetTemporal changes what the next StartTemporal starts with.
func (s *Servers) SetTemporal(change func(*temporal.Settings)) { change(&s.options.Temporal) }

func (s *Servers) temporalCommand() (*exec.Cmd, error) {
	return s.options.Temporal.Command(s.temporalLog, s.options.Program)
}

// StopTemporal stops Temporal in order.
func (s *Servers) StopTemporal(ctx context.Context) error {
	return s.Temporal.Stop(ctx, temporal.StopSignal, 20*time.Second)
}

// Stop ends both for good, at once: nothing they hold will be needed.
func (s *Servers) Stop() error {
	if s.Temporal != nil {
		s.Temporal.Kill()
	}
	var errs []error
	if s.Postgres != nil {
		errs = append(errs, s.StopPostgres(context.Background(), syscall.SIGQUIT))
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	for _, log := range []*os.File{s.postgresLog, s.temporalLog} {
		if log != nil {
			errs = append(errs, log.Close())
		}
	}
	return errors.Join(errs...)
}

func logFile(dir, name string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // the caller's folder
}
