package api

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// code says what kind of trouble an error is; statusOf maps it to HTTP, the only place that does.
type code int

const (
	internal code = iota
	malformed
	unauthorized
	forbidden
	notFound
	wrongMethod
	conflict
	gone
	tooLarge
	wrongType
	invalid
	tooMany
	unavailable
)

var statusOf = map[code]int{
	internal:     http.StatusInternalServerError,
	malformed:    http.StatusBadRequest,
	unauthorized: http.StatusUnauthorized,
	forbidden:    http.StatusForbidden,
	notFound:     http.StatusNotFound,
	wrongMethod:  http.StatusMethodNotAllowed,
	conflict:     http.StatusConflict,
	gone:         http.StatusGone,
	tooLarge:     http.StatusRequestEntityTooLarge,
	wrongType:    http.StatusUnsupportedMediaType,
	invalid:      http.StatusUnprocessableEntity,
	tooMany:      http.StatusTooManyRequests,
	unavailable:  http.StatusServiceUnavailable,
}

// Error is the application's error: what its caller may be told.
type Error struct {
	code   code
	Detail string
	Fields []webhook.FieldError
	// eventIDs are those under which it is safe to emit again.
	eventIDs []string
	// retryAfter is when to come again, of what is worth another try; 0: soon.
	retryAfter time.Duration
	cause      error // for the log only
}

// Error says what a person on the command line is told.
func (e *Error) Error() string {
	parts := []string{e.Detail}
	for _, f := range e.Fields {
		parts = append(parts, f.Field+": "+f.Message)
	}
	return strings.Join(parts, " ")
}

// Unwrap returns what lies behind the error.
func (e *Error) Unwrap() error { return e.cause }

var errNotFound = &Error{code: notFound, Detail: "There is no such thing here."}

// errSuspended answers every call with a key of a suspended bot.
var errSuspended = &Error{code: forbidden, Detail: "The bot is suspended."}

func unauthorizedf(detail string) *Error { return &Error{code: unauthorized, Detail: detail} }

func unavailableFor(what string, cause error) *Error {
	return &Error{code: unavailable, Detail: what + " does not answer; nothing was done. Try again.", cause: cause}
}

// asError gives every error its place: what is not expected is internal, and its text is for the log only.
func asError(err error) *Error {
	var known *Error
	var input *webhook.InvalidError
	var syntax *webhook.SyntaxError
	var body *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &input):
		return &Error{code: invalid, Detail: "The input breaks a rule.", Fields: input.Fields}
	case errors.As(err, &syntax):
		e := &Error{code: malformed, Detail: syntax.Error()}
		if syntax.Field != "" {
			e.Fields = []webhook.FieldError{{Field: syntax.Field, Message: syntax.Message}}
		}
		return e
	case errors.As(err, &body):
		return &Error{code: tooLarge, Detail: "The request's body is over the limit."}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{code: unavailable, Detail: "The database did not answer in time. Try again; if the call was to change something, see first whether it did.", cause: err}
	case errors.Is(err, db.ErrDoesNotOpen): // another process may have the key
		return &Error{code: unavailable, Detail: "Part of this is stored sealed, and no key of this process opens it. Try again; if that does not help, whoever runs the service has to restore its keyset.", cause: err}
	case db.IsUnavailable(err):
		return unavailableFor("The database", err)
	}
	return &Error{code: internal, Detail: "Something went wrong on our side.", cause: err}
}

// problem is RFC 9457's problem details.
type problem struct {
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
	if errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil {
		c.Abort() // nobody reads the answer
		return
	}
	e := asError(err)
	status := statusOf[e.code]
	c.Header("Cache-Control", "no-store")
	if e.cause != nil {
		log.ErrorContext(c, "request failed", "request", c.Writer.Header().Get(requestIDHeader), "method", c.Request.Method, "route", c.FullPath(), "status", status, "client", c.ClientIP(), "error", e.cause)
	}
	switch e.code {
	case unauthorized:
		log.InfoContext(c, "request without a valid key", "request", c.Writer.Header().Get(requestIDHeader), "method", c.Request.Method, "route", c.FullPath(), "client", c.ClientIP())
		c.Header("WWW-Authenticate", `Bearer realm="mathub-webhooks"`)
	case unavailable:
		if c.Writer.Header().Get("Retry-After") == "" {
			c.Header("Retry-After", "5")
		}
	case tooMany:
		if c.Writer.Header().Get("Retry-After") == "" {
			c.Header("Retry-After", strconv.Itoa(max(1, int(math.Ceil(e.retryAfter.Seconds())))))
		}
	}
	c.Data(status, "application/problem+json", encode(problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: e.Detail, Errors: e.Fields, EventIDs: e.eventIDs,
	}))
	c.Abort()
}
