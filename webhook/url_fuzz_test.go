package webhook_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// FuzzURLRules holds Check to what it promises: what it returns is as net/url and net/http understand it, is not
// changed by another check, and leads to no address that is not public; an error is bounded and quotes nothing.
func FuzzURLRules(f *testing.F) {
	for _, s := range []string{
		"https://example.com/a?b=c", "https://bücher.example:8443/é?{}", "https://0x7f.1/", "https://[::ffff:7f00:1]/", "https://user@h/#f",
		"https://xn--bcher-kva.example.", "https://１２７.0.0.1", "https://8.8.8.8", "https://134744072", "https://[2606:4700::1111]:443",
		"https://a%2fb/", "https://example.com\\@x/", "HTTPS://EXAMPLE.COM.:0443?", "https://a_b.c--d.ee/", "https://010.8.8.8/",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := webhook.URLRules{}.Check(raw)
		if err != nil {
			require.Equal(t, []string{"url"}, fieldsOf(t, err))
			require.Empty(t, got)
			require.Less(t, len(err.Error()), 200)
			return
		}
		require.LessOrEqual(t, len(got), webhook.MaxURLBytes)
		for _, c := range []byte(got) {
			require.True(t, c > ' ' && c < 0x7f, "printable ASCII: %q", got)
		}
		again, err := webhook.URLRules{}.Check(got)
		require.NoError(t, err, "%q", got)
		require.Equal(t, got, again)

		u, err := url.Parse(got)
		require.NoError(t, err)
		require.Equal(t, "https", u.Scheme)
		require.Nil(t, u.User)
		require.Empty(t, u.Fragment)
		require.Equal(t, strings.ToLower(u.Host), u.Host)
		rest := got[len("https://")+len(u.Host):]
		if !strings.HasPrefix(rest, "/") {
			rest = "/" + rest
		}
		require.Equal(t, rest, u.RequestURI(), "sent as it stands")

		name := u.Hostname()
		if ip, err := netip.ParseAddr(name); err == nil {
			require.True(t, webhook.AddressPolicy{}.Permits(ip))
			return
		}
		require.Contains(t, name, ".")
		last := name[strings.LastIndexByte(name, '.')+1:]
		require.NotContains(t, []string{"localhost", "local", "internal"}, last)
		require.NotEqual(t, "", strings.Trim(last, "0123456789"), "not an address in disguise")
	})
}
