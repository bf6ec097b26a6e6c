// Package telemetry is what operators see of a process from outside: metrics for Prometheus, traces for an OpenTelemetry
// collector, profiles, and trace ids in the log. Other packages measure and trace through OpenTelemetry's API with what
// they are given; given nothing, they do neither.
package telemetry

import (
	"log/slog"
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// temporalBounds are buckets, in seconds, for the Temporal SDK's latencies. OpenTelemetry's own are made for milliseconds.
var temporalBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 600, 3600, 36000}

// Metrics keeps what the process counts, for Prometheus to fetch. A nil *Metrics keeps nothing.
type Metrics struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
	log      *slog.Logger
}

// NewMetrics returns Metrics that hold the Go runtime's and the process's as well, and the program's version.
func NewMetrics(version string, log *slog.Logger) (*Metrics, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mathub_build_info", Help: "1, with the version of the program and of Go as labels.",
			ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
		}, func() float64 { return 1 }),
	)
	// Who measured and in which process is known: the one is in the name, the other is the target that was scraped.
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, err
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithView(sdkmetric.NewView(
		sdkmetric.Instrument{Name: "temporal_*", Kind: sdkmetric.InstrumentKindHistogram},
		sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: temporalBounds}},
	)))
	return &Metrics{registry: registry, provider: provider, log: log}, nil
}

// Meter is what the packages that measure are given; nil of nil Metrics.
func (m *Metrics) Meter() metric.Meter {
	if m == nil {
		return nil
	}
	return m.provider.Meter("github.com/mathub/webhooks")
}

// Temporal is for the Temporal SDK's own metrics; nil, which is none, of nil Metrics.
func (m *Metrics) Temporal() client.MetricsHandler {
	if m == nil {
		return nil
	}
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter:                m.provider.Meter("go.temporal.io/sdk"),
		UseMonotonicCounters: true,
		OnError:              func(err error) { m.log.Warn("could not record a metric of Temporal's SDK", "error", err) },
	})
}

// Handler answers with all metrics, as text in Prometheus's or the OpenMetrics format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true,
		ErrorHandling:     promhttp.ContinueOnError, // what can be read is shown
		ErrorLog:          slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
	})
}
