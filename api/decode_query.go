package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// query reads a request's query, gathering what is wrong with any of its parameters.
type query struct {
	problem.Faults
	values url.Values
}

// readQuery takes the named parameters, each at most once, and faults every other.
func readQuery(c *gin.Context, known ...string) (*query, error) {
	return readRepeated(c, nil, known...)
}

// readRepeated is readQuery with further parameters that may be repeated.
func readRepeated(c *gin.Context, repeated []string, known ...string) (*query, error) {
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return nil, &problem.Error{Kind: problem.Malformed, Detail: "The query is not correctly percent-encoded."}
	}
	q := &query{values: values}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case slices.Contains(repeated, name):
			if slices.ContainsFunc(values[name], notText) {
				q.Add(name, "must be text in UTF-8 without NUL")
				delete(values, name)
			}
		case !slices.Contains(known, name):
			q.Add(readable(name), "is not a parameter of this call; allowed: "+strings.Join(append(slices.Clone(known), repeated...), ", "))
		case len(values[name]) > 1:
			q.Add(name, "must be given only once")
		case notText(values[name][0]):
			q.Add(name, "must be text in UTF-8 without NUL")
			delete(values, name) // it has its fault
		}
	}
	return q, nil
}

func notText(s string) bool { return !utf8.ValidString(s) || strings.ContainsRune(s, 0) }

func (q *query) text(name string) (string, bool) {
	return q.values.Get(name), len(q.values[name]) == 1
}

func (q *query) boolean(name string) *bool {
	text, given := q.text(name)
	if !given {
		return nil
	}
	if text != "true" && text != "false" {
		q.Add(name, "must be true or false")
	}
	b := text == "true"
	return &b
}

// integer reads a number from 1 to most, or returns otherwise when there is none.
func (q *query) integer(name string, most, otherwise int) int {
	text, given := q.text(name)
	if !given {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		q.Add(name, fmt.Sprintf("must be an integer from 1 to %d", most))
		return most
	}
	return n
}

// oneOf reads a text of a fixed set; "": there is none.
func (q *query) oneOf(name string, allowed ...string) string {
	text, given := q.text(name)
	if given && !slices.Contains(allowed, text) {
		q.Add(name, "must be one of: "+strings.Join(allowed, ", "))
	}
	return text
}

// time reads a time, or returns nil when there is none.
func (q *query) time(name string) *time.Time {
	text, given := q.text(name)
	if !given {
		return nil
	}
	t, err := webhook.ParseTime(text)
	if err != nil {
		q.Add(name, "must be a time in RFC 3339, such as 2025-03-20T10:30:00Z")
		return nil
	}
	return &t
}

// failure reads which failures are asked for.
func (q *query) failure() (f history.Failure) {
	var given bool
	if f.Error, given = q.text("error"); given && (f.Error == "" || !history.ValidError(f.Error)) {
		q.Add("error", fmt.Sprintf("must be an error of 1 to %d bytes, such as timeout or HTTP 503", history.MaxErrorLength))
	}
	f.Status, _ = history.ParseStatus(q.oneOf("statusClass", history.StatusClasses...))
	if _, given := q.text("statusClass"); !given {
		f.Status = 0
	}
	return f
}

func (q *query) eventType(name string) *string {
	text, given := q.text(name)
	if !given {
		return nil
	}
	if _, known := webhook.Spec(webhook.EventType(text)); !known {
		var types []string
		for _, spec := range webhook.Catalog() {
			types = append(types, string(spec.Type))
		}
		q.Add(name, "must be one of: "+strings.Join(types, ", "))
	}
	return &text
}

// linkAfter leads to the page after a place; "": there is none.
func (s *server) linkAfter(c *gin.Context, q *query, next string) {
	if next != "" {
		q.values.Set("after", next)
		s.linkNext(c, q.values)
	}
}

// linkNext leads to the next page (RFC 8288): the same call with another query.
func (s *server) linkNext(c *gin.Context, query url.Values) {
	c.Header("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, s.prefix(c)+written(c), query.Encode()))
}
