package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

// The checks that the gauge mathub_ready shows are made so often, and each is given so long.
const (
	checkInterval = 5 * time.Second
	checkTimeout  = 2 * time.Second
)

// check asks for something that the process stands on.
type check struct {
	part, name string
	run        func(context.Context) error
}

// checks are all of a process.
type checks []check

// checks are made when all parts have started.
func (p *process) checks() checks {
	all := checks{
		{"postgres", "Postgres", p.writes.Check},
		{"temporal", "Temporal", func(ctx context.Context) error { return api.PingTemporal(ctx, p.temporal) }},
	}
	if p.polling != nil {
		all = append(all, check{"worker", "worker", p.polling})
	}
	return all
}

// run returns what is wrong with each, nil with none.
func (c checks) run(ctx context.Context) error {
	var all []error
	for i, err := range c.results(ctx) {
		if err != nil {
			all = append(all, fmt.Errorf("%s: %w", c[i].name, err))
		}
	}
	return errors.Join(all...)
}

// results asks for all at once, as one that is away takes all the time there is.
func (c checks) results(ctx context.Context) []error {
	results := make([]error, len(c))
	var asked sync.WaitGroup
	for i := range c {
		asked.Go(func() { results[i] = c[i].run(ctx) })
	}
	asked.Wait()
	return results
}

// keep asks again and again until ctx ends, and shows on m what it found, and that the process serves the API. A nil m shows
// nothing. A scrape only reads what is known: asking Temporal makes instruments, which waits for the scrape that waits for it.
func (c checks) keep(ctx context.Context, m metric.Meter, serves bool) {
	if m == nil {
		return
	}
	ready := instrument.Gauge(m, "mathub_ready", "1 while this process has what it needs, by part: postgres, temporal, worker (it is given tasks), api (it serves). At most 7 s old.")
	var known atomic.Pointer[[]error]
	instrument.Observe(m, func(_ context.Context, o metric.Observer) {
		results := known.Load()
		if results == nil {
			return
		}
		for i, err := range *results {
			works := int64(1)
			if err != nil {
				works = 0
			}
			o.ObserveInt64(ready, works, metric.WithAttributes(attribute.String("part", c[i].part)))
		}
		if serves {
			o.ObserveInt64(ready, 1, metric.WithAttributes(attribute.String("part", "api")))
		}
	}, ready)
	for {
		asking, cancel := context.WithTimeout(ctx, checkTimeout)
		results := c.results(asking)
		cancel()
		known.Store(&results)
		if !sleep.For(ctx, checkInterval) {
			return
		}
	}
}
