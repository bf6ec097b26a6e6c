// Package bench_test measures the product as its users meet it: events in over HTTP or Temporal, real receivers out, on
// a real Postgres with fsync and a real Temporal server. Absolute figures say as much about the machine as about the
// product, so yardsticks are measured in the same rounds, and what counts is the ratios:
//
//	A  a workflow that does nothing, started eagerly: the engine's floor for one workflow an event
//	B  no engine at all: insert, select, POST, record; the floor for a durable log
//	C  the naive shape: every step a regular activity
//
// The short form runs with every test, to prove that the harness works. MATHUB_BENCH=1, as `make bench` sets it,
// measures.
package bench_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
)

func TestMain(m *testing.M) { e2e.Main(m) }

var (
	full     = os.Getenv("MATHUB_BENCH") != ""
	rounds   = flag.Int("rounds", 3, "how often everything is measured")
	jsonPath = flag.String("figures", "", "file for the figures as JSON")
	svgPath  = flag.String("plot", "", "file for a plot of them as SVG")
	profiles = flag.String("profiles", "", "folder for TestProfile's profiles")
)

// sized is the size of a measurement, or, in the short form, a hundredth of it.
func sized(n int) int {
	if full {
		return n
	}
	return max(5, n/100)
}

// concurrency is how many emitters there are at once.
const concurrency = 64

// shapes are the bursts of events, by how many webhooks hear of each.
var shapes = []struct{ webhooks, events int }{{1, 5000}, {10, 1000}, {100, 200}}

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
	engine.empty(t, sized(500)) // warms up what all share
	for round := range *rounds {
		t.Logf("round %d of %d", round+1, *rounds)
		r.add("A: empty workflows", "workflows/s", engine.empty(t, sized(3000)))
		watched := watch(t, stack) // a burst of its own, as watching takes time too
		engine.empty(t, sized(1500))
		watched.report(r, "A", sized(1500), "workflows", "Temporal", "Postgres")
		r.add("A put in by a plain Temporal client", "workflows/s", engine.backlog(t, sized(3000)))
		r.add("A with stock settings", "workflows/s", stock(t))
		for _, shape := range shapes {
			r.add(fmt.Sprintf("B: no engine, %s", hooks(shape.webhooks)), "deliveries/s", yardsticks.direct(t, shape.webhooks, sized(shape.events)))
		}
		r.add("C: all regular activities, 10 webhooks", "deliveries/s", yardsticks.naive(t, 10, sized(200)))
		for _, shape := range shapes {
			a := newAudience(t, stack, shape.webhooks)
			over := "over HTTP, " + hooks(shape.webhooks)
			r.add(over, "deliveries/s", a.burst(t, sized(shape.events), a.emit))
			a.check(t)
			watched := watch(t, stack)
			a.burst(t, sized(shape.events/2), a.emit)
			watched.report(r, over, sized(shape.events/2)*shape.webhooks, "deliveries", "app", "Temporal", "Postgres")
			a.check(t)
			r.add("over Temporal, "+hooks(shape.webhooks), "deliveries/s", a.burst(t, sized(shape.events), a.startWorkflow))
			a.check(t)
			r.add("over Temporal, "+hooks(shape.webhooks)+": tasks timed out", "", float64(timedOut(t, stack)))
			a.retire(t)
		}
		r.addLatency("A at 20/s", engine.paced(t, 20, sized(300)))
		for _, perSecond := range []int{20, 100} {
			a := newAudience(t, stack, 1)
			r.addLatency(fmt.Sprintf("emit to receipt at %d/s", perSecond), a.paced(t, perSecond, sized(15*perSecond)))
			a.check(t)
			a.retire(t)
		}
	}
	r.compare()
	r.write(t)
}

// TestScale measures what a delivery costs as audiences and tables grow.
func TestScale(t *testing.T) {
	r := newReport(t)
	stack := start(t, servers.Options{})
	for _, webhooks := range []int{100, 1000, 10_000} {
		a := newAudience(t, stack, sized(webhooks))
		r.add(fmt.Sprintf("10,000 deliveries, %s an event", hooks(webhooks)), "deliveries/s", a.burst(t, max(1, sized(10_000)/sized(webhooks)), a.emit))
		a.check(t)
		a.retire(t)
	}
	measure := func(when string) {
		for _, shape := range shapes[:2] {
			a := newAudience(t, stack, shape.webhooks)
			r.add(fmt.Sprintf("%s, %s", hooks(shape.webhooks), when), "deliveries/s", a.burst(t, sized(shape.events/2), a.emit))
			a.check(t)
			a.retire(t)
		}
	}
	measure("warming up")
	for range *rounds {
		measure("tables small")
	}
	load(t, stack, sized(100_000), sized(1_000_000))
	for range *rounds {
		measure("tables large")
	}
	r.print()
}

func hooks(n int) string {
	if n == 1 {
		return "1 webhook"
	}
	return fmt.Sprintf("%d webhooks", n)
}

func start(t *testing.T, options servers.Options, apps ...e2e.App) *e2e.Stack {
	options.Durable = true
	if options.Postgres == nil {
		options.Postgres = map[string]string{}
	}
	options.Postgres["shared_preload_libraries"] = "pg_stat_statements"
	stack := e2e.Start(t, e2e.Options{Apps: apps, Servers: options, Env: map[string]string{"MATHUB_LOG_LEVEL": "warn"}})
	track(t, stack, "none")
	return stack
}

// stock is yardstick A on servers as they come: Temporal with four shards and its own caches, pools and limits, Postgres
// with its own settings.
func stock(t *testing.T) (perSecond float64) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := servers.Start(ctx, servers.Options{
		Dir: t.TempDir(), Durable: true, Temporal: temporal.Settings{StockConfig: true, HistoryShards: 4},
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
