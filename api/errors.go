package api

import (
	"log/slog"
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

func unauthorizedf(detail string) *problem.Error {
	return &problem.Error{Kind: problem.Unauthorized, Detail: detail}
}

// details are RFC 9457's problem details.
type details struct {
	Type   string               `json:"type"`
	Title  string               `json:"title"`
	Status int                  `json:"status"`
	Detail string               `json:"detail"`
	Errors []webhook.FieldError `json:"errors,omitempty"`
	// EventIDs are those under which it is safe to emit again.
	EventIDs []string `json:"eventIds,omitempty"`
}

// fail answers with err and ends the request.
func fail(c *gin.Context, log *slog.Logger, err error) {
	if web.HasHungUp(c.Request, err) {
		c.Status(web.HungUp)
		c.Abort()
		return
	}
	e := problem.In(c, err)
	status := web.Status(e.Kind)
	c.Header("Cache-Control", "no-store")
	if e.Cause != nil {
		log.ErrorContext(c, "request failed", "request", c.Writer.Header().Get(requestIDHeader), "method", c.Request.Method, "route", c.FullPath(), "status", status, "client", c.ClientIP(), "error", e.Cause)
	}
	switch e.Kind {
	case problem.Unauthorized:
		log.InfoContext(c, "request without a valid key", "request", c.Writer.Header().Get(requestIDHeader), "method", c.Request.Method, "route", c.FullPath(), "client", c.ClientIP())
		c.Header("WWW-Authenticate", `Bearer realm="mathub-webhooks"`)
	case problem.Unavailable:
		if c.Writer.Header().Get("Retry-After") == "" {
			c.Header("Retry-After", "5")
		}
	case problem.TooManyRequests:
		if c.Writer.Header().Get("Retry-After") == "" {
			c.Header("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.RetryAfter.Seconds())))))
		}
	}
	c.Data(status, "application/problem+json", encode(details{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Detail, Errors: e.Fields, EventIDs: e.EventIDs,
	}))
	c.Abort()
}
