package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// bodyTimeout is what who has a key or the token has to send a body in.
const bodyTimeout = 30 * time.Second

// readJSON reads the request's body, of at most limit bytes, which must be JSON. Many who write files and strings on Windows
// begin it with a byte order mark, which RFC 8259 §8.1 lets a reader ignore.
func readJSON(c *gin.Context, limit int64) ([]byte, error) {
	if err := checkContent(c); err != nil {
		return nil, err
	}
	body, err := readBody(c, limit)
	return bytes.TrimPrefix(body, []byte("\ufeff")), err
}

// readOptionalJSON is readJSON where there may be no body: nil. Then it counts for nothing what the headers say of it.
func readOptionalJSON(c *gin.Context, limit int64) ([]byte, error) {
	body, err := readBody(c, limit)
	if err != nil || len(body) == 0 {
		return nil, err
	}
	return bytes.TrimPrefix(body, []byte("\ufeff")), checkContent(c)
}

func readBody(c *gin.Context, limit int64) ([]byte, error) {
	if c.Request.ContentLength > limit {
		return nil, bodyTooLarge(limit)
	}
	if c.Request.ContentLength != 0 { // its sender is known by now; where no deadline can be set, the server's stands
		_ = http.NewResponseController(c.Writer).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, limit))
	if err != nil {
		var over *http.MaxBytesError
		if errors.As(err, &over) {
			return nil, bodyTooLarge(limit)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // what an emitter sends again as it is
			return nil, &problem.Error{Kind: problem.Late, Detail: fmt.Sprintf("The request body did not come within %g s.", bodyTimeout.Seconds())}
		}
		return nil, &problem.Error{Kind: problem.Malformed, Detail: "The request body could not be read completely."}
	}
	return body, nil
}

func bodyTooLarge(limit int64) error {
	return &problem.Error{Kind: problem.TooLarge, Detail: fmt.Sprintf("The request body must have at most %d bytes.", limit)}
}

// checkContent takes JSON (application/json, or a type that ends in +json, RFC 6839 §3.1) in UTF-8, as it stands.
func checkContent(c *gin.Context) error {
	for _, coding := range c.Request.Header.Values("Content-Encoding") {
		if coding != "" && !strings.EqualFold(coding, "identity") {
			c.Header("Accept-Encoding", "identity") // RFC 9110 §12.5.3
			return &problem.Error{Kind: problem.UnsupportedMediaType, Detail: "Content-Encoding is not supported. Send the body uncompressed."}
		}
	}
	mediaType, params, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json") {
		return &problem.Error{Kind: problem.UnsupportedMediaType, Detail: "Send the body as Content-Type: application/json."}
	}
	switch charset := strings.ToLower(params["charset"]); charset {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return nil
	}
	return &problem.Error{Kind: problem.UnsupportedMediaType, Detail: "Send the body in UTF-8."}
}

// members reads the members of one JSON object, gathering what is wrong with any of them.
type members struct {
	problem.Faults
	values map[string]json.RawMessage
}

// readOptionalMembers reads an object of the named members; no body at all is as good as an empty object.
func readOptionalMembers(c *gin.Context, known ...string) (*members, error) {
	raw, err := readOptionalJSON(c, webhook.MaxRequestBytes)
	if err != nil || raw == nil {
		return &members{}, err
	}
	values, err := webhook.ParseObject(raw, known...)
	return &members{values: values}, err
}

// given returns a member's value. One that is null is as if it were left out.
func (m *members) given(field string) (json.RawMessage, bool) {
	raw, ok := m.values[field]
	return raw, ok && !m.isNull(field)
}

// isNull is for those members of a PATCH that null removes.
func (m *members) isNull(field string) bool { return string(m.values[field]) == "null" }

// text reads a string; required says that it must be there.
func (m *members) text(field string, required bool) (string, bool) {
	raw, ok := m.given(field)
	if !ok {
		if required {
			m.Add(field, "is required")
		}
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		m.Add(field, "must be a string")
		return "", false
	}
	return s, true
}

// time reads a time, or returns nil when there is none.
func (m *members) time(field string) *time.Time {
	s, given := m.text(field, false)
	if !given {
		return nil
	}
	t, err := webhook.ParseTime(s)
	if err != nil {
		m.Add(field, "must be a time in RFC 3339, such as 2025-03-20T10:30:00Z")
		return nil
	}
	return &t
}

// duration reads a duration of at least least and at most most, or returns 0 when there is none.
func (m *members) duration(field string, least, most time.Duration) time.Duration {
	s, given := m.text(field, false)
	if !given {
		return 0
	}
	d, err := webhook.ParseDuration(field, s, least, most)
	m.Check(err)
	return d
}

func (m *members) boolean(field string) *bool {
	raw, ok := m.given(field)
	if !ok {
		return nil
	}
	var b bool
	if json.Unmarshal(raw, &b) != nil {
		m.Add(field, "must be true or false")
		return nil
	}
	return &b
}

// textsByName reads an object of strings, of which null is nil. It is nil where there is none.
func (m *members) textsByName(field string) map[string]*string {
	raw, ok := m.given(field)
	if !ok {
		return nil
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		m.Add(field, "must be an object")
		return nil
	}
	texts := make(map[string]*string, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var text *string
		if json.Unmarshal(values[name], &text) != nil {
			m.Add(field+"."+name, "must be a string, or null")
		}
		texts[name] = text
	}
	return texts
}

// filter reads a webhook's filter. null, as an empty one, is none; given says that the member is there.
func (m *members) filter() (f webhook.Filter, given bool) {
	raw, given := m.values["filter"]
	if !given {
		return nil, false
	}
	f, err := webhook.ParseFilter(raw)
	m.Check(err)
	return f, true
}

// maxEvents bounds the list before repetitions are dropped.
const maxEvents = 100

// eventTypes reads a list of names of event types; what is no string is "", which is no event type. It is nil where there is
// none.
func (m *members) eventTypes(field string) []string {
	raw, ok := m.given(field)
	if !ok {
		return nil
	}
	var items []json.RawMessage
	switch {
	case json.Unmarshal(raw, &items) != nil:
		m.Add(field, "must be an array of event types")
		return nil
	case len(items) > maxEvents:
		m.Add(field, fmt.Sprintf("must have at most %d entries", maxEvents))
		return nil
	}
	names := make([]string, len(items))
	for i, item := range items {
		if json.Unmarshal(item, &names[i]) != nil {
			names[i] = ""
		}
	}
	return names
}
