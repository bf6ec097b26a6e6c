// Package instrument makes the instruments of the packages that measure, on OpenTelemetry's metrics API. Names have the form
// mathub_what, without the unit and the _total that the Prometheus exporter adds; all are listed in
// docs/observability.md. They and their help are constants, so a fault in one panics, at start. Those of a nil meter measure
// nothing.
package instrument

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Counter counts what happens.
func Counter(m metric.Meter, name, help string) metric.Int64Counter {
	return must(orNone(m).Int64Counter(name, metric.WithDescription(help)))
}

// Seconds is a histogram of durations in seconds.
func Seconds(m metric.Meter, name, help string, bounds ...float64) metric.Float64Histogram {
	return must(orNone(m).Float64Histogram(name, metric.WithDescription(help), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(bounds...)))
}

// Sizes is a histogram of numbers of things.
func Sizes(m metric.Meter, name, help string, bounds ...float64) metric.Int64Histogram {
	return must(orNone(m).Int64Histogram(name, metric.WithDescription(help), metric.WithExplicitBucketBoundaries(bounds...)))
}

// Gauge is a number that is read when somebody looks, see Observe.
func Gauge(m metric.Meter, name, help string) metric.Int64ObservableGauge {
	return must(orNone(m).Int64ObservableGauge(name, metric.WithDescription(help)))
}

// GaugeSeconds is a number of seconds that is read when somebody looks, see Observe.
func GaugeSeconds(m metric.Meter, name, help string) metric.Float64ObservableGauge {
	return must(orNone(m).Float64ObservableGauge(name, metric.WithDescription(help), metric.WithUnit("s")))
}

// CounterRead is a count that is kept elsewhere, and read when somebody looks.
func CounterRead(m metric.Meter, name, help string) metric.Int64ObservableCounter {
	return must(orNone(m).Int64ObservableCounter(name, metric.WithDescription(help)))
}

// SecondsRead is a sum of seconds that is kept elsewhere, and read when somebody looks.
func SecondsRead(m metric.Meter, name, help string) metric.Float64ObservableCounter {
	return must(orNone(m).Float64ObservableCounter(name, metric.WithDescription(help), metric.WithUnit("s")))
}

// Observe has read called whenever somebody looks at the instruments. It is called by one goroutine at a time.
func Observe(m metric.Meter, read func(context.Context, metric.Observer), instruments ...metric.Observable) {
	must(orNone(m).RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		read(ctx, o)
		return nil
	}, instruments...))
}

// With are attributes made up beforehand, so that measuring with them allocates nothing.
func With(attributes ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}

func orNone(m metric.Meter) metric.Meter {
	if m == nil {
		return noop.Meter{}
	}
	return m
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
