package history

import (
	"context"

	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

type recorderMetrics struct {
	size             metric.Int64Histogram
	duration         metric.Float64Histogram
	errors, disabled metric.Int64Counter
}

func (r *Recorder) measured(m metric.Meter) recorderMetrics {
	waiting := instrument.Gauge(m, "mathub_recorder_waiting", "Attempts that wait to be recorded.")
	instrument.Observe(m, func(_ context.Context, o metric.Observer) {
		r.mu.Lock()
		defer r.mu.Unlock()
		o.ObserveInt64(waiting, int64(len(r.pending)))
	}, waiting)
	return recorderMetrics{
		size:     instrument.Sizes(m, "mathub_recorder_batch_size", "Attempts in each recorded batch.", 1, 2, 5, 10, 20, 50, 100, 200, recorderBatch),
		duration: instrument.Seconds(m, "mathub_recorder_batch_duration", "Duration of recording a batch, waiting for Postgres included.", .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
		errors:   instrument.Counter(m, "mathub_recorder_errors", "Failed tries to record a batch. Each is repeated."),
		disabled: instrument.Counter(m, "mathub_webhooks_disabled", "Webhooks disabled by failures in a row."),
	}
}
