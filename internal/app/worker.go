package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/worker"
	"github.com/mathub/webhooks/workflows"
)

// partitionsTime is how long a worker that starts makes partitions of the history; later passes do what is left.
const partitionsTime = 5 * time.Second

// workerService delivers.
type workerService struct {
	*process
	worker  *worker.Worker
	running sync.WaitGroup // what ends with Start's context
}

// Name implements Service.
func (*workerService) Name() string { return "worker" }

// Start implements Service.
func (s *workerService) Start(ctx context.Context) error {
	options, err := s.settings.EgressOptions()
	if err != nil {
		return err
	}
	clock := db.NewClock(s.pool, s.log, s.metrics.Meter())
	if err := clock.Read(ctx); err != nil {
		s.log.Warn("could not read Postgres's clock; retrying", "error", err)
	}
	s.running.Go(func() { clock.Run(ctx) })
	s.clock = clock
	options.Meter, options.Now = s.metrics.Meter(), clock.Now
	outbound, progress := egress.New(options), emit.NewProgress()
	s.worker, err = worker.New(s.temporal, delivery.Config{
		Pool:           s.pool,
		Egress:         outbound,
		Clock:          clock,
		Keyset:         s.keyset,
		Schedule:       s.settings.Worker.RetrySchedule,
		Retention:      s.settings.Retention,
		Unverified:     s.settings.Worker.UnverifiedRate,
		Verification:   s.settings.VerifyEndpoints,
		Attributes:     s.attributes,
		Version:        s.version,
		Logger:         s.log,
		Meter:          s.metrics.Meter(),
		Tracer:         s.traces.Tracer(),
		TraceReceivers: s.settings.Worker.TraceReceivers,
		Begun:          progress.Begun,
	})
	if err != nil {
		return err
	}
	progress.Behind = s.worker.Behind
	s.worker.OnFatal = s.giveUp
	s.makePartitions(ctx)
	if err := await(ctx, s.log, "Temporal", s.worker.Start); err != nil {
		return err
	}
	worker.MeasureBacklog(s.metrics.Meter(), s.pool, s.log)
	worker.MeasureStuck(s.metrics.Meter(), s.temporal, s.log)
	s.access, s.progress, s.polling = outbound.OutboundAccess, progress, s.worker.Polling
	s.log.Info("worker is running")
	return nil
}

// giveUp ends the process, so that another begins, as whoever runs it sees to: this one would take no task any more. The SDK gives up
// two minutes after a namespace has gone, as while Temporal's database is made again.
func (s *workerService) giveUp(err error) {
	select {
	case s.failed <- fmt.Errorf("worker: Temporal gives no tasks: %w", err):
	default: // another of its pollers was first
	}
}

// makePartitions makes the history's partitions before the first delivery, unless that takes long, as beside a large default one.
func (s *workerService) makePartitions(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, partitionsTime)
	defer cancel()
	if err := history.MakePartitions(ctx, s.pool, s.settings.Retention); err != nil {
		s.log.Warn("history has no partitions yet; retrying", "error", err)
	}
}

// clockOffset tells by how much Postgres's clock is ahead; nil in a process that delivers nothing.
func (p *process) clockOffset() func() time.Duration {
	if p.clock == nil {
		return nil
	}
	return p.clock.Offset
}

// Stop implements Service.
func (s *workerService) Stop() {
	if s.worker != nil {
		s.worker.Stop()
	}
	s.running.Wait()
}

// upkeep keeps what is stored within its limits, and sealed with the newest key.
type upkeep struct {
	*process
	running sync.WaitGroup
}

// Name implements Service.
func (*upkeep) Name() string { return "upkeep" }

// Start implements Service.
func (s *upkeep) Start(ctx context.Context) error {
	budget := &history.Budget{
		Pool: s.pool, Bytes: s.settings.Worker.HistoryBudget << 20, Deliveries: s.settings.Worker.HistoryRows, Retention: s.settings.Retention, Log: s.log,
	}
	s.running.Go(func() { s.reseal(ctx) })
	s.running.Go(func() { budget.Run(ctx) })
	s.running.Go(func() { s.scheduleRemoval(ctx) })
	s.running.Go(func() { s.hourly(ctx) })
	s.running.Go(func() { ops.ReportOutages(ctx, s.pool, s.log, processName(), s.access) })
	return nil
}

// processName tells processes apart, as Temporal's SDK does.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%d@%s", os.Getpid(), host)
}

// Stop implements Service: all of it ends with Start's context.
func (s *upkeep) Stop() { s.running.Wait() }

// reseal keeps all URLs and secrets sealed with the keyset's newest key, and forgets those whose overlap is over: now, and
// every hour, as other processes may still have an older keyset.
func (s *upkeep) reseal(ctx context.Context) {
	for {
		changed, err := db.Reseal(ctx, s.pool, s.keyset)
		if changed > 0 {
			s.log.Info("encrypted URLs and secrets with the newest key", "webhooks", changed)
		}
		wait := time.Hour
		if err != nil && ctx.Err() == nil {
			s.log.Error("could not encrypt URLs and secrets with the newest key; retrying", "error", err)
			if !errors.Is(err, db.ErrDoesNotOpen) {
				wait = time.Minute
			}
		}
		if !sleep.For(ctx, wait) {
			return
		}
	}
}

// hourly removes what has expired and belongs to no event: the portal's links and sessions, and entries of the audit log.
func (s *upkeep) hourly(ctx context.Context) {
	service, kept := &bots.Service{Pool: s.pool}, s.settings.Worker.AuditRetention
	for {
		err := service.RemoveExpiredPortal(ctx)
		if kept > 0 {
			err = errors.Join(err, audit.Remove(ctx, s.pool, kept.Since(db.Earlier(s.clock.Now()))))
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("could not remove expired portal sessions or audit entries; retrying in an hour", "error", err)
		}
		if !sleep.For(ctx, time.Hour) {
			return
		}
	}
}

// scheduleRemoval sets how long everything is kept; in a deployment the worker that starts last decides.
func (s *upkeep) scheduleRemoval(ctx context.Context) {
	for {
		err := workflows.ScheduleRemoval(ctx, s.temporal, s.settings.Retention)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.Warn("could not set the retention schedule; retrying", "error", err)
		if !sleep.For(ctx, time.Minute) {
			return
		}
	}
}
