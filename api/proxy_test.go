package api_test

import (
	"log/slog"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/testutil"
)

// TestOnlyTrustedProxiesNameTheClient: the log tells where a wrong key came from, and nobody can lay it at another's door.
func TestOnlyTrustedProxiesNameTheClient(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trusted   []netip.Prefix
		forwarded []string
		client    string
	}{
		"nobody is trusted":              {nil, []string{"203.0.113.7"}, "127.0.0.1"},
		"another is trusted":             {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []string{"203.0.113.7"}, "127.0.0.1"},
		"the proxy is trusted":           {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"203.0.113.7"}, "203.0.113.7"},
		"what came to it is not":         {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"a chain of proxies":             {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"203.0.113.7, 127.0.0.9"}, "203.0.113.7"},
		"ports behind the addresses":     {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"198.51.100.1, 203.0.113.7:4711", "127.0.0.9:80"}, "203.0.113.7"},
		"an IPv6 address and a port":     {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		"an address that is none":        {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []string{"x\" level=ERROR"}, "127.0.0.1"},
		"no header though it is trusted": {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil, "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var written testutil.Buffer
			a := newAPI(t, nil, func(cfg *api.Config) {
				cfg.TrustedProxies = c.trusted
				cfg.Logger = slog.New(slog.NewTextHandler(&written, nil))
			})
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+webhooksPath, http.NoBody)
			require.NoError(t, err)
			request.Header.Set("Authorization", "Bearer wrong")
			request.Header["X-Forwarded-For"] = c.forwarded
			request.Header.Set("X-Real-IP", "198.51.100.2") // which anybody can send through a proxy that does not know it
			require.Equal(t, http.StatusUnauthorized, a.send(request).status)
			require.Contains(t, written.String(), "route=/api/bot/v1/webhooks client="+c.client+"\n")
			require.NotContains(t, written.String(), "wrong")
		})
	}
}
