package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// beMain lets the test's program be the standalone program.
const beMain = "MATHUB_STANDALONE_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		os.Exit(0)
	}
	testkit.Main(m)
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{dir: filepath.Join(t.TempDir(), "home"), app: filepath.Join(t.TempDir(), "mathub-webhooks")}
	require.NoError(t, os.Mkdir(m.dir, 0o700))
	require.NoError(t, os.Symlink(testkit.Build(t), m.app))
	for _, port := range []*int{&m.api, &m.temporal, &m.webUI, &m.admin} {
		var err error
		*port, err = freeport.Find()
		require.NoError(t, err)
	}
	return m
}

// TestFirstHour does what a new user does: starts it, tries what it prints, stops it, and starts it again.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	first := m.start(t)
	first.awaitReady()
	require.Contains(t, first.output(), "First start")
	for _, path := range []string{"/healthz", "/readyz"} {
		status, body := m.get(t, path, "")
		require.Equal(t, http.StatusOK, status, body)
	}
	info, err := os.Stat(filepath.Join(m.dir, ".data", "credentials.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// The printed commands, with a port that is surely free.
	port, err := freeport.Find()
	require.NoError(t, err)
	secret := regexp.MustCompile(`receiver --secret (whsec_\S+)`).FindStringSubmatch(first.output())
	require.NotNil(t, secret, first.output())
	receiver := m.start(t, "receiver", "--secret", secret[1], "--port", strconv.Itoa(port))
	receiver.await("Waiting for webhooks", 1, patience)
	_, commands, ok := strings.Cut(first.output(), "in a third:\n")
	require.True(t, ok)
	commands = strings.ReplaceAll(commands, "127.0.0.1:9000", fmt.Sprintf("127.0.0.1:%d", port))
	shell := exec.Command(testkit.Tool(t, "bash"), "-e", "-u")
	shell.Dir, shell.Stdin = m.dir, strings.NewReader(commands)
	answers, err := shell.CombinedOutput()
	require.NoError(t, err, "%s", answers)
	require.Contains(t, string(answers), "DELIVERY", "the history")
	receiver.await(`"event":"post.created"`, 1, patience)
	receiver.await("✓", 4, patience) // two signatures each, of the verification and the event
	require.NotContains(t, receiver.output(), "✗")

	key, token, ui := first.line("Bot key"), first.line("Service token"), first.line("Temporal UI")
	var hooks string
	require.Eventually(t, func() bool { // both deliveries are in the history
		var status int
		status, hooks = m.get(t, "/api/bot/v1/webhooks", key)
		return status == http.StatusOK && strings.Contains(hooks, `"deliveries24h":2`)
	}, patience, 50*time.Millisecond)
	var listed struct {
		Executions []struct{ Type struct{ Name string } }
	}
	// The event's and that of the webhook's queue, which sent the verification, and none of Temporal's own. The list is
	// brought up to date in steps.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		response, err := http.Get(ui + "/api/v1/namespaces/default/workflows")
		require.NoError(c, err)
		require.NoError(c, json.NewDecoder(response.Body).Decode(&listed))
		require.NoError(c, response.Body.Close())
		var types []string
		for _, e := range listed.Executions {
			types = append(types, e.Type.Name)
		}
		require.ElementsMatch(c, []string{"DeliverEvent", "WebhookQueue"}, types)
	}, time.Minute, 50*time.Millisecond)
	page, err := http.Get(ui)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.NoError(t, page.Body.Close())

	family := descendants(t, first.cmd.Process.Pid)
	require.NoError(t, first.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, 0, first.awaitEnd(patience), first.problems())
	requireGone(t, family, patience)
	m.requirePortsFree(t)

	m.asBefore = true // where it listens
	internal, err := freeport.Find()
	require.NoError(t, err)
	second := m.start(t, "--internal-addr", fmt.Sprintf("127.0.0.1:%d", internal))
	second.awaitReady()
	require.NotContains(t, second.output(), "First start")
	require.Equal(t, key, second.line("Bot key"))
	require.Equal(t, token, second.line("Service token"))
	status, again := m.get(t, "/api/bot/v1/webhooks", key)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, hooks, again)
	var found []testkit.Webhook
	require.NoError(t, json.Unmarshal([]byte(again), &found))
	_, deliveries := m.get(t, "/api/bot/v1/webhooks/"+found[0].ID+"/deliveries", key)
	require.Contains(t, deliveries, `"success":true`)
	requireEnvWorks(t, m, second)
	require.Empty(t, second.problems())
}

// requireEnvWorks: in a shell that has sourced the file, the product's commands work, as a client and on the installation.
func requireEnvWorks(t *testing.T, m *machine, r *run) {
	t.Helper()
	file := filepath.Join(m.dir, ".data", "env")
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.Contains(t, r.output(), "source .data/env")
	for _, shell := range []string{"bash", "zsh"} {
		script := "set -e; source .data/env; mathub-webhooks webhooks list; mathub-webhooks ops bots list; mathub-webhooks bot portal demo; mathub-webhooks fuse list; mathub-webhooks ops audit; mathub-webhooks trigger post.created; mathub-webhooks doctor --help >/dev/null; mathub-webhooks portal"
		cmd := exec.Command(testkit.Tool(t, shell), "-c", script)
		cmd.Dir, cmd.Env = m.dir, []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
		printed, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, printed)
		require.Contains(t, string(printed), "demo")
		require.Contains(t, string(printed), "/portal")
	}
}

// TestTroubleIsMended takes every child away, and at last the supervisor itself.
func TestTroubleIsMended(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := m.start(t)
	r.awaitReady()
	token := r.line("Service token")
	api := &testkit.API{URL: fmt.Sprintf("http://127.0.0.1:%d", m.api), ServiceToken: token}
	receiver := testkit.NewReceiver(t)
	bot := api.CreateBot(t, "trouble")
	bot.CreateWebhook(t, receiver.URL("/hook"), "", "post.created")
	arrived := 0
	// works until it has taken an event and delivered it.
	works := func(limit time.Duration) {
		t.Helper()
		arrived++
		e := testkit.Event{ID: "trouble-" + strconv.Itoa(arrived), Type: "post.created", BotIDs: []string{bot.ID}}
		deadline := time.Now().Add(limit)
		for {
			if _, err := api.TryEmit(t.Context(), e); err == nil {
				break
			} else if time.Now().After(deadline) {
				t.Fatalf("no event was taken within %s: %v", limit, err)
			}
			time.Sleep(100 * time.Millisecond) // before it asks again
		}
		receiver.AwaitWithin(t, "/hook", arrived, time.Until(deadline))
	}
	kill := func(text string, sig syscall.Signal) { require.NoError(t, syscall.Kill(r.child(text), sig)) }
	works(patience)

	kill(temporal.Subcommand, syscall.SIGKILL)
	r.await("Temporal server ended (signal: killed)", 1, patience)
	r.await("Temporal server is back", 1, patience)
	works(patience)

	kill(" serve", syscall.SIGKILL)
	r.await("API and worker is back", 1, patience)
	kill(webUIName, syscall.SIGKILL)
	r.await("Temporal Web UI is back", 1, patience)

	// What pg_ctl stop -m immediate sends.
	kill("postgres -D", syscall.SIGQUIT)
	r.await("Postgres is back", 1, patience)
	works(patience)

	// It hangs: only asking it finds out.
	kill(temporal.Subcommand, syscall.SIGSTOP)
	r.await("Temporal server ended (it has not worked for 1", 1, patience)
	r.await("Temporal server is back", 2, patience)
	works(patience)

	family := descendants(t, r.cmd.Process.Pid)
	require.NoError(t, r.cmd.Process.Kill())
	r.awaitEnd(patience)
	requireGone(t, family, patience)
	r = m.start(t)
	r.awaitReady()
	works(patience)
}

// TestOneLineSaysWhatToDo: what is wrong from the start is said in a line, and nothing is left running.
func TestOneLineSaysWhatToDo(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	taken := strconv.Itoa(busy.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(m.dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	planted := filepath.Join(m.dir, "planted")
	require.NoError(t, os.Mkdir(planted, 0o700))
	require.NoError(t, os.Symlink(file, filepath.Join(planted, "lock")))
	for name, c := range map[string]struct {
		args   []string
		wanted []string
	}{
		"API's port":      {[]string{"--addr", "127.0.0.1:" + taken}, []string{"127.0.0.1:" + taken, "address already in use", "MATHUB_ADDR="}},
		"Temporal's port": {[]string{"--temporal-port", taken}, []string{"port " + taken, "MATHUB_TEMPORAL_PORT="}},
		"UI's port":       {[]string{"--ui-port", taken}, []string{"port " + taken, "MATHUB_UI_PORT="}},
		"Postgres's port": {[]string{"--postgres-port", taken}, []string{"port " + taken, "MATHUB_POSTGRES_PORT="}},
		"no address":      {[]string{"--addr", "8080"}, []string{"MATHUB_ADDR is \"8080\""}},
		"another's host":  {[]string{"--addr", "192.0.2.1:8080"}, []string{"the API cannot listen on 192.0.2.1:8080", "assign requested address", "correct MATHUB_ADDR"}},
		"no port":         {[]string{"--ui-port", "99999"}, []string{"invalid port", "correct MATHUB_UI_PORT"}},
		"data folder":     {[]string{"--data-dir", filepath.Join(file, "data")}, []string{"not a directory", "MATHUB_DATA_DIR"}},
		"planted link":    {[]string{"--data-dir", planted}, []string{"lock is a symbolic link", "MATHUB_DATA_DIR"}},
		"no product":      {[]string{"--app", filepath.Join(m.dir, "nothing")}, []string{"nothing is missing", "make build"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.start(t, c.args...)
			require.Equal(t, 1, r.awaitEnd(patience))
			require.Equal(t, 1, strings.Count(r.problems(), "\n"), r.problems())
			for _, text := range c.wanted {
				require.Contains(t, r.problems(), text)
			}
		})
	}
	t.Run("several ports", func(t *testing.T) {
		r := m.start(t, "--addr", "127.0.0.1:"+taken, "--ui-port", taken)
		require.Equal(t, 1, r.awaitEnd(patience))
		require.Equal(t, 1, strings.Count(r.problems(), "\n"), r.problems())
		require.Contains(t, r.problems(), "the API cannot listen on 127.0.0.1:"+taken)
		require.Contains(t, r.problems(), "the Temporal Web UI cannot listen on port "+taken)
		proposed := regexp.MustCompile(`MATHUB_ADDR=127\.0\.0\.1:(\d+) MATHUB_UI_PORT=(\d+) make run$`).FindStringSubmatch(strings.TrimSpace(r.problems()))
		require.NotNil(t, proposed, r.problems())
		require.NotEqual(t, proposed[1], proposed[2])
		for _, port := range proposed[1:] {
			number, err := strconv.Atoi(port)
			require.NoError(t, err)
			require.NoError(t, freeport.Check(number))
		}
	})
	require.NoDirExists(t, filepath.Join(m.dir, ".data", "postgres"), "it was said before anything was made")

	t.Run("locked folder", func(t *testing.T) {
		// A product that never gets ready leaves time to try a second one.
		slow := filepath.Join(m.dir, "slow")
		require.NoError(t, os.WriteFile(slow, []byte("#!/bin/sh\nexec sleep 60\n"), 0o755))
		holder := m.start(t, "--app", slow)
		holder.await("Postgres…", 1, patience)
		r := m.start(t)
		require.Equal(t, 1, r.awaitEnd(patience))
		require.Equal(t, 1, strings.Count(r.problems(), "\n"), r.problems())
		require.Contains(t, r.problems(), fmt.Sprintf("in use by process %d", holder.cmd.Process.Pid))
		require.Contains(t, r.problems(), "MATHUB_DATA_DIR")

		// Ctrl-C in the middle of a start.
		holder.await("API and worker…", 1, patience)
		family := descendants(t, holder.cmd.Process.Pid)
		require.NoError(t, holder.cmd.Process.Signal(os.Interrupt))
		require.Equal(t, 0, holder.awaitEnd(patience), holder.problems())
		requireGone(t, family, patience)
	})
	t.Run("broken product", func(t *testing.T) {
		broken := filepath.Join(m.dir, "broken")
		require.NoError(t, os.WriteFile(broken, []byte("#!/bin/sh\necho out of cheese >&2\nexit 7\n"), 0o755))
		r := m.start(t, "--app", broken)
		require.Equal(t, 1, r.awaitEnd(patience))
		require.Contains(t, r.problems(), "exit status 7")
		require.Contains(t, r.problems(), "out of cheese")
		m.requirePortsFree(t)
	})
}

// TestSecondInterruptForces: a product that does not want to stop holds the first Ctrl-C up, not the second.
func TestSecondInterruptForces(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	stubborn := filepath.Join(m.dir, "stubborn")
	script := fmt.Sprintf("#!/bin/sh\n[ $1 = serve ] || exec %[1]s \"$@\"\ntrap '' TERM\n%[1]s serve &\nwhile :; do sleep 0.1; done\n", m.app)
	require.NoError(t, os.WriteFile(stubborn, []byte(script), 0o755))
	m.app = stubborn
	r := m.start(t)
	r.awaitReady()
	family := descendants(t, r.cmd.Process.Pid)
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	r.await("Stopping", 1, patience)
	time.Sleep(500 * time.Millisecond) // for its end, which must not come yet
	require.NoError(t, r.cmd.Process.Signal(syscall.Signal(0)), "it waits for its children")
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	require.Equal(t, 1, r.awaitEnd(8*time.Second)) // it would wait for longer
	require.Contains(t, r.problems(), "was killed before it had stopped")
	requireGone(t, family, patience)
}

// TestWithServers runs commands with servers of their own, of which nothing stays.
func TestWithServers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.temporary = t.TempDir()
	requireNothingStays := func(t *testing.T) {
		t.Helper()
		left, err := os.ReadDir(m.temporary)
		require.NoError(t, err)
		require.Empty(t, left)
	}
	t.Run("status and servers", func(t *testing.T) {
		seen := filepath.Join(m.dir, "seen")
		r := m.start(t, "with-servers", "--", "sh", "-c",
			`echo "$MATHUB_TEST_DATABASE_URL $TEMPORAL_ADDRESS"; while ! [ -e "$0" ]; do sleep 0.05; done; exit 42`, seen)
		r.await("\n", 1, patience)
		database, address, ok := strings.Cut(strings.TrimSpace(r.output()), " ")
		require.True(t, ok, r.output())
		conn, err := pgx.Connect(t.Context(), database)
		require.NoError(t, err)
		var superuser string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('is_superuser')").Scan(&superuser))
		require.Equal(t, "on", superuser)
		require.NoError(t, conn.Close(t.Context()))
		c, err := client.Dial(client.Options{HostPort: address})
		require.NoError(t, err)
		_, err = c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
		require.NoError(t, err)
		c.Close()
		require.NoError(t, os.WriteFile(seen, nil, 0o600))
		require.Equal(t, 42, r.awaitEnd(patience), r.problems())
		requireNothingStays(t)
	})
	t.Run("terminated", func(t *testing.T) {
		r := m.start(t, "with-servers", "--", "sh", "-c", `echo running; sleep 60 & wait`)
		r.await("running", 1, patience)
		family := descendants(t, r.cmd.Process.Pid)
		require.NoError(t, r.cmd.Process.Signal(syscall.SIGTERM))
		require.Equal(t, 128+15, r.awaitEnd(patience), r.problems())
		requireGone(t, family, patience)
		requireNothingStays(t)
	})
	t.Run("no such command", func(t *testing.T) {
		r := m.start(t, "with-servers", "--", "no-such-command")
		require.Equal(t, 1, r.awaitEnd(patience))
		require.Contains(t, r.problems(), "no-such-command")
		requireNothingStays(t)
	})
}
