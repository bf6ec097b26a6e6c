package delivery

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
	"github.com/mathub/webhooks/webhook"
)

// The options of each measurement are made up beforehand: by event type, so that a delivery allocates nothing for them.
type metrics struct {
	events, deliveries, skipped, queued, ownFaults metric.Int64Counter
	duration, queueDelay                           metric.Float64Histogram

	types        map[webhook.EventType]typeOptions
	otherType    typeOptions
	took, failed []metric.RecordOption
	skippedFor   map[string][]metric.AddOption // by reason
}

type typeOptions struct {
	accepted, duplicate, delivered []metric.AddOption
	failed                         map[string][]metric.AddOption // by class
}

func newMetrics(m metric.Meter) *metrics {
	x := &metrics{
		events:     instrument.Counter(m, "mathub_events", "Events, by type and outcome: accepted or duplicate."),
		deliveries: instrument.Counter(m, "mathub_deliveries", "Recorded delivery attempts, by event type, outcome (delivered or failed) and kind of error."),
		skipped:    instrument.Counter(m, "mathub_deliveries_skipped", "Deliveries that were no longer to be sent, by reason."),
		queued:     instrument.Counter(m, "mathub_deliveries_queued", "Deliveries moved to their webhook's queue, because its window was full or by a fault of our own."),
		ownFaults:  instrument.Counter(m, "mathub_delivery_errors", "Deliveries that failed by a fault of our own. They are repeated and not counted."),
		duration:   instrument.Seconds(m, "mathub_delivery_duration", "Duration of the exchange with the receiver, by outcome.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5),
		queueDelay: instrument.Seconds(m, "mathub_queue_delay", "Time from an event's acceptance, or the end of the last pause, to the start of its first attempt at a webhook.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
		types:      map[webhook.EventType]typeOptions{},
		otherType:  optionsOf("other"),
		took:       []metric.RecordOption{instrument.With(attribute.String("outcome", "delivered"))},
		failed:     []metric.RecordOption{instrument.With(attribute.String("outcome", "failed"))},
		skippedFor: map[string][]metric.AddOption{},
	}
	for _, spec := range webhook.Catalog() {
		x.types[spec.Type] = optionsOf(string(spec.Type))
	}
	for text, reason := range map[string]string{EventGone: "event_gone", WebhookGone: "webhook_gone", WebhookDisabled: "webhook_disabled", NotSubscribed: "not_subscribed", AlreadyTaken: "taken", NotPlanned: "not_planned", NotVerified: "not_verified", Paused: "paused", RateLimited: "rate_limited"} {
		x.skippedFor[text] = []metric.AddOption{instrument.With(attribute.String("reason", reason))}
	}
	return x
}

func optionsOf(eventType string) typeOptions {
	of := func(outcome string, more ...attribute.KeyValue) []metric.AddOption {
		return []metric.AddOption{instrument.With(append(more, attribute.String("event_type", eventType), attribute.String("outcome", outcome))...)}
	}
	o := typeOptions{
		accepted: of("accepted"), duplicate: of("duplicate"), delivered: of("delivered", attribute.String("error", "none")),
		failed: map[string][]metric.AddOption{},
	}
	for _, class := range egress.Classes {
		o.failed[class] = of("failed", attribute.String("error", class))
	}
	return o
}

func (x *metrics) of(t webhook.EventType) typeOptions {
	if o, ok := x.types[t]; ok {
		return o
	}
	return x.otherType
}

func (x *metrics) accepted(ctx context.Context, t webhook.EventType) {
	x.events.Add(ctx, 1, x.of(t).accepted...)
}

func (x *metrics) duplicate(ctx context.Context, t webhook.EventType) {
	x.events.Add(ctx, 1, x.of(t).duplicate...)
}

// delivery counts an attempt that was made and recorded; delay is below 0 where it was not an event's first.
func (x *metrics) delivery(ctx context.Context, t webhook.EventType, r egress.Response, delay time.Duration) {
	o := x.of(t)
	if r.Success() {
		x.deliveries.Add(ctx, 1, o.delivered...)
		x.duration.Record(ctx, r.Duration.Seconds(), x.took...)
	} else {
		x.deliveries.Add(ctx, 1, o.failed[r.Class()]...)
		x.duration.Record(ctx, r.Duration.Seconds(), x.failed...)
	}
	if delay >= 0 {
		x.queueDelay.Record(ctx, delay.Seconds())
	}
}

// ended counts an attempt that came to no exchange.
func (x *metrics) ended(ctx context.Context, r Result, err error) {
	switch {
	case err != nil:
		x.ownFaults.Add(ctx, 1)
	case r.Status == Skipped:
		x.skipped.Add(ctx, 1, x.skippedFor[r.Error]...)
	case r.Status == Queued:
		x.queued.Add(ctx, 1)
	}
}

// measureLoad shows what is in flight and waits.
func (d *Deliverer) measureLoad(m metric.Meter) {
	inFlight := instrument.Gauge(m, "mathub_direct_in_flight", "Deliveries in flight to webhooks in direct mode.")
	waiting := instrument.Gauge(m, "mathub_direct_waiting", "Deliveries that wait for a permit of their webhook's window.")
	rounds := instrument.Gauge(m, "mathub_queue_rounds", "Rounds of webhooks' queues in progress.")
	instrument.Observe(m, func(_ context.Context, o metric.Observer) {
		n, w := d.gate.load()
		o.ObserveInt64(inFlight, int64(n))
		o.ObserveInt64(waiting, int64(w))
		o.ObserveInt64(rounds, int64(d.rounds.total()))
	}, inFlight, waiting, rounds)
}
