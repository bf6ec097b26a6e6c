package api

import (
	"context"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
	"github.com/mathub/webhooks/webhook"
)

// requestMetrics measure requests by route template, never by path, which holds ids; what leads nowhere is one route.
type requestMetrics struct {
	count    metric.Int64Counter
	duration metric.Float64Histogram
	routes   map[routeKey]routeOptions
	nowhere  routeOptions
}

type routeKey struct{ method, route string }

type routeOptions struct {
	counts   [6][]metric.AddOption // by status class: 2 for 2xx; 0 for requests that their sender gave up
	duration []metric.RecordOption
}

func newRequestMetrics(m metric.Meter, routes gin.RoutesInfo) *requestMetrics {
	x := &requestMetrics{
		count:    instrument.Counter(m, "mathub_api_requests", "API requests, by method, route and status class. cancelled: the client left first."),
		duration: instrument.Seconds(m, "mathub_api_request_duration", "Duration of API requests, by method and route.", .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30),
		routes:   make(map[routeKey]routeOptions, len(routes)),
		nowhere:  optionsOf("other", "none"),
	}
	for _, r := range routes {
		x.routes[routeKey{r.Method, r.Path}] = optionsOf(r.Method, r.Path)
	}
	return x
}

// emitMetrics count what is emitted, and what emitters seem to get wrong.
type emitMetrics struct {
	conflicts, unknownBots, events metric.Int64Counter
	schemaFaults                   metric.Int64Counter
	groups                         metric.Int64Histogram
	alone, shared                  []metric.AddOption // of events
}

func newEmitMetrics(m metric.Meter) *emitMetrics {
	return &emitMetrics{
		conflicts:    instrument.Counter(m, "mathub_emit_conflicts", "Events emitted with an id that was accepted before with other content."),
		unknownBots:  instrument.Counter(m, "mathub_emit_unknown_bots", "Events emitted that name at least one bot that does not exist."),
		schemaFaults: instrument.Counter(m, "mathub_emit_schema_faults", "Events accepted whose data does not fit its schema, where MATHUB_SCHEMA is warn."),
		events:       instrument.Counter(m, "mathub_emit_events", "Events accepted over the API, by workflow: alone or shared."),
		groups:       instrument.Sizes(m, "mathub_emit_group_size", "Events in each workflow that the API started.", 1, 2, 4, 8, 16, 32, 64, webhook.MaxBatchEvents),
		alone:        []metric.AddOption{instrument.With(attribute.String("workflow", "alone"))},
		shared:       []metric.AddOption{instrument.With(attribute.String("workflow", "shared"))},
	}
}

// started counts the events of a workflow that was started.
func (x *emitMetrics) started(events int) {
	options := x.shared
	if events == 1 {
		options = x.alone
	}
	x.events.Add(context.Background(), int64(events), options...)
	x.groups.Record(context.Background(), int64(events))
}

func (x *emitMetrics) count(ctx context.Context, r emit.Receipt) {
	if r.Conflict {
		x.conflicts.Add(ctx, 1)
	}
	if len(r.UnknownBotIDs) > 0 {
		x.unknownBots.Add(ctx, 1)
	}
}

// unfit counts an event whose data does not fit its schema; one that was accepted before is not counted again.
func (x *emitMetrics) unfit(ctx context.Context, r emit.Receipt) {
	if !r.Duplicate {
		x.schemaFaults.Add(ctx, 1)
	}
}

func optionsOf(method, route string) (o routeOptions) {
	labels := []attribute.KeyValue{attribute.String("method", method), attribute.String("route", route)}
	for class := range o.counts {
		status := "cancelled"
		if class > 0 {
			status = strconv.Itoa(class) + "xx"
		}
		o.counts[class] = []metric.AddOption{instrument.With(append(labels[:2:2], attribute.String("status", status))...)}
	}
	o.duration = []metric.RecordOption{instrument.With(labels...)}
	return o
}

// measure counts the request when it has been answered, and ends the span that trace began.
func (s *server) measure(c *gin.Context) {
	began := time.Now()
	c.Next()
	status := c.Writer.Status()
	if !c.Writer.Written() && c.Request.Context().Err() != nil {
		status = 0
	}
	endSpan(c, status)
	x := s.metrics
	o, ok := x.routes[routeKey{c.Request.Method, c.FullPath()}]
	if !ok {
		o = x.nowhere
	}
	x.count.Add(c, 1, o.counts[min(status/100, 5)]...)
	x.duration.Record(c, time.Since(began).Seconds(), o.duration...)
}
