package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/webui"
)

// What each child gets to stop by itself. The app's is what its worker takes at most for deliveries under way.
const (
	appGrace      = 12 * time.Second
	uiGrace       = 3 * time.Second
	temporalGrace = 10 * time.Second
	postgresGrace = 20 * time.Second
)

// startPatience bounds each child's start. Only Postgres, which may have a log to replay, takes longer than seconds.
const startPatience = 5 * time.Minute

// demoBot is the bot that the first start makes.
const demoBot = "demo"

type runCommand struct {
	DataDir      string   `env:"MATHUB_DATA_DIR" default:".data" help:"Where everything is kept."`
	Addr         string   `env:"MATHUB_ADDR" default:"127.0.0.1:8080" help:"Where the API listens."`
	InternalAddr string   `env:"MATHUB_INTERNAL_ADDR" help:"Where the service API listens by itself; with the rest of the API when left out."`
	TemporalPort int      `env:"MATHUB_TEMPORAL_PORT" default:"7233" help:"Port of the Temporal server."`
	UIPort       int      `env:"MATHUB_UI_PORT" default:"8233" help:"Port of Temporal's Web UI."`
	UIHosts      []string `name:"ui-hosts" env:"MATHUB_UI_HOSTS" help:"Names that Temporal's Web UI answers to besides localhost, such as that of a proxy before it."`
	PostgresPort int      `env:"MATHUB_POSTGRES_PORT" help:"Port of Postgres; a free one, kept from then on, when left out."`
	App          string   `type:"path" help:"The mathub-webhooks program; the one beside this program when left out."`
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
	data, err := datadir.Open(c.DataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()

	s := &stack{runCommand: c, data: data, say: newTerminal(os.Stdout)}
	err = s.start(ctx)
	if err == nil {
		s.say.block(s.banner())
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

// stack is everything that runs, in the order of starting; it is stopped the other way round.
type stack struct {
	*runCommand
	data *datadir.Dir
	say  *terminal

	cluster                     *postgres.Cluster
	postgres, temporal, ui, app *supervise.Supervisor
	logs                        []*os.File
	begun                       time.Time
}

func (s *stack) start(ctx context.Context) error {
	s.begun = time.Now()
	if err := s.checkPorts(); err != nil {
		return err
	}
	s.say.line("Mathub Webhooks on this machine, with its data in %s", s.data.Path)
	if s.data.Fresh {
		s.say.line("First start: it makes a database, keys and a bot.")
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

// checkPorts says early, and before anything runs, which port is taken.
func (s *stack) checkPorts() error {
	if err := checkAddr("the API", "MATHUB_ADDR", s.Addr); err != nil {
		return err
	}
	if s.InternalAddr != "" {
		if err := checkAddr("the service API", "MATHUB_INTERNAL_ADDR", s.InternalAddr); err != nil {
			return err
		}
	}
	for _, wanted := range []struct {
		what, variable string
		port           int
	}{
		{"the Temporal server", "MATHUB_TEMPORAL_PORT", s.TemporalPort},
		{"the Temporal Web UI", "MATHUB_UI_PORT", s.UIPort},
		{"Postgres", "MATHUB_POSTGRES_PORT", s.PostgresPort},
	} {
		if wanted.port == 0 && wanted.variable == "MATHUB_POSTGRES_PORT" {
			continue
		}
		if err := freeport.Check(wanted.port); err != nil {
			return fmt.Errorf("%s cannot listen on port %d (%w): stop what does, or choose another port, such as %s=%s", wanted.what, wanted.port, cause(err), wanted.variable, neighbour(strconv.Itoa(wanted.port)))
		}
	}
	return nil
}

func checkAddr(what, variable, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s is %q, which is no host:port such as 127.0.0.1:8080", variable, addr)
	}
	listener, err := net.Listen("tcp", addr) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("%s cannot listen on %s (%w): stop what does, or choose another address, such as %s=%s", what, addr, cause(err), variable, net.JoinHostPort(host, neighbour(port)))
	}
	return listener.Close()
}

// cause is what the system said, without the call that it said it to.
func cause(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

// neighbour is a port to propose in a message.
func neighbour(port string) string {
	number, err := strconv.Atoi(port)
	if err != nil || number <= 0 || number >= 65535 {
		return "8081"
	}
	return strconv.Itoa(number + 1)
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
		s.cluster, err = postgres.Prepare(ctx, postgres.Config{
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
		s.cluster.SetPort(port)
	}
	s.data.State.PostgresPort = port
	if err := s.data.Save(); err != nil {
		return err
	}
	s.say.version(s.cluster.Version())
	s.postgres = s.keep(&supervise.Supervisor{
		Name:       "Postgres",
		Command:    func() (*exec.Cmd, error) { return s.cluster.Command(), nil },
		Options:    supervise.Options{OrphanSignal: postgres.StopSignal},
		Ready:      s.cluster.AwaitReady,
		StopSignal: postgres.StopSignal,
		Grace:      postgresGrace,
	})
	if err := s.postgres.Start(ctx); err != nil {
		return err
	}
	return s.cluster.CreateDatabases(ctx, "mathub", temporal.Database, temporal.VisibilityDatabase)
}

func (s *stack) temporalSettings() temporal.Settings {
	return temporal.Settings{PostgresURL: s.cluster.LocalURL("postgres"), Port: s.TemporalPort}
}

func (s *stack) startTemporal(ctx context.Context) error {
	log, err := s.log("temporal")
	if err != nil {
		return err
	}
	settings := s.temporalSettings()
	s.temporal = s.keep(&supervise.Supervisor{
		Name:    "Temporal server",
		Command: func() (*exec.Cmd, error) { return settings.Command(log, temporalServerName) },
		Ready: func(ctx context.Context, ended <-chan struct{}) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return temporal.AwaitReady(ctx, settings.Addr(), ended)
		},
		Watch:      temporal.Watchdog{Addr: settings.Addr(), Database: s.cluster.Ping}.Watch,
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
	s.ui = s.keep(&supervise.Supervisor{
		Name:       "Temporal Web UI",
		Command:    func() (*exec.Cmd, error) { return settings.Command(log, webUIName) },
		Ready:      settings.AwaitReady,
		StopSignal: webui.StopSignal,
		Grace:      uiGrace,
	})
	return s.ui.Start(ctx)
}

// startApp brings the product's schema up to date, makes at the first start what it needs to run and to be tried, and
// starts it.
func (s *stack) startApp(ctx context.Context) error {
	log, err := s.log("mathub-webhooks")
	if err != nil {
		return err
	}
	c := &s.data.Credentials
	if c.Keyset == "" {
		if c.Keyset, err = s.ask(ctx, log, "keyset", "new"); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	if _, err := s.ask(ctx, log, "migrate"); err != nil {
		return err
	}
	if c.BotID == "" {
		if c.BotID, err = s.ask(ctx, log, "bot", "create", demoBot); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	if c.BotKey == "" {
		if c.BotKey, err = s.ask(ctx, log, "bot", "key", c.BotID); err != nil {
			return err
		}
		if err := s.data.Save(); err != nil {
			return err
		}
	}
	s.app = s.keep(&supervise.Supervisor{
		Name: "API and worker",
		Command: func() (*exec.Cmd, error) {
			cmd := s.appCommand("serve")
			cmd.Stdout, cmd.Stderr = log, log
			return cmd, nil
		},
		Ready:      s.awaitApp,
		StopSignal: syscall.SIGTERM,
		Grace:      appGrace,
	})
	return s.app.Start(ctx)
}

func (s *stack) appCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(s.App, args...) //nolint:gosec,noctx // the product; ended by its supervisor, or quick
	cmd.Env = s.appEnvironment(os.Environ())
	return cmd
}

// appEnvironment adds to env what the product needs. What the user set for it stays; which Postgres and which Temporal
// it uses is not the user's to say.
func (s *stack) appEnvironment(env []string) []string {
	env = slices.DeleteFunc(env, func(variable string) bool {
		return strings.HasPrefix(variable, "MATHUB_DATABASE_URL=") || strings.HasPrefix(variable, "TEMPORAL_")
	})
	env = supervise.WithDefaults(env, map[string]string{
		"MATHUB_ADDR":          s.Addr,
		"MATHUB_INTERNAL_ADDR": s.InternalAddr,
		"MATHUB_SERVICE_TOKEN": s.data.Credentials.ServiceToken,
		"MATHUB_KEYSET":        s.data.Credentials.Keyset,
		"MATHUB_TEMPORAL_UI":   webui.Settings{Port: s.UIPort}.URL(),
		// Receivers on this machine, without TLS, are what one tries it with.
		"MATHUB_EGRESS_ALLOW":      "127.0.0.0/8,::1/128",
		"MATHUB_EGRESS_ALLOW_HTTP": "true",
		"MATHUB_EGRESS_DENY":       fmt.Sprintf("127.0.0.1:%d", s.UIPort), // whatever link to it the user set
		// Receivers on this machine are the user's own, and one tries how much they take.
		"MATHUB_UNVERIFIED_RATE": "off",
		"GOMEMLIMIT":             "400MiB", // as in the manifests
	})
	return append(env,
		"MATHUB_DATABASE_URL="+s.cluster.LocalURL("mathub"),
		"TEMPORAL_ADDRESS="+s.temporalSettings().Addr(),
		"TEMPORAL_NAMESPACE="+temporal.Namespace,
		"TEMPORAL_CONFIG_FILE="+os.DevNull, // the user's own would speak of another server
	)
}

// ask runs a subcommand of the product and returns what it prints.
func (s *stack) ask(ctx context.Context, log *os.File, args ...string) (string, error) {
	cmd := s.appCommand(args...)
	out, err := os.CreateTemp(s.data.Path, "answer-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name()) //nolint:errcheck // nothing can be done about it
	defer out.Close()           //nolint:errcheck // read already
	cmd.Stdout, cmd.Stderr = out, log
	name := "mathub-webhooks " + strings.Join(args[:min(2, len(args))], " ")
	process, err := supervise.Start(name, cmd, supervise.Options{})
	if err != nil {
		return "", err
	}
	select {
	case <-process.Done():
	case <-ctx.Done():
		process.Kill()
		return "", ctx.Err()
	}
	if err := process.Wait(); err != nil {
		return "", fmt.Errorf("%s: %w. The end of %s:\n%s", name, err, log.Name(), logTail(log.Name()))
	}
	answer, err := os.ReadFile(out.Name())
	return string(bytes.TrimSpace(answer)), err
}

// baseURL is where this machine reaches the API.
func (s *stack) baseURL() string { return urlOf(s.Addr) }

// serviceURL is where it reaches the service API.
func (s *stack) serviceURL() string {
	if s.InternalAddr != "" {
		return urlOf(s.InternalAddr)
	}
	return s.baseURL()
}

// urlOf is where this machine reaches a listener, also if that listens on every address.
func urlOf(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func (s *stack) awaitApp(ctx context.Context, ended <-chan struct{}) error {
	for {
		err := s.askReady(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return supervise.ErrEnded
		case <-ctx.Done():
			return fmt.Errorf("the API did not become ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *stack) askReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.baseURL()+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // nothing is read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", response.Status)
	}
	return nil
}

// stop stops what runs, the other way round, each within its grace; when force ends, at once.
func (s *stack) stop(force context.Context) error {
	var errs []error
	for _, k := range []*supervise.Supervisor{s.app, s.ui, s.temporal, s.postgres} {
		if k != nil {
			errs = append(errs, k.Stop(force))
		}
	}
	if s.cluster != nil {
		errs = append(errs, s.cluster.Close())
	}
	for _, log := range s.logs {
		errs = append(errs, log.Close())
	}
	return errors.Join(errs...)
}
