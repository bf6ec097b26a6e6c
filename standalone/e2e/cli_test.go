package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
)

// terminal is where a bot developer works: the product's program on PATH, and the API's address and keys in the
// environment.
type terminal struct {
	env []string
}

func openTerminal(t *testing.T, stack *e2e.Stack, bot *e2e.Bot) *terminal {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(e2e.Build(t), filepath.Join(dir, "mathub-webhooks")))
	return &terminal{env: append(os.Environ(),
		"PATH="+dir+":"+e2e.ToolsPath(t), "MATHUB_API="+stack.API().URL, "MATHUB_BOT_KEY="+bot.Key,
		"MATHUB_SERVICE_TOKEN="+stack.API().ServiceToken, "BOT="+bot.ID)}
}

func (tm *terminal) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = tm.env
	for _, variable := range tm.env { // exec looks on this process's PATH
		if path, ok := strings.CutPrefix(variable, "PATH="); ok && name == "mathub-webhooks" {
			cmd.Path, cmd.Err = filepath.Join(strings.SplitN(path, ":", 2)[0], name), nil
		}
	}
	return cmd
}

// run runs the product's program to its end.
func (tm *terminal) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := tm.command(ctx, "mathub-webhooks", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// lines gathers what a program prints while it runs.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(l.String(), text) }, time.Minute, 20*time.Millisecond, "%q was not printed", text)
}

// start starts a program that is interrupted, as by Ctrl-C, with stop, which returns its exit code.
func (tm *terminal) start(t *testing.T, name string, args ...string) (stdout, stderr *lines, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := tm.command(ctx, name, args...)
	stdout, stderr = new(lines), new(lines)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	require.NoError(t, cmd.Start(), "%s is needed", name)
	stop = sync.OnceValue(func() int {
		_ = cmd.Process.Signal(syscall.SIGINT)
		kill := time.AfterFunc(10*time.Second, cancel)
		defer kill.Stop()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	})
	t.Cleanup(func() { stop(); cancel() })
	return stdout, stderr, stop
}

// TestCommandLine is what bot developers do on the command line. The commands of its docs run in TestDocs.
func TestCommandLine(t *testing.T) {
	stack := e2e.Start(t, e2e.Options{})
	for name, run := range map[string]func(t *testing.T, stack *e2e.Stack){
		"exit codes":          exitCodes,
		"delivery that fails": failedDeliveries,
	} {
		t.Run(name, func(t *testing.T) { run(t, stack) })
	}
	t.Run("listen survives a restart", func(t *testing.T) { listenForwards(t, stack) }) // last: it restarts the API
}

func listenForwards(t *testing.T, stack *e2e.Stack) {
	receiver := e2e.NewReceiver(t)
	bot := stack.API().CreateBot(t, "listening")
	tm := openTerminal(t, stack, bot)
	bot.Emit(t, e2e.Event{Type: post, ID: "before"})
	stdout, stderr, stop := tm.start(t, "mathub-webhooks", "listen", "--forward", receiver.URL("/hook"), "--events", post)
	stderr.await(t, "Ready")
	secret := regexp.MustCompile(`whsec_\S+`).FindString(stderr.String())
	require.NotEmpty(t, secret)
	data := json.RawMessage(`{"n":12345678901234567890.10,"html":"\u003ca\u003e"}`)
	bot.Emit(t, e2e.Event{Type: post, ID: "first", Data: data})
	bot.Emit(t, e2e.Event{Type: "wiki.edited", ID: "unwanted"})
	receiver.Await(t, "/hook", 1)

	app := stack.Apps[0]
	app.Stop(t)
	stderr.await(t, "Trying again")
	app.Start(t)
	receiver.Answer("/hook", e2e.Status(http.StatusTeapot))
	bot.Emit(t, e2e.Event{Type: post, ID: "second"})
	requests := receiver.Await(t, "/hook", 2)
	require.Equal(t, []string{"first", "second"}, []string{requests[0].EventID(), requests[1].EventID()})
	standard, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	for _, r := range requests {
		require.NoError(t, standard.Verify(r.Body, r.Header))
		require.Equal(t, hexHMAC(secret, r.Body), r.Header.Get("X-Mathub-Signature"))
		require.Equal(t, post, r.Header.Get("X-Mathub-Event"))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.NotEmpty(t, r.Header.Get("X-Mathub-Delivery"))
	}
	require.Regexp(t, `^\{"event":"post\.created","timestamp":"[^"]+","data":`+regexp.QuoteMeta(string(data))+`\}$`, string(requests[0].Body), "to the digit")
	stdout.await(t, "HTTP 418")
	require.Contains(t, stdout.String(), "204 No Content")
	require.Zero(t, stop(), "Ctrl-C is no failure")
	require.Equal(t, 2, receiver.Count())
	require.NotContains(t, stdout.String()+stderr.String(), bot.Key)
}

func exitCodes(t *testing.T, stack *e2e.Stack) {
	bot := stack.API().CreateBot(t, "codes")
	tm := openTerminal(t, stack, bot)
	for _, c := range []struct {
		code int
		says string
		args string
	}{
		{0, "", "webhooks list"},
		{1, "401", "webhooks list --key bot_wrong"},
		{1, "does not answer", "webhooks list --api http://127.0.0.1:1"},
		{1, "404", "webhooks deliveries nothing"},
		{1, "events[0]", "webhooks create https://example.com --events nope"},
		{1, "url", "webhooks create ftp://example.com --events mention"},
		{1, "401", "listen --key bot_wrong"},
		{1, "types[0]", "listen --events nope"},
		{1, "401", "trigger post.created --service-token wrong"},
		{2, "--api", "webhooks list --api nowhere"},
		{2, "--api", "trigger post.created --api nowhere"},
		{2, "", "webhooks list --nope"},
		{2, "", "webhooks"},
		{2, "", "webhooks create https://example.com"},
		{2, "say what to change", "webhooks update some"},
		{2, "post.created", "trigger nope"},
		{2, "botIds", "trigger mention"},
		{2, "data", "trigger post.created --data []"},
		{2, "--forward", "listen --forward nonsense"},
	} {
		stdout, stderr, code := tm.run(t, strings.Fields(c.args)...)
		require.Equal(t, c.code, code, "%s\n%s%s", c.args, stdout, stderr)
		require.Contains(t, stdout+stderr, c.says, c.args)
		require.NotContains(t, stdout+stderr, bot.Key)
	}
	keyless := &terminal{env: append(tm.env, "MATHUB_BOT_KEY=")}
	_, stderr, code := keyless.run(t, "webhooks", "list")
	require.Equal(t, 2, code, stderr)
}

func failedDeliveries(t *testing.T, stack *e2e.Stack) {
	receiver := e2e.NewReceiver(t)
	receiver.Answer("/", e2e.Status(http.StatusInternalServerError))
	bot := stack.API().CreateBot(t, "failed")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	tm := openTerminal(t, stack, bot)
	stdout, _, code := tm.run(t, "webhooks", "test", hook.ID)
	require.Equal(t, 1, code)
	require.Contains(t, stdout, "HTTP 500")
	stdout, _, code = tm.run(t, "webhooks", "deliveries", hook.ID, "--json")
	require.Zero(t, code)
	var list []e2e.Delivery
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	require.Len(t, list, 1)
	_, _, code = tm.run(t, "webhooks", "redeliver", hook.ID, list[0].ID)
	require.Equal(t, 1, code)
}
