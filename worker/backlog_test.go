package worker

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

// Temporal's SDK makes an instrument for each new kind of outcome, as for its first failure, and OpenTelemetry lets nobody
// make one while a scrape is in progress.
func TestAScrapeEndsWhateverItReadsMakesOfInstruments(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	m := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	gauge := instrument.Gauge(m, "gauge", "")
	counted := &count[int64]{log: slog.New(slog.DiscardHandler), read: func(context.Context) (int64, error) {
		instrument.Counter(m, "new", "")
		return 1, nil
	}}
	instrument.Observe(m, func(ctx context.Context, o metric.Observer) {
		if n, ok := counted.get(ctx); ok {
			o.ObserveInt64(gauge, n)
		}
	}, gauge)
	scraped := make(chan error, 1)
	go func() { scraped <- reader.Collect(t.Context(), new(metricdata.ResourceMetrics)) }()
	select {
	case err := <-scraped:
		require.NoError(t, err)
	case <-time.After(10 * backlogTimeout): // a deadlock gives no signal
		t.Fatal("the scrape waits for what waits for it")
	}
}
