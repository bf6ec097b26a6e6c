package app

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

func TestChecksNameWhatIsAway(t *testing.T) {
	t.Parallel()
	// Each waits for the other: they are asked at once, so that one that is silent hides none.
	first, second := make(chan struct{}), make(chan struct{})
	all := checks{
		{"postgres", "Postgres", func(context.Context) error { close(first); <-second; return errors.New("refused") }},
		{"temporal", "Temporal", func(context.Context) error { close(second); <-first; return nil }},
	}
	require.EqualError(t, all.run(t.Context()), "Postgres: refused")
}

func TestChecksAreMeasured(t *testing.T) {
	t.Parallel()
	away := errors.New("refused")
	all := checks{
		{"postgres", "Postgres", func(context.Context) error { return nil }},
		{"temporal", "Temporal", func(context.Context) error { return away }},
	}
	for _, serves := range []bool{false, true} {
		reader := sdkmetric.NewManualReader()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it asks once
		all.keep(ctx, sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"), serves)
		var read metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(t.Context(), &read))
		found := map[string]int64{}
		for _, point := range read.ScopeMetrics[0].Metrics[0].Data.(metricdata.Gauge[int64]).DataPoints { //nolint:forcetypeassert // it panics
			part, _ := point.Attributes.Value("part")
			found[part.AsString()] = point.Value
		}
		want := map[string]int64{"postgres": 1, "temporal": 0}
		if serves {
			want["api"] = 1
		}
		require.Equal(t, want, found)
	}
}
