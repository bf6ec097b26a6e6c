package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mathub/webhooks/standalone/datadir"
)

type runCommand struct {
	DataDir      string   `env:"MATHUB_DATA_DIR" help:"The directory of all data. Default: .data."`
	Addr         string   `env:"MATHUB_ADDR" help:"Where the API listens. Default: as at the last start, at first 127.0.0.1:8080."`
	InternalAddr string   `env:"MATHUB_INTERNAL_ADDR" help:"A separate address for the service API. Empty: it is at MATHUB_ADDR."`
	TemporalPort int      `env:"MATHUB_TEMPORAL_PORT" help:"Port of the Temporal server. Default: as at the last start, at first 7233."`
	UIPort       int      `env:"MATHUB_UI_PORT" help:"Port of Temporal's Web UI. Default: as at the last start, at first 8233."`
	UIHosts      []string `name:"ui-hosts" env:"MATHUB_UI_HOSTS" help:"Host names that Temporal's Web UI answers to besides localhost, such as that of a proxy."`
	AdminAddr    string   `env:"MATHUB_ADMIN_ADDR" help:"Where the operators' pages, metrics and profiles are served. Default: as at the last start, at first 127.0.0.1:6060 or a free port."`
	PostgresPort int      `env:"MATHUB_POSTGRES_PORT" help:"Port of Postgres. Default: a free one, which is kept."`
	App          string   `type:"path" help:"The mathub-webhooks program. Default: the one beside this program."`
}

// Run starts everything, waits for Ctrl-C or SIGTERM and stops everything.
func (c *runCommand) Run() (err error) {
	ctx, force, stopListening := interrupts()
	defer stopListening()
	for _, variable := range os.Environ() {
		// PGHOST and its like speak of another server than ours, and every Postgres client heeds them.
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	if err := c.findApp(); err != nil {
		return err
	}
	data, err := datadir.Open(cmp.Or(c.DataDir, ".data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()

	c.settleAddresses(data.State)
	s := &stack{runCommand: c, data: data, say: newTerminal(os.Stdout)}
	go boundLogs(ctx, data.Logs())
	err = s.start(ctx)
	if err == nil {
		err = s.writeEnv()
	}
	if err == nil {
		s.say.block(s.banner(ctx))
		<-ctx.Done()
		s.say.line("")
		s.say.line("Stopping… (Ctrl-C again: at once)")
	}
	interrupted := ctx.Err() != nil
	stopErr := s.stop(force)
	if interrupted && err != nil {
		err = nil // what the interruption broke off
	}
	return errors.Join(err, stopErr)
}

// settleAddresses fills in what was not asked for: as at the last start.
func (c *runCommand) settleAddresses(last datadir.State) {
	c.Addr = cmp.Or(c.Addr, last.Addr, "127.0.0.1:8080")
	c.TemporalPort = cmp.Or(c.TemporalPort, last.TemporalPort, 7233)
	c.UIPort = cmp.Or(c.UIPort, last.UIPort, 8233)
	if c.AdminAddr = cmp.Or(c.AdminAddr, last.AdminAddr); c.AdminAddr == "" {
		admin := listener{host: "127.0.0.1:", port: 6060}
		if admin.check(admin.port) != nil {
			admin.port = admin.free(map[int]bool{c.TemporalPort: true, c.UIPort: true, c.PostgresPort: true})
		}
		c.AdminAddr = admin.setting(admin.port)
	}
}

// interrupts returns a context that the first Ctrl-C or SIGTERM ends, and one that the second ends.
func interrupts() (first, second context.Context, stop func()) {
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	// Where output goes to a pipe whose reader is gone, writing it fails; it must not end this process in mid-air.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for _, end := range []func(){endFirst, endSecond} {
			select {
			case <-signals:
				end()
			case <-done:
				return
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		close(done)
		endFirst()
		endSecond()
	}
}

func (c *runCommand) findApp() error {
	if c.App == "" {
		executable, err := os.Executable()
		if err != nil {
			return err
		}
		c.App = filepath.Join(filepath.Dir(executable), "mathub-webhooks")
	}
	if _, err := exec.LookPath(c.App); err != nil {
		return fmt.Errorf("%s is missing: build it with make build, or name it with --app", c.App)
	}
	return nil
}
