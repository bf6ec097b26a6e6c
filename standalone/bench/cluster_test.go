package bench_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/standalone/cluster"
	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/testkit"
)

// kind is a kind of process in the cluster.
type kind string

const (
	apis            kind = "API"
	workers         kind = "worker"
	frontends       kind = "Temporal frontend"
	histories       kind = "Temporal history"
	matchings       kind = "Temporal matching"
	temporalWorkers kind = "Temporal worker"
	primary         kind = "Postgres, primary"
	standby         kind = "Postgres, standby"
	balancer        kind = "load balancer"
	outside         kind = "emitters, receivers and links" // this process
)

var kinds = []kind{apis, workers, frontends, histories, matchings, temporalWorkers, primary, standby, balancer, outside}

// wideShares are the parts of a core that processes have of which there are enough.
var wideShares = map[kind]float64{
	apis: 0.1, workers: 0.1, frontends: 0.12, histories: 0.17, matchings: 0.12, temporalWorkers: 0.06,
	primary: 0.46, standby: 0.1, balancer: 0.05, outside: 0.45,
}

// narrowShares are those of the processes under test.
var narrowShares = map[kind]float64{workers: 0.05, histories: 0.1}

const (
	// widePeriod is the longest that Linux takes: only who needs more than its share for a second is stopped.
	widePeriod = time.Second
	// narrowPeriod is short, so that who is stopped goes on soon.
	narrowPeriod = 20 * time.Millisecond
)

// workload is what a cluster is given: calls of emit, as fast as they are taken, while fewer deliveries than most are outstanding for each
// worker. So nothing waits for longer than a moment, and nothing is put into a queue.
type workload struct {
	name     string
	webhooks int
	most     int
	emit     func(context.Context, *scaled, *audience) error
}

// The loads differ in how many workflows, events and deliveries they are, from which the cost of each follows.
var (
	oneWebhook = workload{"1 webhook", 1, 100, func(ctx context.Context, _ *scaled, a *audience) error { return a.emitEvents(ctx, 20) }}
	tenOfThem  = workload{"10 webhooks", 10, 160, func(ctx context.Context, _ *scaled, a *audience) error { return a.emitEvents(ctx, 4) }}
	workflowly = workload{"a workflow an event", 1, 32, startOne}
)

// startOne starts an event's workflow. While history hosts share the shards out anew, that may take longer than a call has.
func startOne(ctx context.Context, s *scaled, a *audience) (err error) {
	id := a.nextID()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = startEvent(ctx, s.temporal, id); err == nil {
			return nil
		}
	}
	return err
}

// emitters is how many calls of a load are made at once.
const emitters = 8

// step is how many workers and history hosts there are, and which of both are narrow.
type step struct {
	workers, histories int
	narrow             kind
	loads              []workload
}

func (s step) String() string {
	n, of := s.workers, "worker"
	if s.narrow == histories {
		n, of = s.histories, "history host"
	}
	if n > 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}

// TestClusterScale measures what a process of each kind carries in the layout of several machines, and how that grows with the number of
// workers and history hosts. Each process has a share of a core, all together less than there is; those under test have little, so that
// they are what everything waits for.
func TestClusterScale(t *testing.T) {
	if err := hosts.Possible(); err != nil {
		t.Skip(err)
	}
	s := startScaled(t, newReport(t))
	s.measureIdle()
	s.holdings()
	steps := []step{{1, 2, workers, []workload{oneWebhook, tenOfThem}}, {2, 2, workers, []workload{oneWebhook, tenOfThem}}}
	if full {
		steps = append(steps, step{3, 2, workers, []workload{oneWebhook, tenOfThem}})
	}
	steps = append(steps, step{2, 1, histories, []workload{workflowly}}, step{2, 2, histories, []workload{workflowly}})
	for round := range either(*rounds, 1) {
		if round%2 == 1 {
			slices.Reverse(steps) // later steps find larger tables
		}
		for _, step := range steps {
			s.run(step)
		}
	}
	s.compare()
	s.costs()
	s.r.write(t)
	require.Empty(t, s.faults)
}

func either[T any](long, short T) T {
	if full {
		return long
	}
	return short
}

// scaled is a cluster whose processes have shares of a core.
type scaled struct {
	*cluster.Cluster

	t        *testing.T
	r        *report
	product  *system
	temporal client.Client
	members  []*member
	idle     map[kind]float64 // cores that a process uses without load
	spent    map[string]*spending
	faults   []string // why a measurement says nothing
}

func startScaled(t *testing.T, r *report) *scaled {
	t.Helper()
	controller := findController(t)
	roles, err := os.ReadFile(filepath.Join(testkit.Root(t), "db", "roles.sql"))
	require.NoError(t, err)
	layout := cluster.Usual
	layout.APIs, layout.Workers = 1, either(layout.Workers, 2)
	dir := t.TempDir() // on a disk
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	c, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Layout: layout, Binary: testkit.Build(t), Standalone: testkit.Standalone(t), Roles: string(roles), HAProxy: testkit.Tool(t, "haproxy"),
		Env: map[string]string{"MATHUB_RATE_LIMIT": "0", "MATHUB_LOG_LEVEL": "warn"},
		Say: func(line string) { t.Log(line) },
	})
	if err != nil {
		t.Fatalf("start the cluster: %v\n%s", err, testkit.LogTails(dir))
	}
	t.Cleanup(func() { require.NoError(t, c.Stop()) })
	t.Logf("the cluster of %d hosts works after %v", len(c.Nodes()), time.Since(began).Round(100*time.Millisecond))
	stack := testkit.Attach(t, testkit.Attached{
		API:         &testkit.API{URL: c.URL(), ServiceURL: c.ServiceURL(), ServiceToken: c.ServiceToken, Client: c.Client},
		DatabaseURL: c.DatabaseURL(), TemporalAddr: c.TemporalAddr(), Dial: c.Outside.DialContext, Logs: dir,
	})
	s := &scaled{
		Cluster: c, t: t, r: r, temporal: stack.Temporal(t), idle: map[kind]float64{}, spent: map[string]*spending{},
		product: &system{
			name: "product", stack: stack, api: stack.API(), db: stack.Database(t), urlColumn: "origin", insert: insertThroughAPI,
			listen: func() (net.Listener, error) { return c.Outside.Listen(0) },
		},
	}
	s.addMembers(controller)
	return s
}

// run measures a step's loads.
func (s *scaled) run(step step) {
	for _, m := range s.running() {
		m.group.free(s.t)
	}
	s.have(s.Workers, step.workers)
	s.have(s.Histories, step.histories)
	a := newAudience(s.t, s.product, 1) // until history hosts have shared the shards out
	a.flow(s.t, s, workflowly, time.Second)
	a.retire(s.t)
	s.share(step.narrow)
	s.warmUp(step)
	for _, load := range step.loads {
		s.measure(step, load)
	}
}

// have lets the first n of the hosts' programs run.
func (s *scaled) have(nodes []*cluster.Node, n int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for i, node := range nodes {
		switch {
		case i < n && !node.Process().Alive():
			require.NoError(s.t, node.Start(ctx))
		case i >= n && node.Process().Alive():
			require.NoError(s.t, node.Stop(ctx))
		}
	}
}

// share gives each process its share, those of one kind a narrow one.
func (s *scaled) share(narrow kind) {
	var sum float64
	for _, m := range s.running() {
		share, period := wideShares[m.kind], widePeriod
		if m.kind == narrow {
			share, period = narrowShares[m.kind], narrowPeriod
		}
		m.share = share
		m.group.limit(s.t, share, period)
		m.group.add(s.t, m.processes(s.t)...)
		m.group.add(s.t, m.processes(s.t)...) // those that were started meanwhile
		sum += share
	}
	require.Less(s.t, sum, float64(runtime.NumCPU()), "all shares together, of the cores there are")
}

// warmUp gives the cluster work until every narrow process has been stopped at its share: work has found its way to all of them.
func (s *scaled) warmUp(step step) {
	s.t.Helper()
	a := newAudience(s.t, s.product, step.loads[0].webhooks)
	for range 20 {
		before := s.throttling()
		a.flow(s.t, s, step.loads[0], time.Second)
		idle := slices.ContainsFunc(s.running(), func(m *member) bool {
			return m.kind == step.narrow && m.group.throttling(s.t).since(before[m]) < either(0.5, 0.1)
		})
		if !idle {
			a.checkRecorded(s.t)
			a.retire(s.t)
			return
		}
	}
	s.t.Fatalf("%s: not all of them got enough work: is another process what they wait for?", step)
}

// flow gives the cluster a load for so long, and returns how many events a second were delivered, until the last was.
func (a *audience) flow(t *testing.T, s *scaled, l workload, length time.Duration) float64 {
	t.Helper()
	var all sync.WaitGroup
	began, before, most := time.Now(), a.events.Load(), int64(l.most*s.count(workers))
	for range emitters {
		all.Go(func() {
			for time.Since(began) < length && !t.Failed() {
				if a.events.Load()*int64(a.webhooks)-a.count.Load() >= most {
					time.Sleep(5 * time.Millisecond) // before it looks again
				} else if err := l.emit(t.Context(), s, a); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	events := a.events.Load()
	a.await(t, events*int64(a.webhooks))
	return float64(events-before) / time.Since(began).Seconds()
}
