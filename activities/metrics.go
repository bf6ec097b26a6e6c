package activities

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/telemetry/measure"
	"github.com/mathub/webhooks/webhook"
)

// The options of each measurement are made up beforehand: by event type, so that a delivery allocates nothing for them.
type metrics struct {
	events, deliveries, skipped, deferred, ownFaults metric.Int64Counter
	duration, queueDelay                             metric.Float64Histogram

	types                map[webhook.EventType]typeOptions
	otherType            typeOptions
	took, failed         []metric.RecordOption
	skippedFor           map[string][]metric.AddOption // by reason
	ownTurn, botsTurn    []metric.AddOption
	fast, slow, onDemand metric.MeasurementOption
}

type typeOptions struct {
	accepted, duplicate, delivered []metric.AddOption
	failed                         map[string][]metric.AddOption // by class
}

// newMetrics returns nil, whose methods do nothing, where m is nil.
func newMetrics(m metric.Meter) *metrics {
	if m == nil {
		return nil
	}
	x := &metrics{
		events:     measure.Counter(m, "mathub_events", "Events, by type and outcome: accepted, or duplicate of one accepted before."),
		deliveries: measure.Counter(m, "mathub_deliveries", "Delivery attempts that were made and recorded, by event type, outcome (delivered or failed) and kind of error."),
		skipped:    measure.Counter(m, "mathub_deliveries_skipped", "Deliveries that had nothing to send any more, by reason."),
		deferred:   measure.Counter(m, "mathub_deliveries_deferred", "Deliveries that had to wait for another turn: reason webhook (it fails or is slow) or bot (it has too much under way)."),
		ownFaults:  measure.Counter(m, "mathub_delivery_errors", "Deliveries that our own side could not make or record; they are tried again."),
		duration:   measure.Seconds(m, "mathub_delivery_duration", "How long the exchange with the receiver took, by outcome.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5),
		queueDelay: measure.Seconds(m, "mathub_queue_delay", "From an event's acceptance to the start of its first attempt at a webhook.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
		types:      map[webhook.EventType]typeOptions{},
		otherType:  optionsOf("other"),
		took:       []metric.RecordOption{measure.With(attribute.String("outcome", "delivered"))},
		failed:     []metric.RecordOption{measure.With(attribute.String("outcome", "failed"))},
		skippedFor: map[string][]metric.AddOption{},
		ownTurn:    []metric.AddOption{measure.With(attribute.String("reason", "webhook"))},
		botsTurn:   []metric.AddOption{measure.With(attribute.String("reason", "bot"))},
		fast:       measure.With(attribute.String("lane", "fast")),
		slow:       measure.With(attribute.String("lane", "slow")),
		onDemand:   measure.With(attribute.String("lane", "on_demand")),
	}
	for _, spec := range webhook.Catalog() {
		x.types[spec.Type] = optionsOf(string(spec.Type))
	}
	for text, reason := range map[string]string{EventGone: "event_gone", WebhookGone: "webhook_gone", WebhookDisabled: "webhook_disabled", NotSubscribed: "not_subscribed"} {
		x.skippedFor[text] = []metric.AddOption{measure.With(attribute.String("reason", reason))}
	}
	return x
}

func optionsOf(eventType string) typeOptions {
	of := func(outcome string, more ...attribute.KeyValue) []metric.AddOption {
		return []metric.AddOption{measure.With(append(more, attribute.String("event_type", eventType), attribute.String("outcome", outcome))...)}
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
	if x != nil {
		x.events.Add(ctx, 1, x.of(t).accepted...)
	}
}

func (x *metrics) duplicate(ctx context.Context, t webhook.EventType) {
	if x != nil {
		x.events.Add(ctx, 1, x.of(t).duplicate...)
	}
}

// delivery counts an attempt that was made and recorded; delay is below 0 where it was not an event's first.
func (x *metrics) delivery(ctx context.Context, t webhook.EventType, r egress.Response, delay time.Duration) {
	if x == nil {
		return
	}
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

// ended counts a delivery that came to no attempt.
func (x *metrics) ended(ctx context.Context, r Result, err error) {
	switch {
	case x == nil:
	case err != nil:
		x.ownFaults.Add(ctx, 1)
	case r.Status == Skipped:
		x.skipped.Add(ctx, 1, x.skippedFor[r.Error]...)
	case r.Status == Deferred && r.Held:
		x.deferred.Add(ctx, 1, x.botsTurn...)
	case r.Status == Deferred:
		x.deferred.Add(ctx, 1, x.ownTurn...)
	}
}

// measureLanes shows what the lanes hold.
func (a *Activities) measureLanes(m metric.Meter) {
	if m == nil {
		return
	}
	exchanges := measure.Gauge(m, "mathub_lane_exchanges", "Exchanges under way, by lane: fast, slow, or on_demand (tests and redeliveries).")
	waiting := measure.Gauge(m, "mathub_lane_waiting", "Deliveries that wait for their turn in this process.")
	parked := measure.Gauge(m, "mathub_lane_parked", "Deliveries that wait in the fast lane for the end of an exchange that hangs.")
	troubled := measure.Gauge(m, "mathub_bots_in_trouble", "Bots many of whose receivers hang, or did lately.")
	held := measure.Gauge(m, "mathub_bots_held_back", "Bots in trouble that get no further deliveries for now, as they have too many under way.")
	x := a.metrics
	measure.Observe(m, func(_ context.Context, o metric.Observer) {
		n := a.lanes.census()
		o.ObserveInt64(exchanges, n.fast, x.fast)
		o.ObserveInt64(exchanges, n.slow, x.slow)
		o.ObserveInt64(exchanges, n.onDemand, x.onDemand)
		o.ObserveInt64(waiting, n.waiting)
		o.ObserveInt64(parked, n.parked)
		o.ObserveInt64(troubled, n.troubled)
		o.ObserveInt64(held, int64(len(a.crowdedBots())))
	}, exchanges, waiting, parked, troubled, held)
}

type census struct{ fast, slow, onDemand, waiting, parked, troubled int64 }

// census counts what is under way and waits, of all bots.
func (l *lanes) census() (n census) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bots {
		fast, slow := len(b.places), b.slow
		n.fast += int64(fast)
		n.slow += int64(slow)
		n.onDemand += int64(max(0, b.started.Len()-fast-slow))
		n.waiting += int64(b.waiting)
		n.parked += int64(b.parked)
		if b.inTrouble() {
			n.troubled++
		}
	}
	return n
}
