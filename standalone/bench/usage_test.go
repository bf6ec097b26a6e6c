package bench_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
)

// clockTick is Linux's USER_HZ, the unit of the times in /proc; it is 100 on every platform that Go knows.
const clockTick = time.Second / 100

// watched is what the processes had used up, and the databases done, when watching began.
type watched struct {
	t     *testing.T
	stack *e2e.Stack
	cpu   map[string]time.Duration
	work  map[string]work
}

// work is what Postgres did for a client.
type work struct{ statements, walBytes int64 }

func watch(t *testing.T, stack *e2e.Stack) *watched {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	require.NoError(t, err)
	track(t, stack, "top")
	for _, pid := range watchedMemory(stack) {
		// "5" resets the peak of the resident memory: proc(5).
		require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
	}
	w := &watched{t: t, stack: stack}
	w.cpu, w.work = w.processorTime(), w.databaseWork()
	return w
}

// track says whether Postgres counts statements: "top", or "none", as counting takes time.
func track(t *testing.T, stack *e2e.Stack, what string) {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "ALTER SYSTEM SET pg_stat_statements.track = "+what)
	require.NoError(t, err)
	_, err = stack.Database(t).Exec(t.Context(), "SELECT pg_reload_conf()")
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond) // until every connection has heard of it
}

func watchedMemory(stack *e2e.Stack) map[string]int {
	return map[string]int{"app": stack.Apps[0].Process().PID(), "Temporal": stack.Servers.Temporal.PID()}
}

// report notes what n deliveries, or workflows, since watch have cost the processes.
func (w *watched) report(r *report, name string, n int, unit string, processes ...string) {
	w.t.Helper()
	time.Sleep(time.Second) // what was put off, such as the rest of a workflow, is part of the cost
	cpu, work := w.processorTime(), w.databaseWork()
	track(w.t, w.stack, "none")
	memory := watchedMemory(w.stack)
	for _, process := range processes {
		r.add(fmt.Sprintf("%s: CPU of %s", name, process), "s/1,000 "+unit, (cpu[process]-w.cpu[process]).Seconds()*1000/float64(n))
		if pid := memory[process]; pid != 0 {
			r.add(fmt.Sprintf("%s: peak memory of %s", name, process), "MiB", float64(peakMemory(w.t, pid))/(1<<20))
		}
		if process != "Postgres" {
			r.add(fmt.Sprintf("%s: statements of %s", name, process), "/1,000 "+unit, float64(work[process].statements-w.work[process].statements)*1000/float64(n))
			r.add(fmt.Sprintf("%s: WAL of %s", name, process), "KB/1,000 "+unit, float64(work[process].walBytes-w.work[process].walBytes)/float64(n))
		}
	}
}

func (w *watched) databaseWork() map[string]work {
	w.t.Helper()
	rows, err := w.stack.Database(w.t).Query(w.t.Context(), `
		SELECT d.datname, sum(s.calls)::bigint, sum(s.wal_bytes)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid GROUP BY 1`)
	require.NoError(w.t, err)
	defer rows.Close()
	all := map[string]work{}
	names := map[string]string{servers.MainDatabase: "app", temporal.Database: "Temporal", temporal.VisibilityDatabase: "Temporal"}
	for rows.Next() {
		var database string
		var done work
		require.NoError(w.t, rows.Scan(&database, &done.statements, &done.walBytes))
		sum := all[names[database]]
		all[names[database]] = work{sum.statements + done.statements, sum.walBytes + done.walBytes}
	}
	require.NoError(w.t, rows.Err())
	return all
}

func (w *watched) processorTime() map[string]time.Duration {
	w.t.Helper()
	used := map[string]time.Duration{}
	for process, pid := range watchedMemory(w.stack) {
		used[process] = processTime(pid, false)
	}
	used["Postgres"] = w.pg()
	return used
}

// pg is the processor time of Postgres.
func (w *watched) pg() time.Duration {
	w.t.Helper()
	// A Postgres is a process a connection; what ended ones took stands with their parent.
	postmaster := w.stack.Servers.Postgres.PID()
	used := processTime(postmaster, true)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(w.t, err)
	for _, path := range stats {
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && parentOf(pid) == postmaster {
			used += processTime(pid, false)
		}
	}
	return used
}

// stat are the fields of /proc/<pid>/stat from the third on, see proc(5); none when the process has ended.
func stat(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // a name may hold spaces
}

func parentOf(pid int) int {
	fields := stat(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

func processTime(pid int, children bool) (sum time.Duration) {
	fields := stat(pid)
	last := 13 // utime and stime
	if children {
		last = 15 // cutime and cstime
	}
	for i := 11; i < last && i < len(fields); i++ {
		ticks, _ := strconv.ParseInt(fields[i], 10, 64)
		sum += time.Duration(ticks) * clockTick
	}
	return sum
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most that a process has held resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	found := peak.FindSubmatch(status)
	require.NotNil(t, found)
	kib, err := strconv.ParseInt(string(found[1]), 10, 64)
	require.NoError(t, err)
	return kib << 10
}
