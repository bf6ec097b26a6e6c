package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/egress"
)

// A worker without outbound access takes work and keeps it, so it is ready; but it says what fails.
func TestReadyzTellsOfOutboundAccess(t *testing.T) {
	t.Parallel()
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	client := egress.New(egress.Options{
		CheckHosts: []string{"example.com"},
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", gone.LocalAddr().String())
		}},
	})
	t.Cleanup(client.Close)

	var readiness Readiness
	handler := readiness.Beside(http.NotFoundHandler())
	readyz := func() (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
		return w.Code, w.Body.String()
	}
	readiness.When(func(context.Context) error { return nil }, client.OutboundAccess, func() time.Duration { return -10*time.Minute + 1800*time.Microsecond })
	require.Eventually(t, func() bool {
		code, body := readyz()
		require.Equal(t, http.StatusOK, code)
		return body != `{"status":"ok","outboundAccess":{"dns":"unknown","network":"unknown"},"clockOffsetSeconds":-599.998}`+"\n"
	}, time.Minute, 10*time.Millisecond)
	client.OutboundAccess(t.Context())
	code, body := readyz()
	require.Equal(t, http.StatusOK, code)
	require.Regexp(t, `^{"status":"ok","outboundAccess":{"dns":"failed","network":"failed","cause":"dns: server failure","checkedAt":"20[^"]+Z"},"clockOffsetSeconds":-599.998}\n$`, body)

	readiness.When(func(context.Context) error { return errors.New("Postgres: away") }, client.OutboundAccess, nil)
	code, body = readyz()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "Postgres: away\n", body)
	readiness.When(func(context.Context) error { return nil }, nil, nil)
	_, body = readyz()
	require.Equal(t, "{\"status\":\"ok\"}\n", body)
}
