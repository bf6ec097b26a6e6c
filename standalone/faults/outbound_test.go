package faults_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestOurWayOutIsGone takes the worker's resolver, its network and its files away under load, each for five minutes in the long
// form: no receiver is blamed, operators are told, and what was accepted meanwhile arrives once without anyone doing anything.
func TestOurWayOutIsGone(t *testing.T) {
	t.Parallel()
	const hosts = 9
	hooks := either(18, 108) // a multiple of the receivers and of the hosts
	const noAccess = "no outbound access"
	w := newWayOut(t)
	away := either(6*time.Second, 5*time.Minute)
	for _, fault := range []struct {
		name    string
		logged  string
		begin   func()
		endsNow func()
		isShort bool // it is in the short form
		// holdsBack: requests that are under way, or wait for a name, arrive when it is over, also in the moment in which their time is.
		holdsBack bool
	}{
		{"the resolver is silent", noAccess, func() { w.resolver.state.Store(mute) }, w.answer, true, true},
		{"the resolver fails", noAccess, func() { w.resolver.state.Store(serverFailure) }, w.answer, true, false},
		{"the resolver is too slow", noAccess, func() { w.resolver.state.Store(tooLate) }, w.answer, false, true},
		{"packets are dropped", noAccess, w.drop, w.lead, true, true},
		{"there is no route", noAccess, w.unroute, w.route, false, false},
		{"there are no files", noFiles, w.closeFiles, w.openFiles, true, false},
	} {
		if !soak && !fault.isShort {
			continue
		}
		t.Run(fault.name, func(t *testing.T) {
			w.t, w.roads = t, nil
			l := newLedgerBy(t, w.stack, strings.ReplaceAll(fault.name, " ", "-"), hooks, func(i int, to *testkit.Receiver) string { return w.urlTo(t, i%hosts, to) })
			for i := range hooks {
				if i/hosts%2 == 0 { // a receiver that keeps no connection needs a lookup each time
					l.receivers[i%len(l.receivers)].Answer(l.place[l.hooks[i].ID], farewell)
				}
			}
			stop := l.stream(t, time.Second)
			l.flows(t, 2*hooks)
			before := w.ownFaults()
			t.Logf("it begins at %s", time.Now().UTC().Format(time.TimeOnly))
			end := sync.OnceFunc(fault.endsNow)
			defer end()
			w.read = len(w.logged())
			fault.begin()
			began := time.Now()
			w.isTold(before, fault.logged)
			time.Sleep(time.Until(began.Add(away))) // the length of the outage
			over := time.Now()
			end()
			t.Logf("it is over at %s", over.UTC().Format(time.TimeOnly))
			if fault.holdsBack {
				l.heldBack(t, over)
			}
			require.Greater(t, w.ownFaults(), before)
			l.flows(t, 2*hooks)
			stop()
			ended := time.Now()
			l.settle(t, time.Minute)
			t.Logf("%d events to %d webhooks, %.0f faults of our own; all had arrived %v after it; %v", len(l.accepted), hooks, w.ownFaults()-before, time.Since(ended).Round(100*time.Millisecond), l.cuts)
		})
	}
	w.t = t
	finished(t, w.stack, time.Minute)
	survived(t, w.stack)
}

// heldBack notes what comes as its time is over, for as long as an attempt, or a lookup that it has joined, may have been held back.
func (l *ledger) heldBack(t *testing.T, over time.Time) {
	t.Helper()
	for range 4 {
		time.Sleep(2 * time.Second) // what came before has been answered, and is not yet sent again
		l.cutOff(t, "request that came as its time was over", over)
	}
}

// noFiles is what the log says where a process may open no more.
const noFiles = "too many open files"

// farewell takes a delivery and the connection with it.
func farewell(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "close")
	w.WriteHeader(http.StatusNoContent)
}

// wayOut is a product whose worker asks a resolver of the test's, and has one way to each host.
type wayOut struct {
	t        *testing.T
	stack    *testkit.Stack
	resolver *resolver
	roads    []*road
	worker   *testkit.App
	noRoute  string // the worker has no route while this file is there
	files    uint64
	read     int // of the worker's log, before the outage
}

func newWayOut(t *testing.T) *wayOut {
	t.Helper()
	w := &wayOut{t: t, resolver: startResolver(t), noRoute: filepath.Join(t.TempDir(), "no-route")}
	w.stack = testkit.Start(t, testkit.Options{
		Binary: builtWithWayOut(t), Servers: durable, Apps: []testkit.App{{Args: []string{"api"}}},
		Env: map[string]string{"MATHUB_MAX_WEBHOOKS_PER_BOT": "1000", "TEST_RESOLVER": w.resolver.addr, "TEST_NO_ROUTE": w.noRoute},
	})
	w.worker = w.stack.NewApp(t, testkit.App{Args: []string{"worker"}, Env: map[string]string{"MATHUB_ADMIN_ADDR": freeAddr(t)}})
	w.worker.Start(t)
	w.stack.SetEnv("MATHUB_API", w.stack.API().URL)
	return w
}

// builtWithWayOut builds the product so that what the machine decides, the test does: which DNS server is asked, and
// whether there is a route.
func builtWithWayOut(t *testing.T) string {
	t.Helper()
	return testkit.BuildChanged(t, map[string]func(string) string{
		"internal/egress/client.go": testkit.Insert(t, "	o.Resolver = machineResolver()\n", "	if o.Resolver == nil {\n"),
		"internal/egress/guard.go":  testkit.Insert(t, "	if !hasRoute() {\n		return syscall.ENETUNREACH\n	}\n", "	to, err := netip.ParseAddrPort(address)\n	if err != nil || (network"),
		"internal/egress/machine.go": func(string) string {
			return `package egress

import (
	"context"
	"net"
	"os"
)

func machineResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, os.Getenv("TEST_RESOLVER"))
	}}
}

func hasRoute() bool {
	_, err := os.Stat(os.Getenv("TEST_NO_ROUTE"))
	return err != nil
}
`
		},
	})
}

// urlTo is how the URLs of a host begin, of which the first asks for its road.
func (w *wayOut) urlTo(t *testing.T, host int, to *testkit.Receiver) string {
	t.Helper()
	if host == len(w.roads) {
		w.roads = append(w.roads, newRoad(t, strings.TrimPrefix(to.URL(""), "http://")))
	}
	_, port, _ := strings.Cut(w.roads[host].listener.Addr().String(), ":")
	return fmt.Sprintf("http://h%d%s:%s", host, strings.TrimSuffix(receiverZone, "."), port)
}

func (w *wayOut) answer() { w.resolver.state.Store(answering) }

func (w *wayOut) drop() {
	for _, r := range w.roads {
		r.close(w.t)
	}
}

func (w *wayOut) lead() {
	for _, r := range w.roads {
		r.open(w.t)
	}
}

func (w *wayOut) unroute() { require.NoError(w.t, os.WriteFile(w.noRoute, nil, 0o600)) }
func (w *wayOut) route()   { require.NoError(w.t, os.Remove(w.noRoute)) }

func (w *wayOut) closeFiles() {
	w.files = fileLimit(w.t, w.worker.Process().PID())
	limitFiles(w.t, w.worker.Process().PID(), 8)
}

func (w *wayOut) openFiles() { limitFiles(w.t, w.worker.Process().PID(), w.files) }

// isTold waits until operators can know of it: by the metric of the alerts, the log and, of DNS, the gauge, /readyz and "ops status".
func (w *wayOut) isTold(before float64, says string) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		for line := range strings.Lines(w.logged()[w.read:]) { // since it began
			if strings.Contains(line, "by a fault of our own") && strings.Contains(line, says) {
				return true
			}
		}
		return false
	}, slack*time.Minute, 100*time.Millisecond, "the outage is not felt")
	if says == noFiles { // nor can it be asked for its metrics
		return
	}
	require.Eventually(w.t, func() bool { return w.ownFaults() > before }, slack*time.Minute, 100*time.Millisecond, "the outage is not counted")
	if w.resolver.state.Load() == answering {
		return
	}
	require.Equal(w.t, "0", measured(w.t, w.worker.Env["MATHUB_ADMIN_ADDR"], "mathub_outbound_access"))
	answer, err := http.Get("http://" + w.worker.Env["MATHUB_ADMIN_ADDR"] + "/readyz")
	require.NoError(w.t, err)
	defer answer.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(answer.Body)
	require.NoError(w.t, err)
	var health struct {
		OutboundAccess struct{ DNS, Cause string }
	}
	require.NoError(w.t, json.Unmarshal(body, &health))
	require.Equal(w.t, "failed", health.OutboundAccess.DNS, string(body))
	require.NotEmpty(w.t, health.OutboundAccess.Cause)
	require.Eventually(w.t, func() bool { // the API's process delivers nothing, and knows it from the worker
		status, _ := w.stack.TryRun(w.t, "ops", "status")
		return strings.Contains(status, "Our own outbound access fails")
	}, slack*30*time.Second, time.Second, "ops status says nothing of it")
}

func (w *wayOut) logged() string {
	w.t.Helper()
	log, err := os.ReadFile(w.worker.LogPath())
	require.NoError(w.t, err)
	return string(log)
}

// ownFaults are the attempts that our own side kept from being made.
func (w *wayOut) ownFaults() (n float64) {
	w.t.Helper()
	if value := shown(w.t, w.worker.Env["MATHUB_ADMIN_ADDR"], "mathub_delivery_errors_total"); value != "" {
		_, err := fmt.Sscan(value, &n)
		require.NoError(w.t, err)
	}
	return n
}
