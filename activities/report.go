package activities

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/mathub/webhooks/egress"
)

// Failed deliveries are logged, but not so many that a bot whose webhooks all hang fills the disk: what they were is in
// the history.
const (
	failureLines      = 20 // a second
	failureLinesBurst = 200
)

// reporter logs how deliveries went.
type reporter struct {
	log   *slog.Logger
	lines *rate.Limiter
	left  atomic.Int64 // failures that were not logged since the last line
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{log: log, lines: rate.NewLimiter(failureLines, failureLinesBurst)}
}

// report tells metrics and log of an attempt that was made and recorded.
func (a *Activities) report(ctx context.Context, id uuid.UUID, d Delivery, j job, in lane, r egress.Response) {
	delay := time.Duration(-1)
	// Of a recovery, whose deliveries alone come to the slow lane without a step, the delay would be that of the outage.
	first := d.Attempt == 1 && (in == fastLane || in == slowLane && d.Step > 0)
	if first && !j.event.AcceptedAt.IsZero() {
		delay = max(0, r.StartedAt.Sub(j.event.AcceptedAt)) // Temporal's clock may be a little ahead
	}
	a.metrics.delivery(ctx, j.event.Type, r, delay)
	if r.Success() {
		if a.reporter.log.Enabled(ctx, slog.LevelDebug) {
			a.reporter.log.DebugContext(ctx, "delivered", "event", d.EventID, "type", j.event.Type, "webhook", d.WebhookID, "delivery", id, "attempt", d.Attempt, "status", r.StatusCode, "duration", r.Duration)
		}
		return
	}
	a.reporter.failure(ctx, id, d, j, r)
}

func (p *reporter) failure(ctx context.Context, id uuid.UUID, d Delivery, j job, r egress.Response) {
	if !p.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	if !p.lines.Allow() {
		p.left.Add(1)
		return
	}
	args := []any{"event", d.EventID, "type", j.event.Type, "webhook", d.WebhookID, "delivery", id, "attempt", d.Attempt, "error", r.Error, "duration", r.Duration}
	if left := p.left.Swap(0); left > 0 {
		args = append(args, "unlogged", left)
	}
	p.log.InfoContext(ctx, "delivery failed", args...)
}

// carried is the context in which a delivery goes on whoever still waits for it, with the trace of who asked for it.
func (a *Activities) carried(ctx context.Context) context.Context {
	if a.cfg.Tracer == nil {
		return a.base
	}
	return trace.ContextWithSpanContext(a.base, trace.SpanContextFromContext(ctx))
}

// span begins the span of a POST. Its URL is no part of it.
func (a *Activities) span(ctx context.Context, id uuid.UUID, d Delivery, j job) (context.Context, trace.Span) {
	if a.cfg.Tracer == nil {
		return ctx, noop.Span{}
	}
	return a.cfg.Tracer.Start(ctx, "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", "POST"), attribute.String("mathub.event.id", d.EventID), attribute.String("mathub.event.type", string(j.event.Type)),
		attribute.String("mathub.webhook.id", d.WebhookID.String()), attribute.String("mathub.delivery.id", id.String()), attribute.Int("mathub.attempt", d.Attempt),
	))
}

// traceParent adds the header of W3C's Trace Context, if receivers are to get it. Its companion tracestate, which may come
// from others, they do not.
func (a *Activities) traceParent(ctx context.Context, header map[string][]string) {
	if a.cfg.Tracer == nil || !a.cfg.TraceReceivers {
		return
	}
	bare := trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{})
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(ctx, bare), propagation.HeaderCarrier(header))
}

// endSpan says how a POST went.
func (a *Activities) endSpan(span trace.Span, r egress.Response, err error) {
	if a.cfg.Tracer == nil {
		return
	}
	if r.StatusCode != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", r.StatusCode))
	}
	switch {
	case err != nil:
		span.SetAttributes(attribute.String("error.type", "own"))
		span.SetStatus(codes.Error, "not attempted: "+err.Error())
	case !r.Success():
		span.SetAttributes(attribute.String("error.type", r.Class()))
		span.SetStatus(codes.Error, r.Error)
	}
	span.End()
}
