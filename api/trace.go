package api

import (
	"strings"

	"github.com/gin-gonic/gin"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

const spanContextKey = "span"

// trace begins the span of a request that has been let in. Only Mathub's backend can make it part of its own trace, by a
// traceparent header (W3C Trace Context): a stranger could have every call recorded, or mix up others' traces. Health
// checks and pages have none: they would be nearly all that is collected.
func (s *server) trace(c *gin.Context) {
	if s.cfg.Tracer == nil || !strings.HasPrefix(written(c), "/api/") {
		return
	}
	ctx := c.Request.Context()
	if strings.HasPrefix(written(c), servicePrefix) {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(c.Request.Header))
	}
	ctx, span := s.cfg.Tracer.Start(ctx, c.Request.Method+" "+c.FullPath(), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", c.Request.Method), attribute.String("http.route", c.FullPath()),
		attribute.String("mathub.request.id", c.Writer.Header().Get(requestIDHeader)),
	))
	c.Request = c.Request.WithContext(ctx)
	c.Set(spanContextKey, span)
}

func endSpan(c *gin.Context, status int) {
	begun, ok := c.Get(spanContextKey)
	if !ok {
		return
	}
	span := begun.(trace.Span)
	if status > 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
