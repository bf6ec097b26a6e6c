package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// yardsticks do less than the product, or the same in another way, on the same servers. They have tables of their own.
type yardsticks struct {
	stack *testkit.Stack
	pool  *pgxpool.Pool
	http  *http.Client
	runs  int
}

func newYardsticks(t *testing.T, stack *testkit.Stack) *yardsticks {
	t.Helper()
	config, err := pgxpool.ParseConfig(stack.DatabaseURL())
	require.NoError(t, err)
	config.MaxConns = 20
	config.ConnConfig.RuntimeParams["search_path"] = "bench"
	_, err = stack.Database(t).Exec(t.Context(), `
		CREATE SCHEMA bench
		CREATE TABLE events (id text PRIMARY KEY, type text NOT NULL, payload bytea NOT NULL, accepted_at timestamptz NOT NULL DEFAULT now())
		CREATE TABLE webhooks (id uuid PRIMARY KEY, url text NOT NULL, events text[] NOT NULL)
		CREATE TABLE deliveries (
			id uuid PRIMARY KEY, webhook_id uuid NOT NULL, event_id text NOT NULL, status_code int NOT NULL, duration_ms int NOT NULL, attempted_at timestamptz NOT NULL)
		CREATE INDEX ON deliveries (webhook_id, event_id)`)
	require.NoError(t, err)
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return &yardsticks{stack: stack, pool: pool, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, MaxConnsPerHost: 1024}}}
}

func dial(t *testing.T, temporalAddr string) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{
		HostPort: temporalAddr, Logger: sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{GrpcCompression: &client.GrpcCompressionNone{}}, // as the product has it
	})
	require.NoError(t, err)
	return c
}

// engine is yardstick A: a worker of workflows that do nothing.
type engine struct {
	client client.Client
	worker worker.Worker
	prefix string // of workflow ids
	starts atomic.Int64
	ran    atomic.Int64
	began  sync.Map // workflow id -> time.Time of its first step
}

const emptyQueue = "bench-empty"

func newEngine(t *testing.T, temporalAddr string) *engine {
	t.Helper()
	e := &engine{client: dial(t, temporalAddr), prefix: uuid.NewString()}
	e.worker = worker.New(e.client, emptyQueue, worker.Options{
		// As the product has them: for backlogs.
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{MinimumNumberOfPollers: 4, InitialNumberOfPollers: 16, MaximumNumberOfPollers: 32}),
	})
	e.worker.RegisterWorkflowWithOptions(func(ctx workflow.Context, _ string) error {
		e.began.LoadOrStore(workflow.GetInfo(ctx).WorkflowExecution.ID, time.Now())
		e.ran.Add(1)
		return nil
	}, workflow.RegisterOptions{Name: "Empty"})
	require.NoError(t, e.worker.Start())
	return e
}

func (e *engine) stop() {
	e.worker.Stop()
	e.client.Close()
}

func (e *engine) start(ctx context.Context, id string, eager bool) (client.WorkflowRun, error) {
	return e.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: emptyQueue, EnableEagerStart: eager}, "Empty", strings.Repeat("x", 400))
}

func (e *engine) nextID() string { return fmt.Sprintf("%s-%d", e.prefix, e.starts.Add(1)) }

// empty starts n workflows eagerly, each awaited by its starter.
func (e *engine) empty(t *testing.T, n int) (perSecond float64) {
	t.Helper()
	began := time.Now()
	atOnce(t, n, func(int) error {
		run, err := e.start(t.Context(), e.nextID(), true)
		if err != nil {
			return err
		}
		return run.Get(t.Context(), nil)
	})
	return float64(n) / time.Since(began).Seconds()
}

// backlog starts n workflows as a plain client does, and awaits none before all are started.
func (e *engine) backlog(t *testing.T, n int) (perSecond float64) {
	t.Helper()
	began, before := time.Now(), e.ran.Load()
	atOnce(t, n, func(int) error {
		_, err := e.start(t.Context(), e.nextID(), false)
		return err
	})
	for deadline := began.Add(patience); e.ran.Load() < before+int64(n); time.Sleep(2 * time.Millisecond) { // before it looks again
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d workflows ran", e.ran.Load()-before, n)
		}
	}
	return float64(n) / time.Since(began).Seconds()
}

// paced starts so many workflows a second, eagerly, and returns the times from the start to a workflow's first step, in
// order.
func (e *engine) paced(t *testing.T, perSecond, n int) []time.Duration {
	t.Helper()
	return paced(t, perSecond, n, e.nextID, &e.began, func(id string) error {
		_, err := e.start(t.Context(), id, true)
		return err
	})
}

// subscribe makes an audience of the yardsticks' own.
func (y *yardsticks) subscribe(t *testing.T, webhooks int) (c *counter, eventType string) {
	t.Helper()
	y.runs++
	c, eventType = newCounter(t, nil), fmt.Sprintf("bench.%d", y.runs)
	_, err := y.pool.Exec(t.Context(), "INSERT INTO webhooks SELECT gen_random_uuid(), $1, ARRAY[$2] FROM generate_series(1, $3::int)", c.url, eventType, webhooks)
	require.NoError(t, err)
	return c, eventType
}

func (y *yardsticks) check(t *testing.T, c *counter, eventType string, want int) {
	t.Helper()
	require.EqualValues(t, want, c.count.Load())
	var rows int
	require.NoError(t, y.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE e.type = $1", eventType).Scan(&rows))
	require.Equal(t, want, rows)
}

// direct is yardstick B: each event is stored, posted to all of its webhooks at once, and recorded in one transaction.
func (y *yardsticks) direct(t *testing.T, webhooks, events int) (perSecond float64) {
	t.Helper()
	c, eventType := y.subscribe(t, webhooks)
	began := time.Now()
	atOnce(t, events, func(i int) error {
		e := naiveEvent{ID: fmt.Sprintf("%s-%d", eventType, i), Type: eventType, Body: data()}
		targets, err := y.Accept(t.Context(), e)
		if err != nil {
			return err
		}
		outcomes := make([]naiveOutcome, len(targets))
		errs := make([]error, len(targets))
		var posts sync.WaitGroup
		for i, target := range targets {
			posts.Go(func() { outcomes[i], errs[i] = y.Post(t.Context(), e, target) })
		}
		posts.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return y.Record(t.Context(), e, outcomes)
	})
	perSecond = float64(webhooks*events) / time.Since(began).Seconds()
	y.check(t, c, eventType, webhooks*events)
	return perSecond
}

// naive is yardstick C: the same steps, each a regular activity of a workflow an event.
func (y *yardsticks) naive(t *testing.T, webhooks, events int) (perSecond float64) {
	t.Helper()
	c := dial(t, y.stack.TemporalAddr())
	defer c.Close()
	const queue = "bench-naive"
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflowWithOptions(naiveWorkflow, workflow.RegisterOptions{Name: "Naive"})
	w.RegisterActivity(y.Accept)
	w.RegisterActivity(y.Post)
	w.RegisterActivity(y.Record)
	require.NoError(t, w.Start())
	defer w.Stop()
	received, eventType := y.subscribe(t, webhooks)
	began := time.Now()
	atOnce(t, events, func(i int) error {
		e := naiveEvent{ID: fmt.Sprintf("%s-%d", eventType, i), Type: eventType, Body: data()}
		run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: e.ID, TaskQueue: queue}, "Naive", e)
		if err != nil {
			return err
		}
		return run.Get(t.Context(), nil)
	})
	perSecond = float64(webhooks*events) / time.Since(began).Seconds()
	y.check(t, received, eventType, webhooks*events)
	return perSecond
}

type naiveEvent struct {
	ID, Type string
	Body     []byte
}

type naiveTarget struct {
	WebhookID uuid.UUID
	URL       string
}

type naiveOutcome struct {
	WebhookID  uuid.UUID
	StatusCode int
	Duration   time.Duration
	At         time.Time
}

func naiveWorkflow(ctx workflow.Context, e naiveEvent) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	var y *yardsticks
	var targets []naiveTarget
	if err := workflow.ExecuteActivity(ctx, y.Accept, e).Get(ctx, &targets); err != nil {
		return err
	}
	posts := make([]workflow.Future, len(targets))
	for i, target := range targets {
		posts[i] = workflow.ExecuteActivity(ctx, y.Post, e, target)
	}
	outcomes := make([]naiveOutcome, len(targets))
	for i, post := range posts {
		if err := post.Get(ctx, &outcomes[i]); err != nil {
			return err
		}
	}
	return workflow.ExecuteActivity(ctx, y.Record, e, outcomes).Get(ctx, nil)
}

// Accept stores an event and looks up who hears of it.
func (y *yardsticks) Accept(ctx context.Context, e naiveEvent) ([]naiveTarget, error) {
	if _, err := y.pool.Exec(ctx, "INSERT INTO events (id, type, payload) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", e.ID, e.Type, e.Body); err != nil {
		return nil, err
	}
	rows, err := y.pool.Query(ctx, "SELECT id, url FROM webhooks WHERE events @> ARRAY[$1::text]", e.Type)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[naiveTarget])
}

// Post delivers an event, signed as the product signs it.
func (y *yardsticks) Post(ctx context.Context, e naiveEvent, target naiveTarget) (naiveOutcome, error) {
	at := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.URL, bytes.NewReader(e.Body))
	if err != nil {
		return naiveOutcome{}, err
	}
	request.Header = webhook.Headers(webhook.Delivery{
		ID: webhook.AttemptKey(e.ID, target.WebhookID, 1), EventID: e.ID, Type: webhook.EventType(e.Type), At: at, Body: e.Body, Secrets: []string{"s3cret"},
	})
	response, err := y.http.Do(request)
	if err != nil {
		return naiveOutcome{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return naiveOutcome{}, err
	}
	return naiveOutcome{WebhookID: target.WebhookID, StatusCode: response.StatusCode, Duration: time.Since(at), At: at}, nil
}

// Record writes the history of an event.
func (y *yardsticks) Record(ctx context.Context, e naiveEvent, outcomes []naiveOutcome) error {
	ids, webhooks := make([]uuid.UUID, len(outcomes)), make([]uuid.UUID, len(outcomes))
	codes, durations, times := make([]int32, len(outcomes)), make([]int32, len(outcomes)), make([]time.Time, len(outcomes))
	for i, o := range outcomes {
		ids[i], webhooks[i] = webhook.AttemptKey(e.ID, o.WebhookID, 1), o.WebhookID
		codes[i], durations[i], times[i] = int32(o.StatusCode), int32(o.Duration.Milliseconds()), o.At
	}
	_, err := y.pool.Exec(ctx, `
		INSERT INTO deliveries (id, webhook_id, event_id, status_code, duration_ms, attempted_at)
		SELECT unnest($1::uuid[]), unnest($2::uuid[]), $3, unnest($4::int[]), unnest($5::int[]), unnest($6::timestamptz[])
		ON CONFLICT DO NOTHING`, ids, webhooks, e.ID, codes, durations, times)
	return err
}
