// Package activities is what the workflows ask for: accept an event and resolve its subscribers, make a delivery,
// record how it ended.
package activities

import (
	"context"
	"log/slog"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"golang.org/x/sync/singleflight"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/visibility"
	"github.com/mathub/webhooks/webhook"
)

// Config is what the activities need. All is required but Schedule, which when empty means one attempt, Retention, which
// when 0 means that events are kept for ever, Attributes, without which workflows are not searched for, Meter and Tracer,
// without which nothing is measured or traced, and TraceReceivers: whether receivers get a traceparent header.
type Config struct {
	Pool     *pgxpool.Pool
	Egress   *egress.Client
	Keyset   *db.Keyset
	Schedule webhook.Schedule
	// Retention is the age from which events are not attempted any more, as they may be removed at any time.
	Retention webhook.Retention
	// Attributes say whether workflows may use the search attributes.
	Attributes *visibility.Attributes
	Version    string // of the program: sent in User-Agent
	Logger     *slog.Logger
	Meter      metric.Meter
	Tracer     trace.Tracer

	TraceReceivers bool
}

// Activities holds the activities' dependencies; its exported methods that take a context are the activities.
type Activities struct {
	cfg      Config
	queries  *db.Queries
	recorder *Recorder
	metrics  *metrics
	reporter *reporter
	lanes    *lanes
	handoff  *handoff
	// admitting is held from when a bot's room is measured until it is taken.
	admitting sync.Mutex
	reads     singleflight.Group // of webhooks, by id and event type
	groups    chan struct{}      // one for each delivery of a group under way

	mu      sync.Mutex
	flights map[uuid.UUID]*flight
	closed  bool

	// base outlives each activity: a POST that was begun is brought to its end and recorded, whoever waits for it.
	base   context.Context
	cancel context.CancelFunc
	flying sync.WaitGroup
}

// New returns the activities; Close stops them.
func New(cfg Config) *Activities {
	a := &Activities{
		cfg:      cfg,
		queries:  db.New(),
		recorder: NewRecorder(cfg.Pool, cfg.Logger, cfg.Meter),
		metrics:  newMetrics(cfg.Meter),
		reporter: newReporter(cfg.Logger),
		lanes:    newLanes(),
		handoff:  newHandoff(),
		flights:  map[uuid.UUID]*flight{},
		groups:   make(chan struct{}, groupRoom),
	}
	a.base, a.cancel = context.WithCancel(context.Background())
	a.measureLanes(cfg.Meter)
	return a
}

// Register makes the activities known to a worker.
func (a *Activities) Register(r worker.ActivityRegistry) {
	// Skipped are the methods that are none: this one and Close.
	r.RegisterActivityWithOptions(a, activity.RegisterOptions{SkipInvalidStructFunctions: true})
}

// Close waits until the deliveries under way have ended and are recorded. When ctx ends first they are cut off: no
// row, no count; the workflow attempts them again.
func (a *Activities) Close(ctx context.Context) {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	landed := make(chan struct{})
	go func() {
		a.flying.Wait()
		close(landed)
	}()
	select {
	case <-landed:
	case <-ctx.Done():
		a.cancel()
	}
	a.recorder.Close(ctx)
	<-landed
	a.cancel()
}
