package bench_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// clockTick is Linux's USER_HZ, the unit of the times in /proc; it is 100 on every platform that Go knows.
const clockTick = time.Second / 100

// rested bounds the wait until a system rests.
const rested = 15 * time.Second

// spent is the processor time that f costs a system, by process: from when the system rests until it rests again, as
// what is put off, such as the rest of a workflow, is part of the cost. And the peaks of memory are f's from then on.
func (s *system) spent(t *testing.T, f func()) map[string]time.Duration {
	t.Helper()
	s.rest(t)
	for _, pid := range s.pids {
		// "5" resets the peak of the resident memory: proc(5).
		require.NoError(t, os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0))
	}
	before := s.processorTime(t)
	f()
	s.rest(t)
	spent := s.processorTime(t)
	for process := range spent {
		spent[process] -= before[process]
	}
	return spent
}

// rest waits until the system takes less than a fifth of a core for half a second, or less in the short form: no more than it always does.
func (s *system) rest(t *testing.T) {
	t.Helper()
	if !full {
		return // on a machine that does other things, it does not come to rest
	}
	const window = 500 * time.Millisecond
	total := func() (sum time.Duration) {
		for _, used := range s.processorTime(t) {
			sum += used
		}
		return sum
	}
	for deadline := time.Now().Add(rested); ; {
		before := total()
		time.Sleep(window) // the time that is measured
		if total()-before < window/5 {
			return
		}
		if time.Now().After(deadline) {
			t.Logf("%s does not come to rest within %s", s.name, rested)
			return
		}
	}
}

// processorTime is what the system's processes and Postgres have used up.
func (s *system) processorTime(t *testing.T) map[string]time.Duration {
	t.Helper()
	used := map[string]time.Duration{}
	for process, pid := range s.pids {
		used[process] = processTime(pid, false)
	}
	used["Postgres"] = familyTime(t, s.stack.Servers.Postgres.PID())
	return used
}

// familyTime is what a process and its children have used up, with those that have ended.
func familyTime(t *testing.T, parent int) (used time.Duration) {
	t.Helper()
	for _, pid := range family(t, parent) {
		used += processTime(pid, false)
	}
	// What ended ones took stands with their parent.
	return used + processTime(parent, true) - processTime(parent, false)
}

// family are a process and its children: Postgres has a process a connection, and some more, under one parent.
func family(t *testing.T, parent int) []int {
	t.Helper()
	pids := []int{parent}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, path := range stats {
		if pid, err := strconv.Atoi(strings.Split(path, "/")[2]); err == nil && parentOf(pid) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// memory is what the system's processes and Postgres hold resident, in MiB. What Postgres's processes share is counted
// once.
func (s *system) memory(t *testing.T) map[string]float64 {
	t.Helper()
	held := map[string]float64{}
	for process, pid := range s.pids {
		held[process] = kibibytes(t, pid, "status", "VmRSS") / 1024
	}
	held["Postgres"] = familyMemory(t, s.stack.Servers.Postgres.PID())
	return held
}

// familyMemory is what a process and its children hold resident, in MiB.
func familyMemory(t *testing.T, parent int) (held float64) {
	t.Helper()
	for _, pid := range family(t, parent) {
		held += kibibytes(t, pid, "smaps_rollup", "Pss") / 1024
	}
	return held
}

// cost notes what n deliveries, or workflows, have cost, and the memory that is held after them.
func (r *report) cost(t *testing.T, s *system, name, unit string, n int64, spent map[string]time.Duration) {
	t.Helper()
	var sum time.Duration
	for _, process := range slices.Sorted(maps.Keys(spent)) {
		sum += spent[process]
		r.add(name+": CPU of "+process, "s/1,000 "+unit, spent[process].Seconds()*1000/float64(n))
	}
	r.add(name+": CPU of all", "s/1,000 "+unit, sum.Seconds()*1000/float64(n))
	r.memory(t, s, name)
}

// memory notes what a system holds now, and the peaks of its processes since spent, or since they began. Postgres's peak
// is not known: much of it is shared.
func (r *report) memory(t *testing.T, s *system, name string) {
	t.Helper()
	var sum float64
	held := s.memory(t)
	for _, process := range slices.Sorted(maps.Keys(held)) {
		sum += held[process]
		r.add(name+": memory of "+process, "MiB", held[process])
		if pid := s.pids[process]; pid != 0 {
			r.add(name+": peak memory of "+process, "MiB", kibibytes(t, pid, "status", "VmHWM")/1024)
		}
	}
	r.add(name+": memory of all", "MiB", sum)
}

// watched is what the databases had done when watching began.
type watched struct {
	t     *testing.T
	stack *testkit.Stack
	work  map[string]work
}

// work is what Postgres did for a client.
type work struct{ statements, walBytes int64 }

func watch(t *testing.T, stack *testkit.Stack) *watched {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	require.NoError(t, err)
	track(t, stack, "top")
	w := &watched{t: t, stack: stack}
	w.work = w.databaseWork()
	return w
}

// track says whether Postgres counts statements: "top", or "none", as counting takes time.
func track(t *testing.T, stack *testkit.Stack, what string) {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(), "ALTER SYSTEM SET pg_stat_statements.track = "+what)
	require.NoError(t, err)
	_, err = stack.Database(t).Exec(t.Context(), "SELECT pg_reload_conf()")
	require.NoError(t, err)
	time.Sleep(100 * time.Millisecond) // until every connection has heard of it
}

// report notes what Postgres has done since watch for n deliveries, or workflows.
func (w *watched) report(r *report, name string, n int, unit string, clients ...string) {
	w.t.Helper()
	if full {
		time.Sleep(time.Second) // what was put off, such as the rest of a workflow, is part of the cost
	}
	work := w.databaseWork()
	track(w.t, w.stack, "none")
	for _, client := range clients {
		r.add(fmt.Sprintf("%s: statements of %s", name, client), "/1,000 "+unit, float64(work[client].statements-w.work[client].statements)*1000/float64(n))
		r.add(fmt.Sprintf("%s: WAL of %s", name, client), "KB/1,000 "+unit, float64(work[client].walBytes-w.work[client].walBytes)/float64(n))
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

// kibibytes is a value of a process's status or smaps_rollup, see proc(5), in KiB; 0 when the process has ended.
func kibibytes(t *testing.T, pid int, file, name string) float64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0
	}
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == name+":" && fields[2] == "kB" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			require.NoError(t, err)
			return kib
		}
	}
	t.Fatalf("process %d has no %s", pid, name)
	return 0
}
