package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/supervise"
)

// StopTimeout is what a process of the product may take to stop after SIGTERM.
const StopTimeout = 10 * time.Second

// App is a process of the product: first as a description in Options, then running in Stack.Apps.
type App struct {
	// Args are the subcommand and its flags: "serve", "api" or "worker".
	Args []string
	// Env are variables over the stack's. MATHUB_ADDR defaults to a free port.
	Env map[string]string
	// Binary is another build of the product than the stack's.
	Binary string
	// Name is for logs and messages; set by the stack when empty.
	Name string

	stack   *Stack
	addr    string
	process *supervise.Process
}

// NewApp adds an app to the stack, which its Start starts. The test's end kills it.
func (s *Stack) NewApp(t testing.TB, description App) *App {
	t.Helper()
	app := description
	app.stack = s
	if len(app.Args) == 0 {
		app.Args = []string{"serve"}
	}
	if app.Name == "" {
		app.Name = fmt.Sprintf("%s-%d", app.Args[0], len(s.Apps))
	}
	app.Env = maps.Clone(description.Env)
	if app.Env == nil {
		app.Env = map[string]string{}
	}
	if app.addr = app.Env["MATHUB_ADDR"]; app.addr == "" {
		port, err := freeport.Find()
		if err != nil {
			t.Fatal(err)
		}
		app.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		app.Env["MATHUB_ADDR"] = app.addr
	}
	t.Cleanup(func() {
		if app.process != nil {
			app.process.Kill()
		}
	})
	s.Apps = append(s.Apps, &app)
	return &app
}

// ServesAPI says whether the app listens for HTTP.
func (a *App) ServesAPI() bool { return a.Args[0] != "worker" }

// URL is where the app's API is.
func (a *App) URL() string { return "http://" + a.addr }

// Process is the app's process, or its last one.
func (a *App) Process() *supervise.Process { return a.process }

// LogPath is the file with what the app wrote, in all of its lives.
func (a *App) LogPath() string { return filepath.Join(a.stack.dir, a.Name+".log") }

// Start starts the app, after it ended, and waits until it works.
func (a *App) Start(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.start(ctx); err != nil {
		t.Fatalf("start %s: %v", a.Name, err)
	}
}

// Launch starts the app without waiting until it works.
func (a *App) Launch(t testing.TB) {
	t.Helper()
	if err := a.launch(); err != nil {
		t.Fatalf("start %s: %v", a.Name, err)
	}
}

// Stop stops the app in order, by SIGTERM. It is an error of the product if that takes longer than StopTimeout or if
// it exits with another status than 0.
func (a *App) Stop(t testing.TB) {
	t.Helper()
	if err := a.process.Stop(context.Background(), syscall.SIGTERM, StopTimeout); err != nil {
		t.Errorf("stop %s: %v", a.Name, err)
	} else if err := a.process.Wait(); err != nil {
		t.Errorf("%s stopped with %v", a.Name, err)
	}
}

// Kill ends the app as a crash would, by SIGKILL, and waits until it is gone.
func (a *App) Kill() { a.process.Kill() }

// Pause stops the app's clock, so to speak: SIGSTOP. Resume goes on.
func (a *App) Pause() error { return a.process.Signal(syscall.SIGSTOP) }

// Resume lets a paused app go on.
func (a *App) Resume() error { return a.process.Signal(syscall.SIGCONT) }

// AwaitReady waits until the app works, as after Launch.
func (a *App) AwaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.awaitReady(ctx); err != nil {
		t.Fatalf("%s: %v", a.Name, err)
	}
}

func (a *App) start(ctx context.Context) error {
	if err := a.launch(); err != nil {
		return err
	}
	return a.awaitReady(ctx)
}

func (a *App) launch() error {
	if a.process != nil && a.process.Alive() {
		return errors.New("it runs already")
	}
	log, err := os.OpenFile(a.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	binary := a.Binary
	if binary == "" {
		binary = a.stack.binary
	}
	cmd := exec.Command(binary, a.Args...) //nolint:gosec,noctx // the product; killed by the test's cleanup
	cmd.Env = a.stack.environment(a.Env)
	cmd.Stdout, cmd.Stderr = log, log
	a.process, err = supervise.Start(a.Name, cmd, supervise.Options{})
	return err
}

func (a *App) awaitReady(ctx context.Context) error {
	ready := a.pollers
	if a.ServesAPI() {
		ready = a.readyz
	}
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-a.process.Done():
			return fmt.Errorf("it ended: %s", a.process.Ended())
		case <-ctx.Done():
			return fmt.Errorf("it did not become ready: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (a *App) readyz(ctx context.Context) error {
	return supervise.AskOK(ctx, http.DefaultClient, a.URL()+"/readyz")
}

// pollers returns nil when this process asks Temporal for workflow tasks, which is how a worker without an API shows
// that it is there. The SDK's default identity begins with the process's id.
func (a *App) pollers(ctx context.Context) error {
	c, err := client.NewLazyClient(client.Options{HostPort: a.stack.TemporalAddr(), Logger: sdklog.NewStructuredLogger(quiet)})
	if err != nil {
		return err
	}
	defer c.Close()
	described, err := c.DescribeTaskQueue(ctx, emit.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return err
	}
	for _, poller := range described.GetPollers() {
		if strings.HasPrefix(poller.GetIdentity(), strconv.Itoa(a.process.PID())+"@") {
			return nil
		}
	}
	return errors.New("it does not poll yet")
}
