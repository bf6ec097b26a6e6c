package egress

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/mathub/webhooks/webhook"
)

// special are IANA's special-purpose address registries (IPv4 and IPv6), multicast, and what is not global unicast.
// Written down here and not taken from the code under test.
var special = mustPrefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
	"168.63.129.16/32", "169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "192.0.0.192/32", // clouds' metadata
	"::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
	"2001::/32", "2001::/23", "2001:1::1/128", "2001:1::2/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28",
	"2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "3ffe::/16", "5f00::/16",
	"fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128", "4000::/2", "8000::/1",
)

// edges are a range's first two and last two addresses.
func edges(p netip.Prefix) []netip.Addr {
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(last)
	found := []netip.Addr{p.Addr(), end}
	if second := p.Addr().Next(); p.Contains(second) && second != end {
		found = append(found, second, end.Prev())
	}
	return found
}

// carriers are IPv6 addresses that stand for an IPv4 address.
func carriers(ip netip.Addr) []netip.Addr {
	v4 := ip.As4()
	var found []netip.Addr
	for _, form := range []struct {
		prefix string
		at     int
		invert byte
	}{
		{"::ffff:0:0", 12, 0},
		{"::", 12, 0},
		{"::ffff:0:0:0", 12, 0},
		{"64:ff9b::", 12, 0},
		{"64:ff9b:1:fffe::", 12, 0},
		{"2002::1", 2, 0},
		{"2001:0:4136:e378:8000:63bf::", 12, 0xff},
		{"2001::", 4, 0},
		{"2606:4700::5efe:0:0", 12, 0},
		{"2606:4700::200:5efe:0:0", 12, 0},
	} {
		b := netip.MustParseAddr(form.prefix).As16()
		for i := range v4 {
			b[form.at+i] = v4[i] ^ form.invert
		}
		found = append(found, netip.AddrFrom16(b))
	}
	return found
}

// Every special address, as a literal and behind a name, on the canary's port of both loopback addresses.
func TestSpecialAddressesAreNeverConnectedTo(t *testing.T) {
	t.Parallel()
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	canary6 := listen(t, fmt.Sprintf("[::1]:%d", canary.Port), serve(okResponse))
	dns := startDNS(t, nil)
	c := New(Options{AllowHTTP: true, Resolver: dns.Resolver(), Timeout: 2 * time.Second})
	t.Cleanup(c.Close)

	addresses := map[netip.Addr]bool{}
	for _, p := range special {
		for _, ip := range edges(p) {
			addresses[ip] = true
			if ip.Is4() {
				for _, carrier := range carriers(ip) {
					addresses[carrier] = true
				}
			}
		}
	}
	own, err := net.InterfaceAddrs() // in a container or at home these are special ones
	require.NoError(t, err)
	for _, a := range own {
		if ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP); ok && !(webhook.AddressPolicy{}).Permits(ip.Unmap()) {
			addresses[ip.Unmap()] = true
		}
	}

	hosts := make(chan string)
	var blocked, cases int
	var mu sync.Mutex
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for host := range hosts {
				for _, scheme := range []string{"http", "https"} {
					r := post(t, c, fmt.Sprintf("%s://%s:%d/", scheme, host, canary.Port))
					mu.Lock()
					cases++
					if r.Error == "blocked: address not allowed" && r.StatusCode == 0 && r.Body == nil {
						blocked++
					} else {
						t.Errorf("%s: %+v", host, r)
					}
					mu.Unlock()
				}
			}
		})
	}
	for ip := range addresses {
		if ip.Is4() {
			hosts <- ip.String()
		} else {
			hosts <- "[" + ip.StringExpanded() + "]"
		}
		hosts <- nameOf(ip) // A or AAAA
		if ip.Is6() {
			hosts <- "[" + ip.String() + "]"
		}
	}
	close(hosts)
	senders.Wait()
	require.Equal(t, cases, blocked)
	require.Greater(t, cases, 2000)
	require.Zero(t, canary.Accepted()+canary6.Accepted(), "a canary heard of it")

	open := newClient(t, Options{Resolver: dns.Resolver()})
	for _, ip := range []string{"127.0.0.1", "::1"} {
		r := post(t, open, fmt.Sprintf("http://%s:%d/", nameOf(netip.MustParseAddr(ip)), canary.Port))
		require.True(t, r.Success(), "the canary can be reached: %s", r.Error)
	}
	require.Equal(t, 2, canary.Accepted()+canary6.Accepted())
}

// Notations that inet_aton understands are names to Go, and go to the DNS, which may say what it likes.
func TestNotationsAreNames(t *testing.T) {
	t.Parallel()
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	names := map[string]dnsAnswer{}
	for _, host := range []string{"2130706433", "0x7f000001", "017700000001", "127.1", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "localhost.example.com"} {
		names[strings.TrimSuffix(host, ".")] = dnsAnswer{a: [][]string{{"127.0.0.1"}}}
	}
	dns := startDNS(t, names)
	c := New(Options{AllowHTTP: true, Resolver: dns.Resolver()})
	for host := range names {
		r := post(t, c, fmt.Sprintf("http://%s:%d/", host, canary.Port))
		require.Contains(t, []string{"blocked: address not allowed", "dns: no such host"}, r.Error, host)
	}
	require.Zero(t, canary.Accepted())
}

// The first answer is harmless, the next is not. (127.0.0.2 stands for a public address.)
func TestRebinding(t *testing.T) {
	t.Parallel()
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	public := listen(t, fmt.Sprintf("127.0.0.2:%d", canary.Port), answer("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	for name, answers := range map[string][][]string{
		"rebind.example.com":    {{"127.0.0.2"}, {"127.0.0.1"}},
		"alternate.example.com": {{"127.0.0.2"}, {"127.0.0.1"}, {"127.0.0.2"}, {"127.0.0.1"}},
	} {
		before := public.Accepted()
		dns := startDNS(t, map[string]dnsAnswer{name: {a: answers}})
		c := New(Options{AllowHTTP: true, Allow: mustPrefixes("127.0.0.2/32"), Resolver: dns.Resolver()})
		for i, answer := range answers {
			r := post(t, c, fmt.Sprintf("http://%s:%d/", name, canary.Port))
			if answer[0] == "127.0.0.2" {
				require.True(t, r.Success(), "%d: %s", i, r.Error)
			} else {
				require.Equal(t, "blocked: address not allowed", r.Error)
			}
		}
		require.Equal(t, len(answers)/2, public.Accepted()-before)
	}
	require.Zero(t, canary.Accepted())
}

// Of several answers only the permitted ones are tried, in whatever order they come.
func TestMixedAnswers(t *testing.T) {
	t.Parallel()
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	canary6 := listen(t, fmt.Sprintf("[::1]:%d", canary.Port), serve(okResponse))
	public := listen(t, fmt.Sprintf("127.0.0.2:%d", canary.Port), serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{
		"a.example.com": {a: [][]string{{"127.0.0.1", "127.0.0.2"}}},
		"b.example.com": {a: [][]string{{"127.0.0.2", "127.0.0.1"}}},
		"c.example.com": {a: [][]string{{"127.0.0.2"}}, aaaa: [][]string{{"::1"}}},
		"d.example.com": {a: [][]string{{"127.0.0.1"}}, aaaa: [][]string{{"::ffff:127.0.0.2"}}},
		"e.example.com": {a: [][]string{{"10.0.0.1", "127.0.0.1"}}, aaaa: [][]string{{"::1", "fe80::1"}}},
		"f.example.com": {a: [][]string{{"127.0.0.2"}}, aaaa: [][]string{{"64:ff9b::7f00:1"}}},
		"g.example.com": {a: [][]string{{"127.0.0.2"}}, cname: "internal.example.com"},
		"h.example.com": {code: dnsmessage.RCodeNameError, a: [][]string{{"127.0.0.1"}}},
	})
	c := New(Options{AllowHTTP: true, Allow: mustPrefixes("127.0.0.2/32"), Resolver: dns.Resolver()})
	t.Cleanup(c.Close)
	for name, want := range map[string]string{"a": "", "b": "", "c": "", "d": "", "e": "blocked: address not allowed", "f": "", "g": "", "h": "dns: no such host"} {
		r := post(t, c, fmt.Sprintf("http://%s.example.com:%d/", name, canary.Port))
		require.Equal(t, want, r.Error, name)
	}
	require.Zero(t, canary.Accepted())
	require.Zero(t, canary6.Accepted())
	require.Positive(t, public.Accepted())
}

// That one of a receiver's addresses is refused does not make an outage of ours its failing.
func TestARefusedAddressHidesNoOutage(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, map[string]dnsAnswer{"direct.example.com": {a: [][]string{{unreachable}}, aaaa: [][]string{{"::1"}}}, "proxied.example.com": {a: [][]string{{"127.0.0.1"}}, aaaa: [][]string{{"::1"}}}})
	direct := Options{Allow: mustPrefixes(unreachable + "/32"), Resolver: dns.Resolver(), CheckHosts: []string{unreachable}}
	requireOurs(t, newClient(t, direct), "http://direct.example.com:8099/")

	proxy := startTestProxy(t, "http", nil)
	proxy.Say(func(string) int { return 503 })
	proxied := proxy.Options(t, Options{Allow: mustPrefixes("::1/128"), Resolver: dns.Resolver(), CheckHosts: []string{"::1"}})
	requireOurs(t, newClient(t, proxied), "http://proxied.example.com:8099/")
}

// Whoever owns a name can have it lead to thousands of addresses of others.
func TestOfManyAddressesFewAreConnectedTo(t *testing.T) {
	t.Parallel()
	last := listen(t, "127.0.0.1:0", serve(okResponse))
	var many []string
	for i := range 2 * maxAddresses {
		many = append(many, fmt.Sprintf("127.0.1.%d", i+1))
	}
	dns := startDNS(t, map[string]dnsAnswer{
		"few.example.com":  {a: [][]string{append(many[:maxAddresses-1:maxAddresses-1], "127.0.0.1")}},
		"many.example.com": {a: [][]string{append(many, "127.0.0.1")}},
	})
	proxy := startTestProxy(t, "socks5", nil)
	proxy.Say(func(to string) int {
		if to == last.Addr().String() {
			return 0
		}
		return 4
	})
	direct := Options{Resolver: dns.Resolver(), Timeout: time.Minute}
	for want, o := range map[string]Options{"connection refused": direct, "host unreachable": proxy.Options(t, direct)} {
		c := newClient(t, o)
		got := post(t, c, fmt.Sprintf("http://few.example.com:%d/", last.Port))
		require.True(t, got.Success(), got.Error)
		require.Equal(t, want, post(t, c, fmt.Sprintf("http://many.example.com:%d/", last.Port)).Error)
	}
}

func TestPortsOfOtherProtocolsAreRefused(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	for _, port := range []int{1, 22, 25, 110, 6000, 6667, 2375, 3306, 5432, 6379, 7233, 9200, 10250, 11211, 27017} {
		require.Equal(t, "blocked: address not allowed", post(t, c, fmt.Sprintf("http://127.0.0.1:%d/", port)).Error)
	}
	redis := listen(t, "127.0.0.3:6379", serve(okResponse))
	require.Equal(t, "blocked: address not allowed", post(t, c, redis.URL).Error)
	require.Zero(t, redis.Accepted())
	require.True(t, post(t, newClient(t, Options{AllowPorts: []uint16{6379}}), redis.URL).Success())
}

func TestOwnListenersAreRefused(t *testing.T) {
	t.Parallel()
	own := listen(t, "127.0.0.1:0", serve(okResponse))
	everywhere := listen(t, "127.0.0.1:0", serve(okResponse)) // as if it listened on every address
	other := listen(t, "127.0.0.1:0", serve(okResponse))
	addr := func(ip string, port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), port) }
	all := mustPrefixes("0.0.0.0/0", "::/0", "::ffff:0:0/96")

	c := newClient(t, Options{Allow: all, Deny: destinations(t, addr("127.0.0.1", own.Port).String(), fmt.Sprintf("0.0.0.0:%d", everywhere.Port))})
	require.True(t, post(t, c, other.URL).Success())
	blocked := []string{
		own.URL,
		fmt.Sprintf("http://0.0.0.0:%d/", own.Port), fmt.Sprintf("http://[::]:%d/", own.Port), fmt.Sprintf("http://[::ffff:127.0.0.1]:%d/", own.Port),
		fmt.Sprintf("http://127.9.9.9:%d/", own.Port), // who listens on one address of this machine may listen on all
		fmt.Sprintf("http://127.0.0.1:%d/", everywhere.Port), fmt.Sprintf("http://127.9.9.9:%d/", everywhere.Port), fmt.Sprintf("http://[::1]:%d/", everywhere.Port),
	}
	interfaces, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range interfaces {
		if ip, ok := netip.AddrFromSlice(a.(*net.IPNet).IP); ok && !ip.IsLinkLocalUnicast() {
			blocked = append(blocked, "http://"+netip.AddrPortFrom(ip.Unmap(), everywhere.Port).String()+"/")
		}
	}
	for _, url := range blocked {
		require.Equal(t, "blocked: address not allowed", post(t, c, url).Error, url)
	}
	require.Zero(t, own.Accepted())
	require.Zero(t, everywhere.Accepted())

	g := newGuard(Options{Deny: destinations(t, "[::]:443", "203.0.112.1:8443")})
	for to, denied := range map[netip.AddrPort]bool{
		addr("8.8.8.8", 443):      false, // somebody else's port 443
		addr("203.0.112.1", 8443): true, addr("203.0.112.1", 443): false, addr("203.0.112.2", 8443): false,
	} {
		require.Equal(t, denied, g.check(t.Context(), to) != nil, to)
	}
}

// publicAddresses are 200 and more: neighbours of special ranges, addresses in use by large networks, and a walk
// through what registries have allocated.
func publicAddresses() []netip.AddrPort {
	var found []netip.AddrPort
	add := func(texts ...string) {
		for _, s := range texts {
			found = append(found, netip.AddrPortFrom(netip.MustParseAddr(s), 443))
		}
	}
	add("1.1.1.1", "8.8.8.8", "9.9.9.9", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
		"128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0",
		"192.31.195.255", "192.31.197.0", "192.52.192.255", "192.52.194.0", "192.88.98.255", "192.88.100.0", "192.167.255.255",
		"192.169.0.0", "192.175.47.255", "192.175.49.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
		"203.0.112.255", "203.0.114.0", "223.255.255.255", "1.0.0.0", "168.63.129.15", "168.63.129.17",
		"2000::", "2001:200::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2003::", "2620:4f:7fff::", "2620:4f:8001::",
		"3ffd:ffff::", "3fff:1000::", "3fff:ffff::", "2606:4700:4700::1111", "2001:4860:4860::8888", "2620:fe::fe", "2a00:1450:4001:81b::200e")
	for first := 1; first < 224; first++ { // one of each /8
		switch first {
		case 10, 127:
		default:
			add(fmt.Sprintf("%d.%d.57.91", first, 20+first%30))
		}
	}
	for _, block := range []string{"2400", "2404", "2600", "2607", "2610", "2800", "2803", "2a00", "2a02", "2a10", "2c00", "2c0f"} {
		add(block+":cb00::1", block+":1:2:3:4:5:6:7")
	}
	return found
}

func TestPublicAddressesAreAllowed(t *testing.T) {
	t.Parallel()
	addresses := publicAddresses()
	require.GreaterOrEqual(t, len(addresses), 200)
	g := newGuard(Options{})
	for _, to := range addresses {
		network := "tcp4"
		if to.Addr().Is6() {
			network = "tcp6"
		}
		require.NoError(t, g.control(t.Context(), network, to.String(), nil), to.String())
		require.NoError(t, g.control(t.Context(), network, netip.AddrPortFrom(to.Addr(), 8443).String(), nil))
	}
	for _, bad := range []struct{ network, address string }{
		{"udp4", "8.8.8.8:443"},
		{"tcp", "8.8.8.8:443"},
		{"unix", "/run/x"},
		{"tcp4", ""},
		{"tcp4", "8.8.8.8"},
		{"tcp4", "host:443"},
		{"tcp6", "[fe80::1%eth0]:443"},
		{"tcp6", "[2606:4700::1111%eth0]:443"},
		{"tcp4", "8.8.8.8:0"},
	} {
		require.ErrorIs(t, g.control(t.Context(), bad.network, bad.address, nil), errBlocked)
	}
}

// A dial that is not an exchange's has no limits, so there must be none.
func TestDialerServesExchangesOnly(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	d := &dialer{guard: &guard{}}
	d.guard.policy.Allow = loopback
	_, err := d.DialContext(t.Context(), "tcp", r.Listener.Addr().String())
	require.ErrorIs(t, err, errBlocked)
	_, err = d.DialTLSContext(t.Context(), "tcp", r.Listener.Addr().String())
	require.ErrorIs(t, err, errBlocked)
	require.Zero(t, r.Accepted())
}
