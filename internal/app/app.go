// Package app runs a process of the program: it starts the parts in order, and stops them in reverse.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/codec"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/openfiles"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/internal/telemetry"
)

// Service is a part of a process.
type Service interface {
	// Name is for errors.
	Name() string
	// Start returns once the part works, or cannot. What runs on ends with ctx, or by Stop.
	Start(ctx context.Context) error
	// Stop returns when nothing of the part runs any more. It is called once, also after Start failed.
	Stop()
}

// process is what the parts of one process share. A part sets the fields that are named after it; those that start later
// read them.
type process struct {
	settings settings.Process
	version  string
	log      *slog.Logger
	keyset   *db.Keyset
	codec    *codec.Codec // nil: what Temporal keeps is not sealed
	failed   chan error   // of a part that worked and does not any more; it ends the process

	traces     *telemetry.Traces      // of tracing; nil: none are sent
	metrics    *telemetry.Metrics     // of admin; nil: none are kept
	readiness  api.Readiness          // answered by admin, set by apiService
	operators  operatorPages          // served by admin, set by apiService
	pool       *pgxpool.Pool          // of postgres
	writes     *db.WriteCheck         // of postgres
	temporal   client.Client          // of temporalService
	namespace  string                 // of temporalService
	attributes *searchattr.Attributes // of temporalService
	// Of workerService; nil in a process that delivers nothing.
	access   func(context.Context) egress.Access
	clock    *db.Clock
	progress *emit.Progress
	polling  func(context.Context) error
}

// Run runs a process until ctx ends: first what takes new work stops then, next what has some in progress, last what both
// stand on. Wrong settings are refused before anything starts.
func Run(ctx context.Context, s settings.Process, version string) error {
	p := &process{settings: s, version: version, log: s.Logger(), failed: make(chan error, 1)}
	slog.SetDefault(p.log)
	if err := p.check(ctx); err != nil {
		return err
	}
	if limit := openfiles.Limit(); limit < openfiles.Enough {
		p.log.Warn("low limit on open files reduces concurrency; raise it (ulimit -n)", "limit", limit, "enough", openfiles.Enough, "connections", openfiles.Connections(), "deliveries", openfiles.InFlight())
	}
	return run(ctx, p.failed, p.services()...)
}

// check refuses wrong settings.
func (p *process) check(ctx context.Context) (err error) {
	if p.keyset, err = db.ParseKeyset(p.settings.Keyset); err != nil {
		return fmt.Errorf("MATHUB_KEYSET: %w", err)
	}
	if p.codec, err = codec.Parse(p.settings.CodecKeyset); err != nil {
		return err
	}
	if err := db.CheckURL(p.settings.DatabaseURL); err != nil {
		return fmt.Errorf("MATHUB_DATABASE_URL: %w", err)
	}
	if err := p.settings.Check(); err != nil {
		return err
	}
	if p.settings.API == nil {
		return nil
	}
	// A port in use is said before a worker has taken anything. The listener itself comes last: who connects before
	// there is an answer is better refused.
	addrs := p.settings.API.Addrs()
	if p.settings.AdminAddr != "" {
		addrs["MATHUB_ADMIN_ADDR"] = p.settings.AdminAddr
	}
	return listen.Check(ctx, addrs)
}

// services are the parts in the order in which they start.
func (p *process) services() []Service {
	all := []Service{&tracing{p}, &admin{process: p}, &postgres{p}, &temporalService{process: p}}
	if p.settings.Worker != nil {
		all = append(all, &workerService{process: p}, &upkeep{process: p})
	}
	return append(all, &apiService{process: p})
}

// run starts all, waits for the end of ctx or a failure, and stops in reverse what was started. It returns what failed, at
// the start or later.
func run(ctx context.Context, failed <-chan error, all ...Service) error {
	running, end := context.WithCancel(ctx)
	started := 0
	defer func() {
		end()
		for _, s := range slices.Backward(all[:started]) {
			s.Stop()
		}
	}()
	for _, s := range all {
		started++
		if err := s.Start(running); err != nil {
			return fmt.Errorf("%s: %w", s.Name(), err)
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// startTimeout is how long a part waits for what it stands on, which may still be starting in a deployment.
const startTimeout = time.Minute

// await tries f once a second until it succeeds or startTimeout is over, and returns its last error.
func await(ctx context.Context, log *slog.Logger, what string, f func() error) error {
	for deadline := time.Now().Add(startTimeout); ; {
		err := f()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		log.Warn("waiting for "+what, "error", err)
		if !sleep.For(ctx, time.Second) {
			return err
		}
	}
}
