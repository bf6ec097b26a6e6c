package history

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/webhook"
)

func sentDelivery(secrets ...string) webhook.Delivery {
	return webhook.Delivery{
		ID: uuid.New(), EventID: webhook.NewID(), Type: webhook.PostCreated, At: time.Now(), Body: []byte("{}"), Secrets: secrets, Version: "v0.1.0",
	}
}

// usualResponse are the headers of an everyday answer.
func usualResponse() http.Header {
	return http.Header{
		"Content-Type": {"text/plain; charset=utf-8"}, "Content-Length": {"2"}, "Date": {"Thu, 20 Mar 2025 10:30:00 GMT"},
		"Server": {"nginx"}, "Connection": {"keep-alive"},
	}
}

func TestDecodeExchange_AsItWas(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sent webhook.Delivery
		resp egress.Response
	}{
		"usual":       {sentDelivery("s"), egress.Response{Header: usualResponse(), Timings: egress.Timings{DNS: time.Millisecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Millisecond, FirstByte: time.Second}}},
		"unsigned":    {sentDelivery(), egress.Response{Header: usualResponse()}},
		"two secrets": {sentDelivery("new", "old"), egress.Response{Header: http.Header{"Set-Cookie": {"a", "b"}, "X-Odd": {"\xff\x00"}}}},
		"no headers":  {sentDelivery("s"), egress.Response{Header: http.Header{}}},
		"no response": {sentDelivery("s"), egress.Response{Timings: egress.Timings{DNS: time.Microsecond}}},
	} {
		header := webhook.Headers(c.sent)
		header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		stored := EncodeExchange(header, c.resp)
		got, err := DecodeExchange(stored, webhook.Delivery{ID: c.sent.ID, EventID: c.sent.EventID, Type: c.sent.Type})
		require.NoError(t, err, name)
		require.Equal(t, Exchange{Request: header, Response: c.resp.Header, Timings: c.resp.Timings}, got, name)
		for cut := range stored {
			_, _ = DecodeExchange(stored[:cut], c.sent) // does not panic
		}
	}
	_, err := DecodeExchange([]byte{exchangeVersion + 1}, webhook.Delivery{})
	require.ErrorIs(t, err, errExchange)
}

func TestDecodeExchange_PhaseThatHappenedIsNeverZero(t *testing.T) {
	t.Parallel()
	d := sentDelivery()
	got, err := DecodeExchange(EncodeExchange(webhook.Headers(d), egress.Response{Timings: egress.Timings{TLS: time.Nanosecond}}), d)
	require.NoError(t, err)
	require.Equal(t, egress.Timings{TLS: time.Microsecond}, got.Timings)
}

func TestEncodeExchange_KeepsResponseHeadersWithinBounds(t *testing.T) {
	t.Parallel()
	d := sentDelivery()
	kept := func(h http.Header) (count, size int) {
		stored := EncodeExchange(webhook.Headers(d), egress.Response{Header: h})
		got, err := DecodeExchange(stored, d)
		require.NoError(t, err)
		for name, values := range got.Response {
			for _, v := range values {
				count, size = count+1, size+len(name)+len(v)
			}
		}
		return count, size
	}
	many, large := http.Header{}, http.Header{"Set-Cookie": {strings.Repeat("x", 5000)}, "Server": {"nginx"}}
	for i := range 200 {
		many[fmt.Sprintf("X-%03d", i)] = []string{"v"}
	}
	count, _ := kept(many)
	require.Equal(t, maxResponseHeaders, count)
	count, _ = kept(large)
	require.Equal(t, 1, count, "one that is too large does not hide the others")
	for i := range 40 {
		large[fmt.Sprintf("X-%03d", i)] = []string{strings.Repeat("y", 200)}
	}
	_, size := kept(large)
	require.LessOrEqual(t, size, maxResponseHeaderBytes)
	require.Greater(t, size, maxResponseHeaderBytes-300)
}

func BenchmarkEncodeExchange(b *testing.B) {
	header, resp := webhook.Headers(sentDelivery("s")), egress.Response{Header: usualResponse(), Timings: egress.Timings{FirstByte: time.Millisecond}}
	b.ReportAllocs()
	size := 0
	for b.Loop() {
		size = len(EncodeExchange(header, resp))
	}
	b.ReportMetric(float64(size), "bytes/row")
}
