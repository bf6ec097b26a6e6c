package faults_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/cluster"
	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/testkit"
)

// linksAreNarrow gives each link half of what it carried in a second.
func (u *underTest) linksAreNarrow(*ledger) {
	type link struct{ from, to *hosts.Host }
	all := []*hosts.Host{u.Outside}
	for _, n := range u.Nodes() {
		u.Network.SetAround(n.Host, hosts.Link{})
		all = append(all, n.Host)
	}
	before := map[link]uint64{}
	for _, from := range all {
		for _, to := range all {
			before[link{from, to}] = u.Network.Sent(from, to)
		}
	}
	const measured = 5
	time.Sleep(measured * time.Second) // what is measured
	busiest, total := 0, 0
	for l, sent := range before {
		if l.from == l.to {
			continue
		}
		rate := int(u.Network.Sent(l.from, l.to)-sent) / measured / 2
		busiest, total = max(busiest, rate), total+rate
		u.Network.Set(l.from, l.to, hosts.Link{Rate: max(rate, 4<<10)})
	}
	u.t.Logf("all links together have %d KiB/s, the widest %d KiB/s", total>>10, busiest>>10)
	u.since = time.Now()
	u.last()
	u.Heal()
	u.repaired()
}

// clocksAreApart lets the clocks of half of the hosts, one of each kind, run 10 minutes ahead.
func (u *underTest) clocksAreApart(l *ledger) {
	if runtime.GOARCH != "amd64" {
		u.t.Skip("only on amd64 can a host have a clock of its own")
	}
	const apart = 10 * time.Minute
	ahead := []*cluster.Node{u.Primary.Node, u.Histories[0], u.Workers[0], u.APIs[0]}
	set := func(apart time.Duration) {
		for _, n := range ahead {
			require.NoError(u.t, n.SetClock(apart))
		}
	}
	set(apart)
	defer set(0)
	l.crashedAmong(u.t, "clock set") // Temporal takes what is under way for late, and has another worker do it
	var now time.Time
	require.NoError(u.t, u.stack.Database(u.t).QueryRow(u.t.Context(), "SELECT clock_timestamp()").Scan(&now))
	require.InDelta(u.t, apart.Seconds(), time.Until(now).Seconds(), 10, "Postgres's clock")
	u.last()
}

// workersLogIsFull restarts a worker whose log finds no space, and at the end one whose log does.
func (u *underTest) workersLogIsFull(*ledger) {
	worker := u.Workers[0]
	worker.Before = "exec >/dev/full 2>&1"
	u.restart(worker)
	u.last()
	worker.Before = ""
	u.restart(worker)
}

// walIsFull gives the write-ahead log 64 MB, fills them, and then gives it more.
func (u *underTest) walIsFull(l *ledger) {
	require.NoError(u.t, u.Primary.MoveWAL(u.soon(), 64<<20))
	l.flows(u.t, 60)
	u.since = time.Now()
	process := u.Primary.Process()
	conn, err := u.stack.Database(u.t).Acquire(u.t.Context())
	require.NoError(u.t, err)
	for err == nil {
		_, err = conn.Exec(u.soon(), "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
	}
	conn.Release()
	u.t.Logf("Postgres says %v", err)
	<-process.Done()
	u.t.Logf("Postgres ended %v after the load", time.Since(u.since).Round(100*time.Millisecond))
	u.last()
	require.NoError(u.t, u.Primary.GrowWAL(4<<30))
	u.repaired()
}

// filesAreFew restarts all but the load balancer with at most 256 open files a process, while strangers hold more connections to the APIs.
func (u *underTest) filesAreFew(l *ledger) {
	u.under(u.limited(), func(*cluster.Node) string { return "ulimit -n 256" })
	u.since = time.Now()
	var held []net.Conn
	for i := range 400 {
		conn, err := u.Outside.DialContext(u.soon(), "tcp", u.APIs[i%len(u.APIs)].At(8080))
		if err == nil {
			held = append(held, conn)
		}
	}
	u.t.Logf("strangers hold %d connections", len(held))
	u.last()
	l.flows(u.t, 60)
	for _, conn := range held {
		_ = conn.Close()
	}
	u.under(u.limited(), func(*cluster.Node) string { return "" })
}

// memoryIsShort restarts the product and Temporal with little memory, each process in a control group.
func (u *underTest) memoryIsShort(l *ledger) {
	limits := map[*cluster.Node]int{}
	for _, n := range slices.Concat(u.APIs, u.Workers) {
		limits[n] = 64 << 20
	}
	for _, n := range slices.Concat(u.Frontends, u.Histories, u.Matchings, u.TemporalWorkers) {
		limits[n] = 256 << 20
	}
	var limited []*cluster.Node
	for _, n := range u.limited() {
		if limits[n] > 0 {
			u.t.Logf("%s has %s", n.Name, memoryOf(u.t, n))
			limited = append(limited, n)
		}
	}
	groups := map[*cluster.Node]string{}
	u.under(limited, func(n *cluster.Node) string {
		groups[n] = filepath.Join(memoryGroup(u.t, n.Name, limits[n]), "cgroup.procs")
		return fmt.Sprintf("echo $$ >%s && export GOMEMLIMIT=%d", groups[n], limits[n]*3/4)
	})
	u.since = time.Now()
	var processes []int
	for _, n := range limited {
		processes = append(processes, n.Process().PID())
		limited, err := os.ReadFile(groups[n])
		require.NoError(u.t, err)
		require.Equal(u.t, strconv.Itoa(n.Process().PID()), strings.TrimSpace(string(limited)))
	}
	u.last()
	l.flows(u.t, 60)
	for i, n := range limited {
		u.t.Logf("%s has %s", n.Name, memoryOf(u.t, n))
		require.Equal(u.t, processes[i], n.Process().PID(), "%s ended: %s", n.Name, n.LogPath)
	}
	u.under(limited, func(*cluster.Node) string { return "" })
}

// limited are the hosts whose processes are restarted under limits: Postgres's first, then Temporal's, then the product's.
func (u *underTest) limited() []*cluster.Node {
	return slices.Concat([]*cluster.Node{u.Standby.Node, u.Primary.Node}, u.Histories, u.Matchings, u.Frontends, u.TemporalWorkers, u.Workers, u.APIs)
}

// under restarts hosts' programs one after the other with something before each.
func (u *underTest) under(nodes []*cluster.Node, before func(*cluster.Node) string) {
	for _, n := range nodes {
		n.Before = before(n)
		u.restart(n)
	}
}

// restart restarts a program. One that ends while it starts, as Temporal does without its database, is started again, as by an orchestrator.
func (u *underTest) restart(n *cluster.Node) {
	ctx := u.soon()
	require.NoError(u.t, n.Stop(ctx))
	for err := n.Start(ctx); err != nil; err = n.Start(ctx) {
		u.t.Log(err)
		require.NoError(u.t, ctx.Err())
		time.Sleep(500 * time.Millisecond) // before it is started again
	}
}

// memoryOf is what the kernel says of a program's memory.
func memoryOf(t *testing.T, n *cluster.Node) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.Process().PID()))
	require.NoError(t, err)
	_, line, _ := strings.Cut(string(status), "VmRSS:")
	line, _, _ = strings.Cut(line, "\n")
	return strings.TrimSpace(line)
}

// memoryGroup makes a control group whose processes are killed when they need more than so many bytes. It is removed with the test.
func memoryGroup(t *testing.T, name string, bytes int) (folder string) {
	t.Helper()
	root, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes" // the first version's
	if _, err := os.Stat(root); err != nil {
		root, limit = "/sys/fs/cgroup", "memory.max"
		require.NoError(t, os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0o600))
	}
	folder = filepath.Join(root, fmt.Sprintf("mathub-faults-%d-%s", os.Getpid(), name))
	require.NoError(t, os.Mkdir(folder, 0o700))
	t.Cleanup(func() { require.NoError(t, os.Remove(folder)) })
	require.NoError(t, os.WriteFile(filepath.Join(folder, limit), fmt.Append(nil, bytes), 0o600))
	return folder
}

// upgradedAndBack goes to another release and back, one process after the other: of the workers, both releases work side by side.
func (u *underTest) upgradedAndBack(l *ledger) {
	next := nextRelease(u.t)
	side := either(away, 10*time.Minute)
	applied, err := u.Migrate(u.soon(), next)
	require.NoError(u.t, err)
	require.Contains(u.t, applied, "applied ")
	product := slices.Concat(u.Workers, u.APIs)
	half := []*cluster.Node{u.Workers[0], u.APIs[0]}
	for _, n := range half {
		n.Binary = next
		u.restart(n)
	}
	time.Sleep(side) // both releases work
	for _, binary := range []string{next, ""} {
		for _, n := range slices.Concat(u.Histories, u.Matchings, u.Frontends, u.TemporalWorkers, product) {
			n.Binary = binary
			u.restart(n)
		}
		l.flows(u.t, 250)
	}
	u.repaired()
	for range strings.Count(applied, "applied ") {
		reverted, err := u.Migrate(u.soon(), next, "down", "--yes")
		require.NoError(u.t, err)
		require.Contains(u.t, reverted, "reverted")
	}
	for _, n := range product {
		log, err := os.ReadFile(n.LogPath)
		require.NoError(u.t, err)
		require.NotContains(u.t, strings.ToLower(string(log)), "nondeterminis", "a history did not fit the code")
	}
}

// nextRelease builds the product with another version, more workflow code and a migration more.
func nextRelease(t *testing.T) string {
	t.Helper()
	return testkit.BuildChanged(t, changedWorkflows(t), changedSchema)
}
