package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/webui"
)

// What each child gets to stop by itself. The app's is what its worker takes at most for deliveries in flight.
const (
	appGrace      = 12 * time.Second
	uiGrace       = 3 * time.Second
	temporalGrace = 20 * time.Second
	postgresGrace = time.Minute // it writes a checkpoint, and on a busy machine its processes take their time
)

// startPatience bounds each child's start. Only Postgres, which may have a log to replay, takes longer than seconds.
const startPatience = 5 * time.Minute

// stack is everything that runs, in the order of starting; it is stopped the other way round.
type stack struct {
	*runCommand
	data *datadir.Dir
	say  *terminal

	server                      *postgres.Server
	postgres, temporal, ui, app *supervise.Supervisor
	servicePorts                []int // of Temporal's services beside the frontend
	logs                        []*os.File
	begun                       time.Time
}

func (s *stack) start(ctx context.Context) error {
	s.begun = time.Now()
	if err := s.checkPorts(); err != nil {
		return err
	}
	s.data.State.AdminAddr = s.AdminAddr
	s.data.State.Addr, s.data.State.TemporalPort, s.data.State.UIPort = s.Addr, s.TemporalPort, s.UIPort
	if err := s.data.Save(); err != nil {
		return err
	}
	s.say.line("Mathub Webhooks on this machine, with its data in %s", s.data.Path)
	if s.data.Fresh {
		s.say.line("First start: creating a database, keys and a bot.")
	}
	for _, step := range []struct {
		name string
		log  string
		run  func(context.Context) error
	}{
		{"Postgres", "postgres", s.startPostgres},
		{"Temporal server", "temporal", s.startTemporal},
		{"Temporal Web UI", "temporal-ui", s.startUI},
		{"API and worker", "mathub-webhooks", s.startApp},
	} {
		s.say.begin(step.name)
		bounded, cancel := context.WithTimeout(ctx, startPatience)
		err := step.run(bounded)
		cancel()
		if err != nil {
			s.say.failed()
			if ctx.Err() == nil && errors.Is(err, supervise.ErrEnded) {
				log := filepath.Join(s.data.Logs(), step.log+".log")
				err = fmt.Errorf("%s: %w. The end of %s:\n%s", step.name, err, log, logTail(log))
			}
			return err
		}
		s.say.ready()
	}
	return nil
}

func (s *stack) keep(k *supervise.Supervisor) *supervise.Supervisor {
	k.Say = func(text string) { s.say.line("%s %s", time.Now().Format(time.TimeOnly), text) }
	return k
}

func (s *stack) log(name string) (*os.File, error) {
	file, err := s.data.Log(name)
	if err == nil {
		s.logs = append(s.logs, file)
	}
	return file, err
}

// startPostgres looks for a port first: the user's, or the one of the last time, or a free one.
func (s *stack) startPostgres(ctx context.Context) error {
	log, err := s.log("postgres")
	if err != nil {
		return err
	}
	port := s.PostgresPort
	if port == 0 {
		port = s.data.State.PostgresPort
	}
	prepare := func(port int) error {
		s.server, err = postgres.Prepare(ctx, postgres.Config{
			Dir:      s.data.Postgres(),
			Port:     port,
			Password: s.data.Credentials.PostgresPassword,
			Log:      log,
			Say:      s.say.note,
		})
		return err
	}
	// The port is looked at only now: until here, a server that a killed run left behind may have held it.
	if err := prepare(port); err != nil {
		return err
	}
	if s.PostgresPort == 0 && (port == 0 || freeport.Check(port) != nil) {
		if port, err = freeport.Find(); err != nil {
			return err
		}
		s.server.SetPort(port)
	}
	s.data.State.PostgresPort = port
	if err := s.data.Save(); err != nil {
		return err
	}
	s.say.version(s.server.Version())
	s.postgres = s.keep(&supervise.Supervisor{
		Name:       "Postgres",
		Command:    func() (*exec.Cmd, error) { return s.server.Command(), nil },
		Options:    supervise.Options{OrphanSignal: postgres.StopSignal},
		Ready:      s.server.AwaitReady,
		StopSignal: postgres.StopSignal,
		Grace:      postgresGrace,
	})
	if err := s.postgres.Start(ctx); err != nil {
		return err
	}
	if err := s.server.CreateDatabases(ctx, "mathub", temporal.Database, temporal.VisibilityDatabase); err != nil {
		return fmt.Errorf("%w. The end of %s:\n%s", err, log.Name(), logTail(log.Name())) // which says why, such as a full disk
	}
	return nil
}

func (s *stack) temporalSettings() temporal.Settings {
	return temporal.Settings{PostgresURL: s.server.LocalURL("postgres"), Port: s.TemporalPort, ServicePorts: s.servicePorts}
}

func (s *stack) startTemporal(ctx context.Context) error {
	log, err := s.log("temporal")
	if err != nil {
		return err
	}
	if s.servicePorts, err = temporal.FindServicePorts(); err != nil {
		return err
	}
	settings := s.temporalSettings()
	s.temporal = s.keep(&supervise.Supervisor{
		Name:    "Temporal server",
		Command: func() (*exec.Cmd, error) { return settings.Command(log, "") },
		Ready: func(ctx context.Context, ended <-chan struct{}) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return temporal.AwaitReady(ctx, settings.Addr(), ended)
		},
		Watch:      temporal.Watchdog{Addr: settings.Addr(), Database: s.server.Ping}.Watch,
		StopSignal: temporal.StopSignal,
		Grace:      temporalGrace,
	})
	return s.temporal.Start(ctx)
}

func (s *stack) startUI(ctx context.Context) error {
	log, err := s.log("temporal-ui")
	if err != nil {
		return err
	}
	settings := webui.Settings{Port: s.UIPort, TemporalAddr: s.temporalSettings().Addr(), Hosts: s.UIHosts}
	if os.Getenv("MATHUB_CODEC_KEYSET") != "" {
		settings.Codec = urlOf(s.AdminAddr) + "/codec"
	}
	s.ui = s.keep(&supervise.Supervisor{
		Name:       "Temporal Web UI",
		Command:    func() (*exec.Cmd, error) { return settings.Command(log, webUIName) },
		Ready:      settings.AwaitReady,
		StopSignal: webui.StopSignal,
		Grace:      uiGrace,
	})
	return s.ui.Start(ctx)
}

// stop stops what runs, the other way round, each within its grace; when force ends, at once.
func (s *stack) stop(force context.Context) error {
	var errs []error
	for _, k := range []*supervise.Supervisor{s.app, s.ui, s.temporal, s.postgres} {
		if k != nil {
			errs = append(errs, k.Stop(force))
		}
	}
	if s.server != nil {
		errs = append(errs, s.server.Close())
	}
	for _, log := range s.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}
