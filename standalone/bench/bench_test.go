// Package bench_test measures the product as its users meet it: events in over HTTP or Temporal, real receivers out, on
// a real Postgres with fsync and a real Temporal server. Absolute figures say as much about the machine as about the
// product, so yardsticks are measured in the same rounds, and what counts is the ratios:
//
//	A  a workflow that does nothing, started eagerly: the engine's floor for one workflow an event
//	B  no engine at all: insert, select, POST, record; the floor for a durable log
//	C  the naive shape: every step a regular activity
//	D  no Temporal: a deliverer on River, as a Go team would make in a day
//
// A short form of TestMeasure runs with every test, to prove that the harness works. MATHUB_BENCH=1, as `make bench` sets
// it, measures.
package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestMain makes this program yardstick D's process where it is started as that.
func TestMain(m *testing.M) {
	if settings := os.Getenv(riverVariable); settings != "" {
		if err := runRiver(context.Background(), settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.Main(m)
}

var (
	full          = os.Getenv("MATHUB_BENCH") != ""
	rounds        = flag.Int("rounds", 3, "how often everything is measured")
	jsonPath      = flag.String("figures", "", "file for the figures as JSON")
	svgPath       = flag.String("plot", "", "file for a plot of them as SVG")
	profiles      = flag.String("profiles", "", "folder for TestProfile's profiles")
	profiledBurst = flag.String("burst", bursts[0].name, "which burst TestProfile looks at, such as \"batches of 100\"")
)

// measures skips a test that `make test` does without: TestMeasure's short form uses the same harness.
func measures(t *testing.T) {
	t.Helper()
	if !full {
		t.Skip("make bench runs it")
	}
}

// sized is the size of a measurement, or, in the short form, a hundredth of it.
func sized(n int) int {
	if full {
		return n
	}
	return max(5, n/100)
}

// concurrency is how many emitters there are at once.
const concurrency = 64

// batch is how many events a call of emitBatch holds.
const batch = 100

// burst is a number of calls that are made as fast as they are taken, by how many webhooks hear of each event.
type burst struct {
	name     string
	webhooks int
	calls    int
	emit     func(*audience, context.Context) error
}

var bursts = []burst{
	{"1 webhook", 1, 5000, (*audience).emit},
	{"10 webhooks", 10, 1000, (*audience).emit},
	{"100 webhooks", 100, 200, (*audience).emit},
	{"batches of 100", 1, 100, (*audience).emitBatch},
}

// singles are the bursts of an event a call.
var singles = bursts[:3]

// pace is how many events a second come in, one by one, when latency is measured.
var paces = []int{20, 100, 400}

// backlog is how many workflows a plain Temporal client puts in at once.
const backlog = 5000

// TestMeasure measures the product and its yardsticks in turns and prints how they compare.
func TestMeasure(t *testing.T) {
	if !full {
		*rounds = 1
	}
	r := newReport(t)
	stack := start(t, servers.Options{})
	yardsticks := newYardsticks(t, stack)
	engine := newEngine(t, stack.TemporalAddr())
	defer engine.stop()
	product, river := newProduct(t, stack), newRiver(t, stack)
	warmUp(t, product, river)
	engine.empty(t, sized(500))
	for round := range *rounds {
		t.Logf("round %d of %d", round+1, *rounds)
		r.engine(t, stack, engine)
		r.add("A with stock settings", "workflows/s", stock(t))
		for _, b := range singles {
			r.add("B: no engine, "+b.name, "deliveries/s", yardsticks.direct(t, b.webhooks, sized(b.calls)))
		}
		r.add("C: all regular activities, 10 webhooks", "deliveries/s", yardsticks.naive(t, 10, sized(200)))
		for _, b := range bursts {
			for _, s := range inTurn(round, product, river) {
				r.burst(t, s, b)
			}
		}
		r.product(t, product)
		r.addLatency("A at 20/s", engine.paced(t, 20, sized(300)))
		for _, perSecond := range paces {
			for _, s := range inTurn(round, product, river) {
				r.paced(t, s, perSecond)
			}
		}
	}
	r.compare()
	r.write(t)
}

// TestAgainstRiver measures the bursts of the product and of yardstick D alone, in turns, for quick comparisons. -run
// chooses: TestAgainstRiver/1_webhook, TestAgainstRiver/batches, TestAgainstRiver//product.
func TestAgainstRiver(t *testing.T) {
	measures(t)
	r := newReport(t)
	stack := start(t, servers.Options{})
	product, river := newProduct(t, stack), newRiver(t, stack)
	warmUp(t, product, river)
	for round := range *rounds {
		for _, b := range bursts {
			for _, s := range inTurn(round, product, river) {
				t.Run(b.name+"/"+s.name, func(t *testing.T) { r.burst(t, s, b) })
			}
		}
	}
	r.compareBursts()
	r.write(t)
}

// inTurn changes who is first: it finds smaller tables.
func inTurn(round int, systems ...*system) []*system {
	if round%2 == 1 {
		slices.Reverse(systems)
	}
	return systems
}

func warmUp(t *testing.T, systems ...*system) {
	t.Helper()
	for _, s := range systems {
		a := newAudience(t, s, 1)
		a.burst(t, sized(1000), a.emit)
		a.check(t)
		a.retire(t)
	}
}

// burst measures a burst of a system, and what it cost, from when the system rests until it rests again.
func (r *report) burst(t *testing.T, s *system, b burst) {
	t.Helper()
	a := newAudience(t, s, b.webhooks)
	name := s.name + ", " + b.name
	before := s.turnedAway.Load()
	spent := s.spent(t, func() {
		r.add(name, "deliveries/s", a.burst(t, sized(b.calls), func(ctx context.Context) error { return b.emit(a, ctx) }))
	})
	r.cost(t, s, name, "deliveries", a.count.Load(), spent)
	if n := s.turnedAway.Load() - before; n > 0 {
		t.Logf("%s: %d calls were turned away and made again", name, n)
	}
	a.check(t)
	a.retire(t)
}

func (r *report) paced(t *testing.T, s *system, perSecond int) {
	t.Helper()
	a := newAudience(t, s, 1)
	r.addLatency(fmt.Sprintf("%s, emit to receipt at %d/s", s.name, perSecond), a.paced(t, perSecond, sized(15*perSecond)))
	a.check(t)
	a.retire(t)
}

// engine measures yardstick A.
func (r *report) engine(t *testing.T, stack *testkit.Stack, engine *engine) {
	t.Helper()
	floor := &system{stack: stack, pids: map[string]int{"Temporal": stack.Servers.Temporal.PID()}}
	spent := floor.spent(t, func() { r.add("A: empty workflows", "workflows/s", engine.empty(t, sized(3000))) })
	r.cost(t, floor, "A", "workflows", int64(sized(3000)), spent)
	watched := watch(t, stack) // a burst of its own, as watching takes time too
	engine.empty(t, sized(1500))
	watched.report(r, "A", sized(1500), "workflows", "Temporal")
	r.add("A put in by a plain Temporal client", "workflows/s", engine.backlog(t, sized(backlog)))
}

// product measures what no yardstick has.
func (r *report) product(t *testing.T, product *system) {
	t.Helper()
	for _, b := range singles {
		a := newAudience(t, product, b.webhooks)
		watched := watch(t, product.stack)
		a.burst(t, sized(b.calls/2), a.emit)
		watched.report(r, product.name+", "+b.name, sized(b.calls/2)*b.webhooks, "deliveries", "app", "Temporal")
		a.check(t)
		a.retire(t)
		r.backlog(t, product, b)
	}
}

// TestBacklog measures what a plain Temporal client puts in at once, beside empty workflows put in so, in turns.
func TestBacklog(t *testing.T) {
	measures(t)
	r := newReport(t)
	stack := start(t, servers.Options{})
	engine := newEngine(t, stack.TemporalAddr())
	defer engine.stop()
	product := newProduct(t, stack)
	warmUp(t, product)
	engine.empty(t, sized(500))
	for range *rounds {
		r.add("A put in by a plain Temporal client", "workflows/s", engine.backlog(t, sized(backlog)))
		r.backlog(t, product, singles[0])
	}
	r.compareBacklog()
	r.write(t)
}

// backlog measures a burst that a plain Temporal client puts in.
func (r *report) backlog(t *testing.T, product *system, b burst) {
	t.Helper()
	a := newAudience(t, product, b.webhooks)
	name := "over Temporal, " + b.name
	spent := product.spent(t, func() {
		r.add(name, "deliveries/s", a.burst(t, sized(b.calls), a.startWorkflow(product.stack.Temporal(t))))
	})
	r.cost(t, product, name, "deliveries", a.count.Load(), spent)
	a.check(t)
	r.add(name+": tasks timed out", "", float64(timedOut(t, product.stack)))
	a.retire(t)
}

// TestScale measures what a delivery costs as audiences and tables grow.
func TestScale(t *testing.T) {
	measures(t)
	r := newReport(t)
	stack := start(t, servers.Options{})
	product := newProduct(t, stack)
	for _, webhooks := range []int{100, 1000, 10_000} {
		a := newAudience(t, product, sized(webhooks))
		r.add(fmt.Sprintf("10,000 deliveries, %d webhooks an event", webhooks), "deliveries/s", a.burst(t, max(1, sized(10_000)/sized(webhooks)), a.emit))
		a.check(t)
		a.retire(t)
	}
	measure := func(when string) {
		for _, b := range singles[:2] {
			a := newAudience(t, product, b.webhooks)
			r.add(fmt.Sprintf("%s, %s", b.name, when), "deliveries/s", a.burst(t, sized(b.calls/2), a.emit))
			a.check(t)
			a.retire(t)
		}
	}
	measure("warming up")
	for range *rounds {
		measure("tables small")
	}
	load(t, stack, sized(100_000), sized(10_000_000))
	for range *rounds {
		measure("tables large")
	}
	for _, b := range singles[:2] {
		r.ratio(b.name+", tables large : small", b.name+", tables large", b.name+", tables small", 0.9)
	}
	r.print()
}

// TestMemory measures what the product's processes, Temporal's and Postgres's hold when nothing has happened yet, and
// after 100,000 events.
func TestMemory(t *testing.T) {
	measures(t)
	r := newReport(t)
	product := newProduct(t, start(t, servers.Options{}))
	product.rest(t)
	r.memory(t, product, "idle")
	a := newAudience(t, product, 1)
	for range 20 {
		r.add("100,000 events", "deliveries/s", a.burst(t, sized(5000), a.emit))
	}
	a.check(t)
	product.rest(t)
	r.memory(t, product, "after 100,000 events")
	r.atMost("memory of all in MiB, idle", "idle: memory of all", 350)
	r.atMost("memory of all in MiB, after 100,000 events", "after 100,000 events: memory of all", 700)
	r.write(t)
}

func start(t *testing.T, options servers.Options, apps ...testkit.App) *testkit.Stack {
	options.Durable = true
	if options.Postgres == nil {
		options.Postgres = map[string]string{}
	}
	options.Postgres["shared_preload_libraries"] = "pg_stat_statements"
	stack := testkit.Start(t, testkit.Options{Apps: apps, Servers: options, OnDisk: true, Env: map[string]string{"MATHUB_LOG_LEVEL": "warn"}})
	track(t, stack, "none")
	return stack
}

// stock is yardstick A on servers as they come: Temporal with four shards and its own caches, pools and limits, Postgres
// with its own settings.
func stock(t *testing.T) (perSecond float64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := servers.Start(ctx, servers.Options{
		Dir: t.TempDir(), Program: testkit.Standalone(t), Durable: true, Temporal: temporal.Settings{StockConfig: true, HistoryShards: 4},
		Postgres: map[string]string{
			"shared_buffers": "128MB", "max_wal_size": "1GB", "checkpoint_timeout": "5min", "random_page_cost": "4", "jit": "on",
			"autovacuum_naptime": "1min", "autovacuum_vacuum_scale_factor": "0.2", "autovacuum_analyze_scale_factor": "0.1", "autovacuum_vacuum_cost_delay": "2ms",
		},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop()) }()
	engine := newEngine(t, s.TemporalAddr())
	defer engine.stop()
	engine.empty(t, sized(500))
	return engine.empty(t, sized(3000))
}
