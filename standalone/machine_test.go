package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// machine is where one standalone program at a time runs: a data folder and ports.
type machine struct {
	dir                         string // current folder, which only its owner can enter, like /root
	api, temporal, webUI, admin int
	app                         string
	temporary                   string // TMPDIR
	asBefore                    bool   // it is not told where to listen
}

// run is a started standalone program.
type run struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout string // path
	stderr string
	done   chan struct{}
}

func (m *machine) start(t *testing.T, args ...string) *run {
	t.Helper()
	r := &run{t: t, done: make(chan struct{})}
	r.cmd = exec.Command(os.Args[0], append([]string{"--app", m.app}, args...)...)
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		r.cmd = exec.Command(os.Args[0], args...)
	}
	r.cmd.Dir = m.dir
	r.cmd.Env = append(os.Environ(), beMain+"=1", "TMPDIR="+m.temporary)
	if !m.asBefore {
		r.cmd.Env = append(r.cmd.Env, fmt.Sprintf("MATHUB_ADDR=127.0.0.1:%d", m.api),
			fmt.Sprintf("MATHUB_ADMIN_ADDR=127.0.0.1:%d", m.admin), fmt.Sprintf("MATHUB_TEMPORAL_PORT=%d", m.temporal), fmt.Sprintf("MATHUB_UI_PORT=%d", m.webUI))
	}
	out, err := os.CreateTemp(t.TempDir(), "stdout-*")
	require.NoError(t, err)
	problems, err := os.CreateTemp(t.TempDir(), "stderr-*")
	require.NoError(t, err)
	r.cmd.Stdout, r.cmd.Stderr = out, problems
	r.stdout, r.stderr = out.Name(), problems.Name()
	require.NoError(t, r.cmd.Start())
	require.NoError(t, out.Close())
	require.NoError(t, problems.Close())
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	t.Cleanup(func() {
		// Its children end after it, and Postgres writes until it has ended: the folder is removed after that.
		left := descendants(t, r.cmd.Process.Pid)
		_ = r.cmd.Process.Kill()
		<-r.done
		awaitGone(t, left, patience)
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", r.output(), r.problems())
		}
	})
	return r
}

// patience bounds what normally takes a moment, and on a busy machine a multiple of it.
const patience = 3 * time.Minute

func (r *run) output() string { return read(r.t, r.stdout) }

func (r *run) problems() string { return read(r.t, r.stderr) }

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}

// await waits until the output contains text n times.
func (r *run) await(text string, n int, limit time.Duration) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); strings.Count(r.output(), text) < n; time.Sleep(20 * time.Millisecond) { // before it looks again
		select {
		case <-r.done:
			require.GreaterOrEqual(r.t, strings.Count(r.output(), text), n, "it ended: %s", r.problems())
			return
		default:
		}
		require.False(r.t, time.Now().After(deadline), "no %q within %s", text, limit)
	}
}

func (r *run) awaitReady() {
	r.t.Helper()
	r.await("Ready after", 1, patience)
}

// awaitEnd waits for the end and returns the exit status.
func (r *run) awaitEnd(limit time.Duration) int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(limit): // the most that it may take
		r.t.Fatalf("it still runs after %s", limit)
	}
	return r.cmd.ProcessState.ExitCode()
}

// process is a running process.
type process struct {
	pid  int
	args string
}

// descendants are all processes that pid started, and theirs.
func descendants(t *testing.T, pid int) []process {
	t.Helper()
	out, err := exec.Command(testkit.Tool(t, "ps"), "-A", "-o", "pid=,ppid=,stat=,args=").Output()
	require.NoError(t, err)
	children := map[int][]process{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || strings.HasPrefix(fields[2], "Z") {
			continue
		}
		child, err := strconv.Atoi(fields[0])
		require.NoError(t, err)
		parent, err := strconv.Atoi(fields[1])
		require.NoError(t, err)
		children[parent] = append(children[parent], process{child, strings.Join(fields[3:], " ")})
	}
	var all []process
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for _, child := range children[queue[0]] {
			all = append(all, child)
			queue = append(queue, child.pid)
		}
	}
	return all
}

// child is the running descendant whose command line has the text.
func (r *run) child(text string) int {
	r.t.Helper()
	all := descendants(r.t, r.cmd.Process.Pid)
	i := slices.IndexFunc(all, func(p process) bool { return strings.Contains(p.args, text) })
	require.GreaterOrEqual(r.t, i, 0, "no %q in %v", text, all)
	return all[i].pid
}

// requireGone waits until none of the processes runs any more; there must be some.
func requireGone(t *testing.T, processes []process, limit time.Duration) {
	t.Helper()
	require.NotEmpty(t, processes)
	awaitGone(t, processes, limit)
}

func awaitGone(t *testing.T, processes []process, limit time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) { // before it looks again
		left := slices.DeleteFunc(slices.Clone(processes), func(p process) bool {
			out, err := exec.Command(testkit.Tool(t, "ps"), "-o", "stat=", "-p", strconv.Itoa(p.pid)).Output()
			return err != nil || strings.HasPrefix(strings.TrimSpace(string(out)), "Z")
		})
		if len(left) == 0 {
			return
		}
		require.False(t, time.Now().After(deadline), "left running: %v", left)
	}
}

func (m *machine) requirePortsFree(t *testing.T) {
	t.Helper()
	for _, port := range []int{m.api, m.temporal, m.webUI} {
		require.NoError(t, freeport.Check(port))
	}
}

func (m *machine) get(t *testing.T, path, token string) (int, string) {
	t.Helper()
	answer, err := (&testkit.API{URL: fmt.Sprintf("http://127.0.0.1:%d", m.api)}).Do(t.Context(), http.MethodGet, path, token, nil)
	require.NoError(t, err)
	return answer.Status, string(answer.Body)
}

// line is what a label of the banner stands beside.
func (r *run) line(label string) string {
	r.t.Helper()
	match := regexp.MustCompile(`(?m)^  ` + label + ` +(\S+)$`).FindStringSubmatch(r.output())
	require.NotNil(r.t, match, "no %q in %s", label, r.output())
	return match[1]
}
