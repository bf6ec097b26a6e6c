// Package testkit runs the whole product for end-to-end tests and fault tests: a Postgres and a Temporal server of the
// test's own, any number of the product's processes, and receivers of webhooks. Every piece can be stopped, killed and
// started again.
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
//	func TestDelivery(t *testing.T) {
//		stack := testkit.Start(t, testkit.Options{})
//		receiver := testkit.NewReceiver(t)
//		bot := stack.API().CreateBot(t, "bot")
//		bot.CreateWebhook(t, receiver.URL("/a"), "", "post.created")
//		bot.Emit(t, testkit.Event{Type: "post.created"})
//		receiver.Await(t, "/a", 1)
//	}
package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/scratch"
	"github.com/mathub/webhooks/standalone/servers"
)

// patience bounds what normally takes a moment, and on a busy machine a multiple of it: a start, a migration.
const patience = 3 * time.Minute

// ours are the variables that say what tests do. All others of the product and of Temporal would change what is tested.
var ours = []string{"MATHUB_SOAK", "MATHUB_BENCH", "MATHUB_SHOTS", "MATHUB_PICTURES"}

// Main runs a package's tests, without whatever settings of the product the environment has: call it from TestMain.
func Main(m *testing.M) {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if (strings.HasPrefix(name, "MATHUB_") || strings.HasPrefix(name, "TEMPORAL_")) && !slices.Contains(ours, name) {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	// Most of a Temporal server's time in a short test is its start, when there is little to collect.
	if os.Getenv("MATHUB_SOAK") == "" && os.Getenv("MATHUB_BENCH") == "" {
		if err := os.Setenv("GOGC", "400"); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if shared.life.end() && code == 0 {
		code = 1
	}
	if dir, err := kept(); err == nil {
		_ = os.RemoveAll(dir)
	}
	_ = removeTemplate()
	os.Exit(code)
}

// Options change what is started. The zero value starts one "serve" process with settings for tests: loopback
// receivers over http are allowed.
type Options struct {
	// Apps are the product's processes; one "serve" when empty.
	Apps []App
	// Env are variables for all of the apps, over the ones that Start sets.
	Env map[string]string
	// Binary is the product, such as one that Build made; the repository's as it is when empty.
	Binary string
	// Servers change Postgres and Temporal; Dir and Program are set by Start.
	Servers servers.Options
	// OnDisk keeps the servers' data on a disk, for what is measured. Elsewhere it is in memory, which a killed process's data
	// survives as well.
	OnDisk bool
	// Prepare, if any, is called once Postgres and Temporal run, before the database is migrated.
	Prepare func(*Stack)
}

// Stack is a running product.
type Stack struct {
	// Servers are Postgres and Temporal.
	Servers *servers.Servers
	// Apps are the product's processes, as in Options.
	Apps []*App

	dir          string
	binary       string
	databaseURL  string // empty: on Servers
	attached     *Attached
	env          map[string]string
	serviceToken string
	database     func() (*pgxpool.Pool, error)
	engine       func() (*pgxpool.Pool, error) // Temporal's database
	temporal     func() (client.Client, error)
}

// Start starts everything and waits until it works. The test's end ends it; if the test failed, the ends of all logs
// are shown.
func Start(t testing.TB, options Options) *Stack {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	s := &Stack{dir: dataDir(t, options.OnDisk), binary: options.Binary, env: map[string]string{}, serviceToken: datadir.Token()}
	if s.binary == "" {
		s.binary = Build(t)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.logTails())
		}
	})
	options.Servers.Dir, options.Servers.Program = s.dir, Standalone(t)
	var err error
	if options.Servers.Template, err = template(options.Servers); err != nil {
		t.Fatalf("make the template of Postgres and Temporal: %v", err)
	}
	if s.Servers, err = servers.Start(ctx, options.Servers); err != nil {
		t.Fatalf("start Postgres and Temporal: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Servers.Stop(); err != nil {
			t.Errorf("stop Postgres and Temporal: %v", err)
		}
	})
	s.connect(t)
	s.setTestEnv(t)
	for name, value := range options.Env {
		s.env[name] = value
	}
	if options.Prepare != nil {
		options.Prepare(s)
	}
	s.Run(t, "migrate")
	s.startApps(ctx, t, options.Apps)
	return s
}

// dataDir is where a stack keeps its data and logs.
func dataDir(t testing.TB, onDisk bool) string {
	t.Helper()
	if onDisk {
		return t.TempDir()
	}
	return Scratch(t)
}

// Scratch is a folder until the test's end, in memory where the machine has room: see scratch.Make.
func Scratch(t testing.TB) string {
	t.Helper()
	dir, remove, err := scratch.Make()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remove(); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// starts counts this process's stacks.
var starts atomic.Int32

// template is what a stack's servers are copied from. The first stack of a process makes all by itself, as it may be the only
// one.
func template(options servers.Options) (folder string, err error) {
	if starts.Add(1) == 1 || options.Temporal.HistoryShards != 0 || options.Temporal.StockConfig {
		return "", nil
	}
	sharedTemplate.once.Do(func() { sharedTemplate.folder, sharedTemplate.err = makeTemplate(options.Program) })
	return sharedTemplate.folder, sharedTemplate.err
}

// removeTemplate removes what makeTemplate made.
var removeTemplate = func() error { return nil }

// sharedTemplate is what makeTemplate made.
var sharedTemplate struct {
	once   sync.Once
	folder string
	err    error
}

func makeTemplate(program string) (folder string, err error) {
	dir, remove, err := scratch.Make()
	if err != nil {
		return "", err
	}
	removeTemplate = remove
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return servers.Template(ctx, servers.Options{Dir: dir, Program: program})
}

// setTestEnv sets what the product needs to run in a test.
func (s *Stack) setTestEnv(t testing.TB) {
	t.Helper()
	s.env["MATHUB_DATABASE_URL"] = s.Servers.LocalURL(servers.MainDatabase)
	s.env["TEMPORAL_ADDRESS"] = s.TemporalAddr()
	s.env["MATHUB_SERVICE_TOKEN"] = s.serviceToken
	s.env["MATHUB_EGRESS_ALLOW"] = "127.0.0.0/8,::1/128"
	s.env["MATHUB_EGRESS_ALLOW_HTTP"] = "true"
	s.env["MATHUB_RATE_LIMIT"] = "0" // tests ask often whether it has happened yet
	// Receivers get what a test sends, and as much of it as it sends.
	s.env["MATHUB_UNVERIFIED_RATE"], s.env["MATHUB_VERIFY_ENDPOINTS"] = "off", "off"
	s.env["MATHUB_KEYSET"] = s.Run(t, "keyset", "new")
}

// startApps starts the product's processes at once.
func (s *Stack) startApps(ctx context.Context, t testing.TB, apps []App) {
	t.Helper()
	if len(apps) == 0 {
		apps = []App{{Args: []string{"serve"}}}
	}
	var starting sync.WaitGroup
	for i := range apps {
		app := s.NewApp(t, apps[i])
		starting.Go(func() {
			if err := app.start(ctx); err != nil {
				t.Errorf("start %s: %v", app.Name, err)
			}
		})
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// DatabaseURL is how a superuser reaches the product's database.
func (s *Stack) DatabaseURL() string {
	if s.databaseURL != "" {
		return s.databaseURL
	}
	return s.Servers.DatabaseURL(servers.MainDatabase)
}

// SetDatabase puts the product's database, an empty one, elsewhere than on Servers. Call it in Prepare.
func (s *Stack) SetDatabase(url string) {
	s.databaseURL = url
	s.SetEnv("MATHUB_DATABASE_URL", url)
}

// TemporalAddr is the host and port of Temporal's frontend.
func (s *Stack) TemporalAddr() string {
	if s.attached != nil {
		return s.attached.TemporalAddr
	}
	return s.Servers.TemporalAddr()
}

// Database is a pool on the product's database.
func (s *Stack) Database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := s.database()
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// Temporal is a client of the Temporal server, like a backend's.
func (s *Stack) Temporal(t testing.TB) client.Client {
	t.Helper()
	c, err := s.temporal()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// SetEnv sets a variable for the commands and the apps that are started from now on.
func (s *Stack) SetEnv(name, value string) { s.env[name] = value }

// Env is a variable of the commands and the apps, empty when it is not set.
func (s *Stack) Env(name string) string { return s.env[name] }

// API is a client of the first app that serves the API.
func (s *Stack) API() *API {
	if s.attached != nil {
		return s.attached.API
	}
	for _, app := range s.Apps {
		if app.ServesAPI() {
			return s.APIOf(app)
		}
	}
	panic("e2e: no app serves the API")
}

// APIOf is a client of that app's API.
func (s *Stack) APIOf(app *App) *API {
	api := &API{URL: app.URL(), ServiceToken: s.serviceToken}
	if addr := app.Env["MATHUB_INTERNAL_ADDR"]; addr != "" {
		api.ServiceURL = "http://" + addr
	}
	return api
}

// Run runs a subcommand of the product to its end and returns what it printed on stdout, trimmed.
func (s *Stack) Run(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...) //nolint:gosec // the product
	cmd.Env = s.environment(nil)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("mathub-webhooks %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// TryRun runs a subcommand that may fail, and returns all it printed.
func (s *Stack) TryRun(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.binary, args...) //nolint:gosec // the product
	cmd.Env = s.environment(nil)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// environment is this process's without what speaks of other servers, and without Main's GOGC, plus the stack's and the app's.
func (s *Stack) environment(own map[string]string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MATHUB_") && !strings.HasPrefix(variable, "TEMPORAL_") && !strings.HasPrefix(variable, "PG") &&
			!strings.HasPrefix(variable, "GOGC=") {
			env = append(env, variable)
		}
	}
	for name, value := range s.env {
		if _, ok := own[name]; !ok {
			env = append(env, name+"="+value)
		}
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	return env
}

// LogPaths are the logs of all that the stack has run.
func (s *Stack) LogPaths(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func (s *Stack) logTails() string { return LogTails(s.dir) }

// LogTails are the ends of the logs in a folder.
func LogTails(dir string) string {
	const lines = 40
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // errs only on a malformed pattern
	var b strings.Builder
	for _, path := range paths {
		raw, err := os.ReadFile(path) //nolint:gosec // the test's own folder
		if err != nil || len(raw) == 0 {
			continue
		}
		all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
		fmt.Fprintf(&b, "--- the end of %s\n%s\n", filepath.Base(path), strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
	return b.String()
}
