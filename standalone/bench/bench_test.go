// Package bench measures the product as its users meet it: HTTP in, a real receiver out, on a real Postgres (with
// fsync) and a real Temporal server. Absolute figures say as much about the machine as about the product, so each is
// measured beside a yardstick in the same run: a workflow that does nothing.
package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/standalone/e2e"
	"github.com/mathub/webhooks/standalone/servers"
)

func TestMain(m *testing.M) { e2e.Main(m) }

const (
	concurrency = 64 // emitters at once
	post        = "post.created"
	// patience bounds how long a burst may take to arrive.
	patience = 5 * time.Minute
)

// counter is a receiver that only counts and notes when each event first arrived: the harness's own, which keeps every
// request, would be measured too.
type counter struct {
	url      string
	count    atomic.Int64
	arrivals sync.Map // event id -> time.Time
}

func newCounter(tb testing.TB) *counter {
	c := &counter{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		now := time.Now()
		_, _ = io.Copy(io.Discard, r.Body)
		c.arrivals.LoadOrStore(r.Header.Get("Webhook-Id"), now)
		c.count.Add(1)
	}))
	tb.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *counter) await(tb testing.TB, n int64) {
	tb.Helper()
	for deadline := time.Now().Add(patience); c.count.Load() < n; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d deliveries arrived", c.count.Load(), n)
		}
	}
}

func start(tb testing.TB) *e2e.Stack {
	return e2e.Start(tb, e2e.Options{Servers: servers.Options{Durable: true}})
}

func event(id string, bot *e2e.Bot) e2e.Event {
	return e2e.Event{ID: id, Type: post, BotIDs: []string{bot.ID}, Data: json.RawMessage(`{"postId":"p1","threadId":"t1","authorId":"a1","body":"` + strings.Repeat("x", 300) + `"}`)}
}

// burst runs n calls of f, concurrency at once.
func burst(n int, f func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range concurrency {
		all.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				f(i)
			}
		})
	}
	all.Wait()
}

func check(tb testing.TB, stack *e2e.Stack, c *counter, want int64) {
	tb.Helper()
	time.Sleep(200 * time.Millisecond) // for what should not come
	require.Equal(tb, want, c.count.Load())
	require.Eventually(tb, func() bool {
		var rows, events int64
		err := stack.Database(tb).QueryRow(context.Background(), `SELECT count(*) FILTER (WHERE success), count(DISTINCT event_id) FROM deliveries
			WHERE webhook_id IN (SELECT id FROM webhooks WHERE url LIKE $1)`, c.url+"%").Scan(&rows, &events)
		return err == nil && rows == want
	}, time.Minute, 50*time.Millisecond, "every delivery is recorded once")
}

// BenchmarkBurst reports deliveries per second when events are emitted as fast as they are taken, and their ratio to
// the workflows per second of a workflow that does nothing, started eagerly at the same concurrency.
func BenchmarkBurst(b *testing.B) {
	stack := start(b)
	floor := emptyWorkflows(b, stack, 2000)
	b.Run("yardstick: empty workflow", func(b *testing.B) {
		for b.Loop() {
			b.ReportMetric(floor, "workflows/s")
		}
	})
	for _, shape := range []struct{ webhooks, events int }{{1, 2000}, {10, 500}} {
		b.Run(fmt.Sprintf("webhooks=%d", shape.webhooks), func(b *testing.B) {
			bot := stack.API().CreateBot(b, "bench")
			c := newCounter(b)
			for range shape.webhooks {
				bot.CreateWebhook(b, c.url, "s3cret", post)
			}
			var want int64
			for b.Loop() {
				began := time.Now()
				burst(shape.events, func(i int) {
					if _, err := stack.API().TryEmit(context.Background(), event(fmt.Sprintf("%s-%d-%d", bot.ID, want, i), bot)); err != nil {
						b.Error(err)
					}
				})
				want += int64(shape.events * shape.webhooks)
				c.await(b, want)
				perSecond := float64(shape.events*shape.webhooks) / time.Since(began).Seconds()
				b.ReportMetric(perSecond, "deliveries/s")
				b.ReportMetric(perSecond/floor/float64(shape.webhooks), "of-yardstick")
			}
			check(b, stack, c, want)
		})
	}
}

// BenchmarkEmitToReceipt reports the time from an emitter's call to the receiver's first byte, at 20 events/s.
func BenchmarkEmitToReceipt(b *testing.B) {
	const perSecond, events = 20, 200
	stack := start(b)
	bot := stack.API().CreateBot(b, "bench")
	c := newCounter(b)
	bot.CreateWebhook(b, c.url, "s3cret", post)
	var want int64
	for b.Loop() {
		var mu sync.Mutex
		var all sync.WaitGroup
		emitted := map[string]time.Time{}
		tick := time.NewTicker(time.Second / perSecond)
		for i := range events {
			<-tick.C
			all.Go(func() {
				id := fmt.Sprintf("%s-%d-%d", bot.ID, want, i)
				mu.Lock()
				emitted[id] = time.Now()
				mu.Unlock()
				if _, err := stack.API().TryEmit(context.Background(), event(id, bot)); err != nil {
					b.Error(err)
				}
			})
		}
		tick.Stop()
		all.Wait()
		want += events
		c.await(b, want)
		var took []time.Duration
		for id, at := range emitted {
			arrived, _ := c.arrivals.Load(id)
			took = append(took, arrived.(time.Time).Sub(at))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
	check(b, stack, c, want)
}

// emptyWorkflows is the yardstick: how many workflows a second the engine runs that do nothing.
func emptyWorkflows(b *testing.B, stack *e2e.Stack, n int) float64 {
	c, err := client.Dial(client.Options{HostPort: stack.TemporalAddr(), Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(b, err)
	defer c.Close()
	w := worker.New(c, "bench-empty", worker.Options{})
	w.RegisterWorkflowWithOptions(func(workflow.Context, string) error { return nil }, workflow.RegisterOptions{Name: "Empty"})
	require.NoError(b, w.Start())
	defer w.Stop()
	run := func(prefix string, n int) float64 {
		began := time.Now()
		burst(n, func(i int) {
			r, err := c.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
				ID: fmt.Sprintf("%s-%d", prefix, i), TaskQueue: "bench-empty", EnableEagerStart: true,
			}, "Empty", strings.Repeat("x", 400))
			if err == nil {
				err = r.Get(context.Background(), nil)
			}
			if err != nil {
				b.Error(err)
			}
		})
		return float64(n) / time.Since(began).Seconds()
	}
	run("warm", n/10)
	return run("empty", n)
}
