package delivery

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
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

// report measures and logs an attempt that was made and recorded.
func (d *Deliverer) report(ctx context.Context, a Attempt, in attemptInput, r egress.Response) {
	d.metrics.delivery(ctx, in.event.Type, r, d.queueDelay(ctx, a, in, d.cfg.Clock.At(r.StartedAt)))
	switch log := d.reporter.log; {
	case !r.Success():
		d.reporter.limited(ctx, slog.LevelInfo, "delivery failed", append(a.logged(), "type", in.event.Type, "error", r.Error, "duration", r.Duration)...)
	case log.Enabled(ctx, slog.LevelDebug):
		log.DebugContext(ctx, "delivered", append(a.logged(), "type", in.event.Type, "status", r.StatusCode, "duration", r.Duration)...)
	}
}

// lateDelay is from when on it is asked whether a first attempt is late because of a pause.
const lateDelay = time.Second

// queueDelay is how long an event waited for its first attempt at a webhook, since the last pause ended at the soonest; below 0
// for other attempts.
func (d *Deliverer) queueDelay(ctx context.Context, a Attempt, in attemptInput, begun time.Time) time.Duration {
	if d.cfg.Meter == nil || a.Trigger != webhook.TriggerEvent || in.event.AcceptedAt.IsZero() {
		return -1
	}
	delay := begun.Sub(in.event.AcceptedAt)
	if a.row != nil && delay > lateDelay {
		if resumed, err := d.queries.LastResumed(ctx, d.cfg.Pool); err == nil && resumed.After(in.event.AcceptedAt) {
			delay = begun.Sub(resumed)
		}
	}
	return max(0, delay) // Temporal's clock may be a little ahead
}

func (a Attempt) logged() []any {
	args := []any{"event", a.EventID, "webhook", a.WebhookID, "attempt", a.Number}
	if a.acceptedAt.IsZero() { // nothing was sent yet
		return args
	}
	return append(args, "delivery", a.deliveryID())
}

// ownFault logs an attempt that our own side could not make.
func (p *reporter) ownFault(ctx context.Context, a Attempt, fault error) {
	p.limited(ctx, slog.LevelWarn, "a delivery could not be made, by a fault of our own; it is made again", append(a.logged(), "error", fault)...)
}

// limited logs a line, unless there were too many.
func (p *reporter) limited(ctx context.Context, level slog.Level, message string, args ...any) {
	if !p.log.Enabled(ctx, level) {
		return
	}
	if !p.lines.Allow() {
		p.left.Add(1)
		return
	}
	if left := p.left.Swap(0); left > 0 {
		args = append(args, "unlogged", left)
	}
	p.log.Log(ctx, level, message, args...)
}

// carried is the context in which a delivery goes on whoever still waits for it, with the trace of who asked for it.
func (d *Deliverer) carried(ctx context.Context) context.Context {
	if d.cfg.Tracer == nil {
		return d.base
	}
	return trace.ContextWithSpanContext(d.base, trace.SpanContextFromContext(ctx))
}

// span begins the span of a POST. Its URL is no part of it.
func (d *Deliverer) span(ctx context.Context, a Attempt, in attemptInput) (context.Context, trace.Span) {
	if d.cfg.Tracer == nil {
		return ctx, noop.Span{}
	}
	return d.cfg.Tracer.Start(ctx, "POST", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", "POST"), attribute.String("mathub.event.id", a.EventID), attribute.String("mathub.event.type", string(in.event.Type)),
		attribute.String("mathub.webhook.id", a.WebhookID.String()), attribute.String("mathub.delivery.id", a.deliveryID().String()), attribute.Int("mathub.attempt", a.Number),
	))
}

// traceParent adds the header of W3C's Trace Context, if receivers are to get it. Its companion tracestate, which may come
// from others, they do not.
func (d *Deliverer) traceParent(ctx context.Context, header map[string][]string) {
	if d.cfg.Tracer == nil || !d.cfg.TraceReceivers {
		return
	}
	bare := trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{})
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(ctx, bare), propagation.HeaderCarrier(header))
}

// endSpan says how a POST went.
func (d *Deliverer) endSpan(span trace.Span, r egress.Response, err error) {
	if d.cfg.Tracer == nil {
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
