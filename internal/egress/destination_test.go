package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

func destinations(t testing.TB, texts ...string) []Destination {
	t.Helper()
	list := make([]Destination, len(texts))
	for i, s := range texts {
		require.NoError(t, list[i].UnmarshalText([]byte(s)), s)
	}
	return list
}

const (
	own1 = "11.22.33.44" // public addresses, which the tests lay on this machine
	own2 = "2a00:db8::44"
)

// guardAt is the guard of a machine with these addresses.
func guardAt(o Options, addresses ...string) *guard {
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	g := newGuard(o)
	g.denied.own.list = func() (list []net.Addr, err error) {
		for _, a := range addresses {
			list = append(list, &net.IPNet{IP: net.ParseIP(a)})
		}
		return list, nil
	}
	return &g
}

func TestDestinations(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, map[string]dnsAnswer{
		"postgres.corp.example.com": {a: [][]string{{"10.9.8.7", "203.0.112.9"}}, aaaa: [][]string{{"fd00::9"}}},
		"here.example.com":          {a: [][]string{{own1}}},
	})
	all := mustPrefixes("0.0.0.0/0", "::/0", "::ffff:0:0/96")
	for _, c := range []struct{ denied, refused, permitted string }{
		{"10.1.2.3:8080", "10.1.2.3:8080", "10.1.2.3:8081 10.1.2.4:8080"},
		{"10.1.2.3", "10.1.2.3:8080 10.1.2.3:443", "10.1.2.4:443"},
		{"10.1.0.0/16", "10.1.2.3:8080 10.1.255.255:443", "10.2.0.0:443"},
		{"10.1.2.3/16:6060", "10.1.0.0:6060 10.1.255.255:6060", "10.1.0.0:6061 10.2.0.0:6060"},
		{"[fd00::1]:8080", "[fd00::1]:8080", "[fd00::1]:8081 [fd00::2]:8080"},
		{"fd00::1", "[fd00::1]:8080", "[fd00::2]:8080"},
		{"[fd00::1]", "[fd00::1]:8080", "[fd00::2]:8080"},
		{"fd00::/16", "[fd00::1]:8080", "[fd01::1]:8080"},
		{"[fd00::/16]:6060", "[fd00::1]:6060", "[fd00::1]:6061 [fd01::1]:6060"},
		{"::ffff:10.1.2.3", "10.1.2.3:8080", "10.1.2.4:8080"},
		{":8080", "127.0.0.1:8080 127.9.9.9:8080 [::1]:8080 0.0.0.0:8080 " + own1 + ":8080 [" + own2 + "]:8080", "127.0.0.1:8081 8.8.8.8:8080"},
		{"0.0.0.0:8080", "127.0.0.1:8080 [::1]:8080 " + own1 + ":8080", "8.8.8.8:8080"},
		{"[::]:8080", "127.0.0.1:8080 [::1]:8080 " + own1 + ":8080", "8.8.8.8:8080"},
		{own1 + ":8080", own1 + ":8080 127.0.0.1:8080 [" + own2 + "]:8080", "8.8.8.8:8080"},
		{"127.0.0.1:8080", "127.0.0.1:8080 [::ffff:127.0.0.1]:8080 0.0.0.0:8080 [::]:8080 " + own1 + ":8080", "127.0.0.1:8081"},
		{"Postgres.Corp.example.com.:8432", "10.9.8.7:8432 203.0.112.9:8432 [fd00::9]:8432", "10.9.8.7:8433 10.9.8.8:8432"},
		{"postgres.corp.example.com", "10.9.8.7:8432 10.9.8.7:443", "10.9.8.8:443"},
		{"here.example.com:8080", own1 + ":8080 127.0.0.1:8080", own1 + ":8081"},
		{"nobody.example.com:8080", "", "10.9.8.7:8080"},
		{"203.0.112.9:8080", "[64:ff9b::203.0.112.9]:8080 [2002:cb00:7009::1]:8080 [::ffff:203.0.112.9]:8080", "[64:ff9b::203.0.112.8]:8080"},
	} {
		t.Run(c.denied, func(t *testing.T) {
			t.Parallel()
			g := guardAt(Options{Allow: all, Deny: destinations(t, "10.255.0.1:1234", c.denied), Resolver: dns.Resolver()}, own1, own2)
			for _, to := range strings.Fields(c.refused) {
				require.ErrorIs(t, g.check(t.Context(), netip.MustParseAddrPort(to)), errBlocked, to)
			}
			for _, to := range strings.Fields(c.permitted) {
				require.NoError(t, g.check(t.Context(), netip.MustParseAddrPort(to)), to)
			}
			// What is written is read again as the same.
			text, err := destinations(t, c.denied)[0].MarshalText()
			require.NoError(t, err)
			require.Equal(t, destinations(t, c.denied), destinations(t, string(text)))
		})
	}
	for _, bad := range []string{"", ":", ":0", "a:", "a:b", "a:70000", "10.0.0.0/33", "10.0.0.0/8:x", "[fd00::1", "[fd00::1]x", "a b", "http://a:1/", "fe80::1%eth0"} {
		require.Error(t, new(Destination).UnmarshalText([]byte(bad)), bad)
	}
}

// A denied name whose addresses cannot be known is our own side's failing; one that was known stays denied.
func TestDeniedNamesWithoutDNS(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{"postgres.example.com": {a: [][]string{{"127.0.0.1"}}}, "broken.example.com": {code: dnsmessage.RCodeServerFailure}})
	c := newClient(t, Options{Deny: destinations(t, fmt.Sprintf("broken.example.com:%d", r.Port)), Resolver: dns.Resolver()})
	_, err := c.Post(t.Context(), r.URL, nil, nil)
	require.ErrorIs(t, err, errUnknownName)
	require.NotContains(t, err.Error(), "127.0.0.1")
	require.Zero(t, r.Accepted())
	require.NoError(t, c.guard.check(t.Context(), netip.AddrPortFrom(netip.MustParseAddr("8.8.8.8"), r.Port)), "the internet goes on")
	other := listen(t, "127.0.0.1:0", serve(okResponse))
	require.True(t, post(t, c, other.URL).Success(), "another port needs no name")

	c = newClient(t, Options{Deny: destinations(t, fmt.Sprintf("postgres.example.com:%d", r.Port)), Resolver: dns.Resolver()})
	require.Equal(t, "blocked: address not allowed", post(t, c, r.URL).Error)
	dns.mu.Lock()
	dns.names["postgres.example.com"] = dnsAnswer{code: dnsmessage.RCodeServerFailure}
	dns.mu.Unlock()
	n := &c.guard.denied.names
	n.mu.Lock()
	n.known["postgres.example.com"] = nameAddresses{at: time.Now().Add(-time.Hour), all: n.known["postgres.example.com"].all}
	n.mu.Unlock()
	require.Equal(t, "blocked: address not allowed", post(t, c, r.URL).Error)
	require.Zero(t, r.Accepted())

	// A name that has moved is followed, without a delivery that waits for it.
	moved := guardAt(Options{Allow: loopback, Deny: destinations(t, "postgres.example.com:8432"), Resolver: dns.Resolver()})
	moved.denied.names.known["postgres.example.com"] = nameAddresses{at: time.Now().Add(-time.Hour), all: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	dns.mu.Lock()
	dns.names["postgres.example.com"] = dnsAnswer{a: [][]string{{"127.0.0.1"}}}
	dns.mu.Unlock()
	to := netip.MustParseAddrPort("127.0.0.1:8432")
	require.Eventually(t, func() bool { return errors.Is(moved.check(t.Context(), to), errBlocked) }, time.Minute, time.Millisecond)
}

// What a resolver says of a denied name when it is in trouble, or restarted half way, opens nothing.
func TestDeniedNamesKeepTheirAddresses(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for name, test := range map[string]struct {
		answer dnsAnswer
		want   []netip.Addr
	}{
		"no such name":     {dnsAnswer{code: dnsmessage.RCodeNameError}, []netip.Addr{v4, v6}},
		"an empty answer":  {dnsAnswer{}, []netip.Addr{v4, v6}},
		"a failure":        {dnsAnswer{code: dnsmessage.RCodeServerFailure}, []netip.Addr{v4, v6}},
		"one family alone": {dnsAnswer{a: [][]string{{"10.0.0.2"}}}, []netip.Addr{netip.MustParseAddr("10.0.0.2"), v6}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns := startDNS(t, map[string]dnsAnswer{"api.example.com": test.answer})
			n := &guardAt(Options{Resolver: dns.Resolver()}).denied.names
			n.known["api.example.com"] = nameAddresses{at: time.Now().Add(-time.Hour), all: []netip.Addr{v4, v6}}
			require.NoError(t, n.refresh("api.example.com"))
			all, err := n.lookup(t.Context(), "api.example.com")
			require.NoError(t, err)
			require.ElementsMatch(t, test.want, all)
		})
	}
}

// A service bound to a public address of this machine stands behind its firewall for others only.
func TestThisMachinesPublicAddressesAreRefused(t *testing.T) {
	t.Parallel()
	to := netip.MustParseAddrPort(own1 + ":8080")
	addresses := []string{"127.0.0.1", own2}
	g := guardAt(Options{})
	g.denied.own.list = func() (list []net.Addr, err error) {
		for _, a := range addresses {
			list = append(list, &net.IPNet{IP: net.ParseIP(a)})
		}
		return list, nil
	}
	check := func(g *guard, at netip.AddrPort) error { return g.check(context.Background(), at) }
	require.NoError(t, check(g, to))
	require.ErrorIs(t, check(g, netip.AddrPortFrom(netip.MustParseAddr(own2), 443)), errBlocked)
	addresses = append(addresses, own1)
	require.Eventually(t, func() bool { return errors.Is(check(g, to), errBlocked) }, time.Minute, 10*time.Millisecond, "interfaces change at run time")
	require.NoError(t, check(g, netip.MustParseAddrPort("11.22.33.45:8080")))

	allowed := guardAt(Options{Allow: mustPrefixes(own1 + "/32")}, own1)
	require.NoError(t, check(allowed, to))
	translated := guardAt(Options{NAT64: mustPrefixes("64:ff9b::/96")}, own1)
	require.ErrorIs(t, check(translated, netip.MustParseAddrPort("[64:ff9b::"+own1+"]:8080")), errBlocked)
	require.NoError(t, check(translated, netip.MustParseAddrPort("[64:ff9b::8.8.8.8]:8080")))

	unknown := guardAt(Options{})
	unknown.denied.own.list = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
	require.ErrorIs(t, check(unknown, to), errUnknownInterfaces)
	_, ours := faultOf(&net.OpError{Op: "dial", Err: check(unknown, to)})
	require.ErrorIs(t, ours, errUnknownInterfaces, "no receiver's failing")
}

// Names below localhost are this machine, and no DNS is asked (RFC 6761, section 6.3).
func TestNamesBelowLocalhost(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{"hook.localhost": {a: [][]string{{"127.0.0.9"}}}})
	c := newClient(t, Options{Resolver: dns.Resolver()})
	for _, host := range []string{"localhost", "hook.localhost", "a.b.localhost."} {
		got := post(t, c, fmt.Sprintf("http://%s:%d/", host, r.Port))
		require.True(t, got.Success(), "%s: %s", host, got.Error)
	}
	dns.mu.Lock()
	require.Empty(t, dns.asked)
	dns.mu.Unlock()
	closed := New(Options{AllowHTTP: true, Resolver: dns.Resolver()})
	require.Equal(t, "blocked: address not allowed", post(t, closed, fmt.Sprintf("http://hook.localhost:%d/", r.Port)).Error)
}
