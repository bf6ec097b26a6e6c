package webhook

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Limits of a webhook's own headers.
const (
	MaxCustomHeaders     = 10
	MaxHeaderNameLength  = 100  // bytes
	MaxHeaderValueLength = 1024 // bytes
)

// ownedHeaders are those that a delivery or HTTP sets, in Go's canonical form: RFC 9110 and RFC 9112 say what HTTP does. A
// client that finds an Idempotency-Key may repeat a POST by itself.
var ownedHeaders = []string{
	"Accept-Encoding", "Baggage", "Connection", "Expect", "Host", "Http2-Settings", "Idempotency-Key", "Keep-Alive",
	"Te", "Trailer", "Traceparent", "Tracestate", "Transfer-Encoding", "Upgrade", "User-Agent", "X-Idempotency-Key",
}

// ownedPrefixes begin the names of others.
var ownedPrefixes = []string{"Content-", "Proxy-", "Webhook-", "X-Mathub-"}

// CustomHeaders are what the owner of a webhook has each of its deliveries carry: values by name, in Go's canonical form.
type CustomHeaders map[string]string

// Names are the headers' names, in order; not nil.
func (h CustomHeaders) Names() []string {
	return slices.AppendSeq(make([]string, 0, len(h)), slices.Values(slices.Sorted(maps.Keys(h))))
}

// CheckCustomHeaders checks headers that are to be set, and those that are to be removed, whose value is nil. It returns
// them by their names' canonical form. The error is an *InvalidError that names each header, and no value.
func CheckCustomHeaders(change map[string]*string) (map[string]*string, error) {
	wrong := &InvalidError{}
	canonical := make(map[string]*string, len(change))
	for _, name := range slices.Sorted(maps.Keys(change)) {
		value, field := change[name], "headers."+Shorten(name)
		form := http.CanonicalHeaderKey(name)
		if _, twice := canonical[form]; twice {
			wrong.add(field, "is given twice: HTTP does not tell upper case from lower")
			continue
		}
		canonical[form] = value
		if message := wrongHeaderName(name, form); message != "" {
			wrong.add(field, message)
		} else if value != nil {
			if message := wrongHeaderValue(*value); message != "" {
				wrong.add(field, message)
			}
		}
	}
	return canonical, wrong.orNil()
}

func wrongHeaderName(name, form string) string {
	form = http.CanonicalHeaderKey(strings.ReplaceAll(form, "_", "-")) // what CGI and WSGI make of both is one
	switch {
	case !httpguts.ValidHeaderFieldName(name):
		return "must be a name of a header: letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)"
	case len(name) > MaxHeaderNameLength:
		return fmt.Sprintf("must have a name of at most %d bytes", MaxHeaderNameLength)
	case slices.Contains(ownedHeaders, form), slices.ContainsFunc(ownedPrefixes, func(p string) bool { return strings.HasPrefix(form, p) }):
		return "is a header that HTTP or the delivery sets: choose another name"
	}
	return ""
}

func wrongHeaderValue(value string) string {
	switch {
	case value == "":
		return "must not be empty; null removes the header"
	case len(value) > MaxHeaderValueLength:
		return fmt.Sprintf("must have at most %d bytes", MaxHeaderValueLength)
	case !httpguts.ValidHeaderFieldValue(value):
		return "must have no line break and no other control character"
	case strings.Trim(value, " \t") != value:
		return "must not begin or end with a space"
	}
	return ""
}

// With returns the headers after a change that CheckCustomHeaders has checked: a nil value removes one. The error is an
// *InvalidError where there would be too many.
func (h CustomHeaders) With(change map[string]*string) (CustomHeaders, error) {
	after := maps.Clone(h)
	if after == nil {
		after = CustomHeaders{}
	}
	for name, value := range change {
		if value == nil {
			delete(after, name)
		} else {
			after[name] = *value
		}
	}
	if len(after) > MaxCustomHeaders {
		return nil, invalid("headers", fmt.Sprintf("must be at most %d; there would be %d", MaxCustomHeaders, len(after)))
	}
	return after, nil
}

// ParseHeaderLine reads a header as a person writes it, "Name: value". false: it has no colon.
func ParseHeaderLine(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	return strings.TrimSpace(name), strings.TrimSpace(value), ok
}
