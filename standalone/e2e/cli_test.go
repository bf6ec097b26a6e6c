package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/mathub/webhooks/internal/testutil"
	"github.com/mathub/webhooks/standalone/testkit"
)

// terminal is where a bot developer works: the product's program on PATH, and the API's address and keys in the
// environment.
type terminal struct {
	env []string
}

func openTerminal(t *testing.T, stack *testkit.Stack, bot *testkit.Bot) *terminal {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Symlink(testkit.Build(t), filepath.Join(dir, "mathub-webhooks")))
	return &terminal{env: append(os.Environ(),
		"PATH="+dir+":"+testkit.ToolsPath(t), "MATHUB_API="+stack.API().URL, "MATHUB_BOT_KEY="+bot.Key,
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

// run runs the product's program to its end, with an event on its standard input for those that read it.
func (tm *terminal) run(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return tm.feed(t, `{"event":"post.created","data":{}}`, args...)
}

// feed is run with another input.
func (tm *terminal) feed(t *testing.T, input string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := tm.command(ctx, "mathub-webhooks", args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// lines gathers what a program prints while it runs.
type lines struct{ testutil.Buffer }

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(l.String(), text) }, 3*time.Minute, 20*time.Millisecond, "%q was not printed", text)
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
		kill := time.AfterFunc(time.Minute, cancel)
		defer kill.Stop()
		_ = cmd.Wait()
		return cmd.ProcessState.ExitCode()
	})
	t.Cleanup(func() { stop(); cancel() })
	return stdout, stderr, stop
}

// TestCommandLine is what bot developers do on the command line. The commands of its docs run in TestDocs.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	for name, run := range map[string]func(t *testing.T, stack *testkit.Stack){
		"exit codes":          exitCodes,
		"delivery that fails": failedDeliveries,
		"several at once":     severalAtOnce,
		"what happened":       whatHappened,
		"completion":          completions,
	} {
		t.Run(name, func(t *testing.T) { run(t, stack) })
	}
	t.Run("listen survives a restart", func(t *testing.T) { listenForwards(t, stack) }) // last: it restarts the API
}

func listenForwards(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "listening")
	tm := openTerminal(t, stack, bot)
	before := bot.Emit(t, testkit.Event{Type: post, ID: "before"})
	require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), before.WorkflowID, "").Get(t.Context(), nil)) // it is stored
	stdout, stderr, stop := tm.start(t, "mathub-webhooks", "listen", "--forward", receiver.URL("/hook"), "--events", post)
	stderr.await(t, "Ready")
	secret := regexp.MustCompile(`whsec_\S+`).FindString(stderr.String())
	require.NotEmpty(t, secret)
	data := json.RawMessage(`{"n":12345678901234567890.10,"html":"\u003ca\u003e"}`)
	bot.Emit(t, testkit.Event{Type: post, ID: "first", Data: data})
	bot.Emit(t, testkit.Event{Type: "wiki.edited", ID: "unwanted"})
	receiver.Await(t, "/hook", 1)

	app := stack.Apps[0]
	app.Stop(t)
	stderr.await(t, "Retrying in")
	app.Start(t)
	receiver.Answer("/hook", testkit.Status(http.StatusTeapot))
	bot.Emit(t, testkit.Event{Type: post, ID: "second"})
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

func exitCodes(t *testing.T, stack *testkit.Stack) {
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
		{1, "401", "emit - --service-token wrong"},
		{1, "connection refused", "emit - --api http://127.0.0.1:1 --timeout 100ms"},
		{2, "no such file", "emit nowhere.jsonl"},
		{2, "--timeout", "emit - --timeout 0s"},
		{2, "file", "emit"},
		{2, "--count", "trigger post.created --count 0"},
		{2, "--count", "trigger post.created --count 101"},
		{2, "--id", "trigger post.created --count 2 --id e1"},
		{2, "--api", "webhooks list --api nowhere"},
		{2, "--api", "trigger post.created --api nowhere"},
		{2, "", "webhooks list --nope"},
		{2, "", "webhooks"},
		{2, "", "webhooks create https://example.com"},
		{2, "nothing to change", "webhooks update some"},
		{2, "post.created", "trigger nope"},
		{2, "botIds", "trigger mention"},
		{2, "data", "trigger post.created --data []"},
		{2, "--forward", "listen --forward nonsense"},
		{2, "--since", "webhooks deliveries --since yesterday"},
		{2, "--status-class", "webhooks recover some --status-class 9xx"},
		{1, "limit", "webhooks deliveries --limit 51"},
		{1, "after", "events --after nowhere"},
	} {
		stdout, stderr, code := tm.run(t, strings.Fields(c.args)...)
		require.Equal(t, c.code, code, "%s\n%s%s", c.args, stdout, stderr)
		require.Contains(t, stdout+stderr, c.says, c.args)
		require.Less(t, strings.Count(stdout+stderr, "\n"), 8, "an error is short: %s", c.args)
		require.NotContains(t, stdout+stderr, bot.Key)
	}
	keyless := &terminal{env: append(tm.env, "MATHUB_BOT_KEY=")}
	_, stderr, code := keyless.run(t, "webhooks", "list")
	require.Equal(t, 2, code, stderr)
}

// severalAtOnce emits what stands in a file and on the standard input, and several samples.
func severalAtOnce(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "several")
	bot.CreateWebhook(t, receiver.URL("/hook"), "", post)
	tm := openTerminal(t, stack, bot)
	var written strings.Builder
	for i := range 120 {
		fmt.Fprintf(&written, `{"id":"line-%d","event":"post.created","data":{"n":%d.10},"botIds":[%q]}`+"\n", i, i, bot.ID)
	}
	file := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(written.String()), 0o600))
	stdout, stderr, code := tm.run(t, "emit", file)
	require.Zero(t, code, stderr)
	require.Equal(t, "120 events accepted, 0 of them duplicates\n", stdout)
	receiver.Await(t, "/hook", 120)

	written.WriteString(`{"id":"line-0","event":"post.created","data":{}}` + "\n")
	fmt.Fprintf(&written, `{"id":"new","event":"post.created","data":{},"botIds":[%q]}`, bot.ID)
	stdout, stderr, code = tm.feed(t, written.String(), "emit", "-", "--json")
	require.Zero(t, code, stderr)
	receipts := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, receipts, 122)
	for i, line := range receipts {
		var receipt struct {
			ID        string
			Duplicate bool
		}
		require.NoError(t, json.Unmarshal([]byte(line), &receipt))
		require.Equal(t, i != 121, receipt.Duplicate, line)
	}
	receiver.Await(t, "/hook", 121)

	_, stderr, code = tm.feed(t, written.String()+"\n{}", "emit", "-")
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "line 123: invalid event: is required")
	require.Contains(t, stderr, "nothing from line 101 on is emitted")

	stdout, stderr, code = tm.run(t, "trigger", post, "--count", "3", "--bot", bot.ID)
	require.Zero(t, code, stderr)
	require.Len(t, strings.Split(strings.TrimSpace(stdout), "\n"), 4)
	stdout, stderr, code = tm.run(t, "trigger", post, "--count", "2", "--bot", bot.ID, "--json")
	require.Zero(t, code, stderr)
	var samples []struct{ ID, WorkflowID string }
	require.NoError(t, json.Unmarshal([]byte(stdout), &samples))
	require.Len(t, samples, 2)
	require.Equal(t, samples[0].WorkflowID, samples[1].WorkflowID, "what is emitted at once shares a workflow")
	require.NotEqual(t, samples[0].ID, samples[1].ID)
	receiver.Await(t, "/hook", 126)
	require.Equal(t, 126, receiver.Count())
}

func failedDeliveries(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/", testkit.Status(http.StatusInternalServerError))
	bot := stack.API().CreateBot(t, "failed")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	tm := openTerminal(t, stack, bot)
	stdout, _, code := tm.run(t, "webhooks", "test", hook.ID)
	require.Equal(t, 1, code)
	require.Contains(t, stdout, "HTTP 500")
	stdout, _, code = tm.run(t, "webhooks", "deliveries", hook.ID, "--json")
	require.Zero(t, code)
	var list []testkit.Delivery
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	require.Len(t, list, 1)
	_, _, code = tm.run(t, "webhooks", "redeliver", hook.ID, list[0].ID)
	require.Equal(t, 1, code)
}
