package faults_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/cluster"
	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/testkit"
)

// away is how long a host or a link of the cluster fails.
var away = either(3*time.Second, 30*time.Second)

// TestCluster lets the hosts and links of a cluster fail under load, one after the other, and settles accounts after each: what was
// accepted arrives, no receiver is blamed, and no webhook gets an event twice that a crash does not explain.
func TestCluster(t *testing.T) {
	t.Parallel()
	if err := hosts.Possible(); err != nil {
		t.Skip(err)
	}
	u := startUnderTest(t)
	for _, fault := range []struct {
		name   string
		run    func(u *underTest, l *ledger)
		isLong bool // it is only in the long form
	}{
		{"a worker's host dies", (*underTest).workerDies, false},
		{"a worker's link is slow and loses packets", (*underTest).workerIsSlow, true},
		{"a worker's host is cut off", (*underTest).workerIsCutOff, true},
		{"an API's host is cut off", (*underTest).apiIsCutOff, false},
		{"an API's answers are lost", (*underTest).apiIsMute, true},
		{"an API hears nothing", (*underTest).apiIsDeaf, true},
		{"a history host dies", (*underTest).historyDies, false},
		{"a history host is cut off from the database", (*underTest).historyLosesDatabase, true},
		{"the matching host dies", (*underTest).matchingDies, true},
		{"all workers and APIs are restarted in turn", (*underTest).rollingRestart, true},
		{"the standby is gone", (*underTest).standbyIsGone, true},
		{"all links have half of what they carry", (*underTest).linksAreNarrow, true},
		{"a worker's log is full", (*underTest).workersLogIsFull, false},
		{"each process may open 256 files", (*underTest).filesAreFew, true},
		{"each process has little memory", (*underTest).memoryIsShort, true},
		{"all are upgraded and go back", (*underTest).upgradedAndBack, true},
		{"the disk of the write-ahead log is full", (*underTest).walIsFull, true},
		{"the primary's host dies", (*underTest).primarysHostDies, true},
		{"the primary dies", (*underTest).primaryDies, false},
		// The last, as Temporal's timers are late when its clock has gone back.
		{"half of the clocks are 10 minutes ahead", (*underTest).clocksAreApart, true},
	} {
		if fault.isLong && !soak {
			continue
		}
		t.Run(fault.name, func(t *testing.T) { u.fails(t, fault.name, fault.run) })
		if t.Failed() {
			return // the next fault would meet a cluster that is not whole
		}
	}
	u.t = t
	finished(t, u.stack, either(time.Minute, 12*time.Minute))
}

// underTest is a cluster whose hosts fail.
type underTest struct {
	*cluster.Cluster

	t     *testing.T
	stack *testkit.Stack
	port  uint16 // the last that a receiver took
	// since is from when the recovery counts: the fault's begin where the cluster has to help itself, else its end.
	since time.Time
	// back is when a host or link came back whose loss the cluster had to survive: what was emitted later does not count.
	back time.Time
}

func startUnderTest(t *testing.T) *underTest {
	t.Helper()
	roles, err := os.ReadFile(filepath.Join(testkit.Root(t), "db", "roles.sql"))
	require.NoError(t, err)
	dir := testkit.Scratch(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	layout := cluster.Usual
	layout.Workers = either(2, layout.Workers)
	c, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Layout: layout, Binary: testkit.Build(t), Standalone: testkit.Standalone(t), Roles: string(roles), HAProxy: testkit.Tool(t, "haproxy"),
		Env: map[string]string{"MATHUB_RATE_LIMIT": "0"}, // tests ask often whether it has happened yet
		Say: func(line string) { t.Log(time.Now().Format(time.TimeOnly), line) },
	})
	if err != nil {
		t.Fatalf("start the cluster: %v\n%s", err, testkit.LogTails(dir))
	}
	t.Cleanup(func() { require.NoError(t, c.Stop()) })
	t.Logf("the cluster of %d hosts works after %v", len(c.Nodes()), time.Since(began).Round(100*time.Millisecond))
	return &underTest{Cluster: c, t: t, port: 20000, stack: testkit.Attach(t, testkit.Attached{
		API:         &testkit.API{URL: c.URL(), ServiceURL: c.ServiceURL(), ServiceToken: c.ServiceToken, Client: c.Client},
		DatabaseURL: c.DatabaseURL(), TemporalAddr: c.TemporalAddr(), Dial: c.Outside.DialContext, Logs: dir,
	})}
}

// fails runs a fault under load, and settles accounts.
func (u *underTest) fails(t *testing.T, name string, run func(*underTest, *ledger)) {
	u.t = t
	l := u.ledger(strings.ReplaceAll(name, " ", "-"))
	stop := l.stream(t, 50*time.Millisecond)
	l.flows(t, 60)
	u.since, u.back = time.Now(), time.Time{}
	run(u, l)
	u.Heal()
	l.flows(t, 60)
	stop()
	repeats := l.settle(t, either(2*time.Minute, 4*time.Minute))
	recovered, slowest := l.recovered(u.since, u.back)
	t.Logf("%d events to %d webhooks, %d repeats; prompt again after %v, the slowest delivery took %v",
		len(l.accepted), len(l.hooks), repeats, recovered.Round(100*time.Millisecond), slowest.Round(100*time.Millisecond))
}

// ledger is one whose receivers are outside of the cluster.
func (u *underTest) ledger(name string) *ledger {
	u.t.Helper()
	var receivers []*testkit.Receiver
	for range 3 {
		u.port++
		port := u.port
		receivers = append(receivers, testkit.NewReceiverAt(u.t, u.Outside.At(port), func(string) (net.Listener, error) { return u.Outside.Listen(port) }))
	}
	return newLedgerAt(u.t, u.stack, name, 3, receivers, func(_ int, receiver *testkit.Receiver) string { return receiver.URL("") })
}

// soon bounds what takes a moment.
func (u *underTest) soon() context.Context {
	ctx, cancel := context.WithTimeout(u.t.Context(), time.Minute)
	u.t.Cleanup(cancel)
	return ctx
}

// last lets the fault last.
func (u *underTest) last() {
	time.Sleep(time.Until(u.since.Add(away))) // the length of the fault
	u.back = time.Now()
}

// repaired: the recovery counts from now on, as only the fault's end can bring it.
func (u *underTest) repaired() { u.since, u.back = time.Now(), time.Time{} }

func (u *underTest) workerDies(l *ledger) {
	u.Workers[0].PowerOff()
	l.crashedAmong(u.t, "dead host")
	u.last()
	require.NoError(u.t, u.Workers[0].PowerOn(u.soon()))
}

func (u *underTest) workerIsSlow(*ledger) {
	u.Network.SetAround(u.Workers[0].Host, hosts.Link{Delay: 200 * time.Millisecond, Loss: 0.05})
	u.last()
	u.repaired()
}

func (u *underTest) workerIsCutOff(l *ledger) {
	u.Network.SetAround(u.Workers[0].Host, hosts.Link{Cut: true})
	l.crashedAmong(u.t, "cut link") // what it has sent and cannot record, another worker sends again
	u.last()
}

func (u *underTest) apiIsCutOff(*ledger) {
	u.Network.SetAround(u.APIs[0].Host, hosts.Link{Cut: true})
	u.last()
}

func (u *underTest) apiIsMute(*ledger) {
	u.Network.SetFrom(u.APIs[0].Host, hosts.Link{Cut: true})
	u.last()
}

func (u *underTest) apiIsDeaf(*ledger) {
	u.Network.SetTo(u.APIs[0].Host, hosts.Link{Cut: true})
	u.last()
}

func (u *underTest) historyDies(*ledger) { u.dies(u.Histories[0]) }

// matchingDies: there is one, so that no task is handed out until it is back.
func (u *underTest) matchingDies(*ledger) {
	u.dies(u.Matchings[0])
	u.repaired()
}

func (u *underTest) dies(n *cluster.Node) {
	n.PowerOff()
	u.last()
	require.NoError(u.t, n.PowerOn(u.soon()))
}

// historyLosesDatabase: the others still hear it, so it keeps its shards until the link is back.
func (u *underTest) historyLosesDatabase(*ledger) {
	for _, server := range []*cluster.Server{u.Primary, u.Standby} {
		u.Network.SetBoth(u.Histories[0].Host, server.Host, hosts.Link{Cut: true})
	}
	u.last()
	u.repaired()
}

func (u *underTest) rollingRestart(*ledger) {
	for _, n := range slices.Concat(u.Workers, u.APIs) {
		require.NoError(u.t, n.Stop(u.soon()))
		require.NoError(u.t, n.Start(u.soon()))
	}
}

// standbyIsGone: commits wait for it, so nothing is accepted, and who emits hears so.
func (u *underTest) standbyIsGone(*ledger) {
	u.Standby.PowerOff()
	api := &testkit.API{ServiceURL: "http://" + u.APIs[0].At(8081), ServiceToken: u.ServiceToken, Client: u.Client}
	answer, err := api.Do(u.soon(), http.MethodPost, "/api/internal/v1/events", api.ServiceToken,
		testkit.Event{Type: post, Data: []byte(`{}`), BotIDs: []string{"nobody"}})
	require.NoError(u.t, err)
	u.t.Logf("an emit is answered %d after %v: %s", answer.Status, time.Since(u.since).Round(100*time.Millisecond), answer.Body)
	require.Equal(u.t, http.StatusServiceUnavailable, answer.Status, "%s", answer.Body)
	require.NotEmpty(u.t, answer.Header.Get("Retry-After"))
	u.last()
	require.NoError(u.t, u.Standby.PowerOn(u.soon()))
	u.repaired()
}

func (u *underTest) primarysHostDies(l *ledger) {
	u.Primary.PowerOff()
	u.failOver(l)
}

func (u *underTest) primaryDies(l *ledger) {
	u.Primary.Kill()
	u.failOver(l)
}

// failOver promotes the standby of a primary that is gone. In the long form, it then gets a standby on that one's host.
func (u *underTest) failOver(l *ledger) {
	require.False(u.t, u.Primary.Process().Alive())
	u.last()
	require.NoError(u.t, u.Promote(u.soon()))
	u.repaired()
	l.flows(u.t, 60)
	if soak {
		u.Heal()
		require.NoError(u.t, u.AddStandby(u.soon()))
	}
}

// prompt is what a delivery takes at most where nothing fails.
const prompt = 2 * time.Second

// recovered is how long after a time the last delivery arrived that was not prompt, of the events emitted before another time, if any; and
// how long the slowest of all took.
func (l *ledger) recovered(since, before time.Time) (after, slowest time.Duration) {
	for i := range l.hooks {
		seen := map[string]bool{}
		for _, r := range l.requests(i) {
			if seen[r.EventID()] {
				continue
			}
			seen[r.EventID()] = true
			emitted := l.at[r.EventID()]
			delay := r.At.Sub(emitted)
			slowest = max(slowest, delay)
			if delay > prompt && (before.IsZero() || emitted.Before(before)) {
				after = max(after, r.At.Sub(since))
			}
		}
	}
	return after, slowest
}
