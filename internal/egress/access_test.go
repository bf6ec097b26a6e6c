//go:build unix

package egress

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckHostsAreHosts(t *testing.T) {
	hosts, err := ParseCheckHosts([]string{"Example.com", "iana.org", "fd00::1", "192.0.2.1", "gateway"})
	require.NoError(t, err)
	require.Equal(t, []string{"example.com", "iana.org", "fd00::1", "192.0.2.1", "gateway"}, hosts)

	// Of what is no name, Go's resolver says "no such host" although DNS is dead.
	dns := startDNS(t, nil)
	dns.Fail(servfail)
	for _, text := range []string{"https://example.com", "example.com:443", "two words.example", "a..example", "", strings.Repeat("long.", 50) + "example"} {
		_, err := ParseCheckHosts([]string{"iana.org", text})
		require.ErrorContains(t, err, "must be names or IP addresses", text)
		taken := (&outbound{resolver: dns.Resolver()}).ask(t.Context(), dnsPart, text)
		require.NoError(t, taken, text)
	}
}
