package egress

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEveryFailureHasAClass: a new text of describe must be given one.
func TestEveryFailureHasAClass(t *testing.T) {
	for _, f := range errnoFaults {
		require.NotEqual(t, "other", Response{Error: f.text}.Class(), f.text)
	}
	for text, class := range map[string]string{
		"": "", "blocked: https only": "blocked", "blocked: address not allowed": "blocked", "dns: timeout": "dns", "tls: certificate expired": "tls",
		"timeout": "timeout", "connect timeout": "connect_timeout", "host unreachable": "unreachable", "connection closed": "connection", "invalid response": "response", "response headers too large": "response",
		"request failed": "other", "invalid url": "other",
	} {
		require.Equal(t, class, Response{Error: text}.Class(), text)
	}
	for code, class := range map[int]string{100: "http_other", 302: "http_3xx", 410: "http_4xx", 429: "http_429", 503: "http_5xx", 999: "http_other"} {
		require.Equal(t, class, Response{StatusCode: code, Error: "HTTP" + " x"}.Class(), code)
		require.Contains(t, Classes, class)
	}
	require.Equal(t, "timeout", Response{StatusCode: 200, Error: "timeout"}.Class(), "its body came too slowly")
	for text, class := range map[string]string{
		"timeout": "timeout", "connection reset": "connection", "dns: no such host": "dns", "tls: certificate expired": "tls", "HTTP 503": "http_5xx", "HTTP 429": "http_429", "HTTP 302": "http_3xx",
		"": "", "Timeout": "", "HTTP": "", "HTTP ": "", "HTTP 99": "", "HTTP 204": "", "HTTP 5030": "", "HTTP +50": "", "HTTP -50": "", "http_5xx ": "", "request failed": "",
	} {
		require.Equal(t, class, ClassOf(text), text)
	}
}

func TestCouldBeOurs(t *testing.T) {
	var ours []string
	for _, class := range append([]string{""}, Classes...) {
		if CouldBeOurs(class) {
			ours = append(ours, class)
		}
	}
	require.Equal(t, []string{"blocked", "connect_timeout", "dns", "tls", "unreachable"}, ours)
}

func TestCouldComeOfClock(t *testing.T) {
	for _, c := range []struct {
		r              Response
		signed, wanted bool
	}{
		{Response{StatusCode: 401, Error: "HTTP 401"}, true, true},
		{Response{StatusCode: 401, Error: "HTTP 401"}, false, false},
		{Response{StatusCode: 500, Error: "HTTP 500"}, true, true},
		{Response{StatusCode: 404, Error: "HTTP 404"}, true, false},
		{Response{StatusCode: 503, Error: "HTTP 503"}, true, false},
		{Response{StatusCode: 204}, true, false},
		{Response{Error: "timeout"}, true, false},
		{Response{Error: tlsExpired}, false, true},
		{Response{Error: tlsNotYetValid}, true, true},
		{Response{Error: tlsUnknownAuthority}, true, false},
	} {
		require.Equal(t, c.wanted, c.r.CouldComeOfClock(c.signed), "%+v", c)
	}
}
