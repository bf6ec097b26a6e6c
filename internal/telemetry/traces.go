package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
)

// flushTimeout is what the last spans have to reach the collector in when the process stops: the 10 s that it has for
// that are for deliveries.
const flushTimeout = 400 * time.Millisecond

// Traces sends spans to a collector. A nil *Traces sends nothing and costs nothing.
type Traces struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTraces returns Traces as OpenTelemetry's standard environment variables have them, or nil where none of them names
// a collector: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Who wants all variables finds them in
// the OpenTelemetry specification ("SDK configuration" and "OTLP exporter").
func NewTraces(ctx context.Context, version string, log *slog.Logger) (*Traces, error) {
	if !tracingConfigured() {
		return nil, nil //nolint:nilnil // nil Traces are none
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("could not export spans", "error", err) }))
	sender, err := newSender(ctx)
	if err != nil {
		return nil, err
	}
	// What the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) comes last, so that it counts.
	described, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "mathub-webhooks"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(sender), sdktrace.WithResource(described))
	return &Traces{provider: provider, tracer: provider.Tracer("github.com/mathub/webhooks")}, nil
}

func tracingConfigured() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// newSender reads the rest of the OTEL_EXPORTER_OTLP_ variables. It connects when it has something to send.
func newSender(ctx context.Context) (*otlptrace.Exporter, error) {
	variable := "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	if os.Getenv(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	switch protocol := os.Getenv(variable); protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	default:
		return nil, fmt.Errorf("%s is %q; must be http/protobuf or grpc", variable, protocol)
	}
}

// Tracer is what the packages that trace are given; nil of nil Traces.
func (t *Traces) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.tracer
}

// Temporal makes a client, and the workers on it, carry traces through workflows, in a header of their histories; none
// of nil Traces. Replaying compares no headers, so a workflow goes on whether tracing is on then or not.
func (t *Traces) Temporal() ([]interceptor.ClientInterceptor, error) {
	if t == nil {
		return nil, nil
	}
	i, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer:            t.tracer,
		TextMapPropagator: propagation.TraceContext{},
		DisableBaggage:    true, // of whoever emitted the event: it is not ours to keep
		// A header that another SDK's tracing has put there must not fail its workflow.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, err
	}
	return []interceptor.ClientInterceptor{i}, nil
}

// Close sends what is left, in 400 ms at most.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		otel.Handle(err)
	}
}
