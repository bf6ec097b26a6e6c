package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/webhook"
)

// readJSON reads the request's body, of at most limit bytes.
func readJSON(c *gin.Context, limit int64) ([]byte, error) {
	mediaType, params, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	charset, given := params["charset"]
	if err != nil || mediaType != "application/json" || given && !strings.EqualFold(charset, "utf-8") {
		return nil, &Error{code: wrongType, Detail: "Send the body as Content-Type: application/json, in UTF-8."}
	}
	if c.Request.ContentLength > limit {
		return nil, &Error{code: tooLarge, Detail: fmt.Sprintf("The request's body may have at most %d bytes.", limit)}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	if err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, &Error{code: tooLarge, Detail: fmt.Sprintf("The request's body may have at most %d bytes.", limit)}
		}
		return nil, &Error{code: malformed, Detail: "The request's body could not be read to its end."}
	}
	return body, nil
}

// unreadable answers a request whose parameters the generated code could not read. It takes any text for each, so that it
// fails only for a query parameter that is given twice.
func (s *server) unreadable(c *gin.Context, _ error, _ int) {
	if s.authenticate(c); c.IsAborted() {
		return
	}
	var m members
	for name, values := range c.Request.URL.Query() {
		if len(values) > 1 {
			m.fault(name, "must be given once")
		}
	}
	err := m.err()
	if err == nil {
		err = errNotFound
	}
	fail(c, s.log, err)
}

// members reads the members of one JSON object, gathering what is wrong with any of them.
type members struct {
	values map[string]json.RawMessage
	faults []webhook.FieldError
}

func (m *members) fault(field, message string) {
	m.faults = append(m.faults, webhook.FieldError{Field: field, Message: message})
}

// err is a *webhook.InvalidError when anything was wrong.
func (m *members) err() error {
	if len(m.faults) == 0 {
		return nil
	}
	return &webhook.InvalidError{Fields: m.faults}
}

func (m *members) has(field string) bool {
	_, ok := m.values[field]
	return ok
}

func (m *members) isNull(field string) bool { return string(m.values[field]) == "null" }

// text reads a string; required says that it must be there.
func (m *members) text(field string, required bool) (string, bool) {
	raw, ok := m.values[field]
	if !ok {
		if required {
			m.fault(field, "is required")
		}
		return "", false
	}
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		m.fault(field, "must be a string")
		return "", false
	}
	return *s, true
}

// time reads a time, or returns otherwise when there is none.
func (m *members) time(field string, otherwise time.Time) time.Time {
	s, given := m.text(field, false)
	if !given {
		return otherwise
	}
	t, err := webhook.ParseTime(s)
	if err != nil {
		m.fault(field, "must be a time in RFC 3339, such as 2025-03-20T10:30:00Z")
	}
	return t
}

// duration reads a duration of at least least and at most most, or returns 0 when there is none.
func (m *members) duration(field string, least, most time.Duration) time.Duration {
	s, given := m.text(field, false)
	if !given {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < least || d > most {
		m.fault(field, fmt.Sprintf("must be a duration from %gs to %gh, such as 24h or 1h30m", least.Seconds(), most.Hours()))
	}
	return d
}

func (m *members) boolean(field string) *bool {
	raw, ok := m.values[field]
	if !ok {
		return nil
	}
	var b *bool
	if json.Unmarshal(raw, &b) != nil || b == nil {
		m.fault(field, "must be true or false")
		return nil
	}
	return b
}

// check records what a rule of the domain says of a field.
func (m *members) check(err error) {
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		m.faults = append(m.faults, input.Fields...)
	}
}

// maxEvents bounds the list before repetitions are dropped.
const maxEvents = 100

// eventTypes reads the list of event types to subscribe to, each once, in the given order.
func (m *members) eventTypes(field string, required bool) []string {
	raw, ok := m.values[field]
	if !ok {
		if required {
			m.fault(field, "is required")
		}
		return nil
	}
	var items []json.RawMessage
	switch {
	case json.Unmarshal(raw, &items) != nil || items == nil:
		m.fault(field, "must be an array of event types")
		return nil
	case len(items) > maxEvents:
		m.fault(field, fmt.Sprintf("must have at most %d entries", maxEvents))
		return nil
	}
	names := make([]string, len(items))
	for i, item := range items {
		if json.Unmarshal(item, &names[i]) != nil {
			names[i] = "" // no event type, as will be said
		}
	}
	checked, err := webhook.CheckSubscription(names)
	m.check(err)
	types := make([]string, len(checked))
	for i, t := range checked {
		types[i] = string(t)
	}
	return types
}
