package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestCheckCustomHeaders(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	got, err := webhook.CheckCustomHeaders(map[string]*string{
		"authorization": text("Bearer 5Cq8"), "X-TENANT": text("größe\tb"), "a!#$%&'*+-.^_`|~1": text(strings.Repeat("v", 1024)), strings.Repeat("n", 100): nil,
	})
	require.NoError(t, err)
	require.Equal(t, map[string]*string{
		"Authorization": text("Bearer 5Cq8"), "X-Tenant": text("größe\tb"), "A!#$%&'*+-.^_`|~1": text(strings.Repeat("v", 1024)), "N" + strings.Repeat("n", 99): nil,
	}, got)

	for name, want := range map[string]string{
		"": "RFC 9110", "a b": "RFC 9110", "a:": "RFC 9110", "ä": "RFC 9110", "a\r\nb": "RFC 9110", "a\x00": "RFC 9110", strings.Repeat("n", 101): "100 bytes",
	} {
		_, err := webhook.CheckCustomHeaders(map[string]*string{name: text("v")})
		require.ErrorContains(t, err, want, "%q", name)
		_, err = webhook.CheckCustomHeaders(map[string]*string{name: nil})
		require.ErrorContains(t, err, want, "%q, removed", name)
	}
	for _, name := range []string{
		"Host", "host", "Content-Length", "content-type", "CONTENT-ENCODING", "X-Mathub-Signature", "x-mathub-anything", "webhook-id", "Webhook-Signature", "Connection",
		"keep-alive", "Proxy-Authorization", "proxy-connection", "TE", "Trailer", "transfer-encoding", "Upgrade", "HTTP2-Settings", "Expect", "User-Agent", "Accept-Encoding",
		"Idempotency-Key", "X-Idempotency-Key", "traceparent", "tracestate", "baggage",
		"X_Mathub_Event", "webhook_id", "CONTENT_LENGTH", "Transfer_Encoding",
	} {
		_, err := webhook.CheckCustomHeaders(map[string]*string{name: text("v")})
		require.ErrorContains(t, err, "headers."+name+": is a header that HTTP or the delivery sets")
	}
	for value, want := range map[string]string{
		"": "null removes", "a\r\nX-Injected: 1": "line break", "a\nb": "line break", "a\rb": "line break", "a\x00b": "control", "a\x7f": "control",
		" a": "space", "a\t": "space", strings.Repeat("v", 1025): "1024 bytes",
	} {
		_, err := webhook.CheckCustomHeaders(map[string]*string{"X-A": text(value)})
		require.ErrorContains(t, err, "headers.X-A: ", "%q", value)
		require.ErrorContains(t, err, want, "%q", value)
	}
	_, err = webhook.CheckCustomHeaders(map[string]*string{"X-A": text("1"), "x-a": nil})
	require.ErrorContains(t, err, "headers.x-a: is given twice")
}

func TestCustomHeaders_With(t *testing.T) {
	t.Parallel()
	full := webhook.CustomHeaders{}
	for i := range webhook.MaxCustomHeaders {
		full[fmt.Sprint("X-", i)] = "v"
	}
	value := "new"
	after, err := full.With(map[string]*string{"X-0": nil, "X-New": &value, "X-1": &value, "X-Absent": nil})
	require.NoError(t, err)
	require.Len(t, after, webhook.MaxCustomHeaders)
	require.Equal(t, []string{"X-1", "X-2", "X-3", "X-4", "X-5", "X-6", "X-7", "X-8", "X-9", "X-New"}, after.Names())
	require.Equal(t, []string{"new", "v"}, []string{after["X-1"], after["X-2"]})
	require.Equal(t, "v", full["X-0"], "left as it was")
	_, err = full.With(map[string]*string{"X-New": &value})
	require.ErrorContains(t, err, "headers: must be at most 10; there would be 11")
	none, err := webhook.CustomHeaders(nil).With(nil)
	require.NoError(t, err)
	require.Equal(t, []string{}, none.Names())
}
