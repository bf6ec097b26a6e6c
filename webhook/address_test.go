package webhook_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// specialRanges are IANA's special-purpose address registries (IPv4 and IPv6), multicast, and what research into
// attacks on webhook senders adds. Written down here and not taken from the code under test.
var specialRanges = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
	"192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
	"198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
	"168.63.129.16/32", // Azure's wire server
	"::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
	"2001::/32" /* Teredo */, "2001::/23", "2001:1::1/128", "2001:1::2/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48",
	"2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16" /* 6to4 */, "2620:4f:8000::/48", "3fff::/20", "3ffe::/16",
	"5f00::/16" /* SRv6 */, "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128",
	"4000::/2", "8000::/1", // not global unicast
}

// publicAddresses are in use, by large and small networks of every region, or stand next to a special range.
var publicAddresses = []string{
	"1.1.1.1", "8.8.8.8", "9.9.9.9", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
	"128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0",
	"192.0.3.0", "192.31.195.255", "192.31.197.0", "192.52.192.255", "192.88.98.255", "192.88.100.0", "192.167.255.255",
	"192.169.0.0", "192.175.47.255", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255",
	"203.0.114.0", "223.255.255.255", "168.63.129.15", "168.63.129.17", "140.82.121.4", "104.16.132.229", "151.101.1.69",
	"2606:4700:4700::1111", "2001:4860:4860::8888", "2001:200::1", "2001:67c:2e8::1", "2a00:1450:4001:81b::200e", "2400:cb00::1",
	"2620:fe::fe", "2003::1", "2001:db7:ffff::", "2001:db9::", "2620:4f:7fff::", "2620:4f:8001::", "3ffd:ffff::1", "2800:3f0::1", "2c0f:fb50::1",
}

// edges are a range's first, second and last addresses.
func edges(p netip.Prefix) []netip.Addr {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	end, _ := netip.AddrFromSlice(last)
	found := []netip.Addr{p.Addr(), end}
	if second := p.Addr().Next(); p.Contains(second) {
		found = append(found, second)
	}
	if before := end.Prev(); p.Contains(before) {
		found = append(found, before)
	}
	return found
}

func TestSpecialAddressesAreRefused(t *testing.T) {
	for _, r := range specialRanges {
		for _, ip := range edges(netip.MustParsePrefix(r)) {
			require.False(t, webhook.AddressPolicy{}.Permits(ip), "%v of %v", ip, r)
			if ip.Is4() {
				for form, carrier := range carriers(ip) {
					require.False(t, webhook.AddressPolicy{}.Permits(carrier), "%v, %s of %v", carrier, form, ip)
				}
			}
		}
	}
	require.False(t, webhook.AddressPolicy{}.Permits(netip.Addr{}))
	require.False(t, webhook.AddressPolicy{}.Permits(netip.MustParseAddr("2606:4700::1111%eth0")), "zone")
	require.False(t, webhook.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}.Permits(netip.MustParseAddr("fe80::1%eth0")), "zone")
}

func TestPublicAddressesAreAllowed(t *testing.T) {
	for _, text := range publicAddresses {
		require.True(t, webhook.AddressPolicy{}.Permits(netip.MustParseAddr(text)), text)
	}
}

// carriers are the IPv6 addresses that stand for an IPv4 address in some transition mechanism.
func carriers(ip netip.Addr) map[string]netip.Addr {
	v4 := ip.As4()
	make16 := func(prefix string, at int, invert byte) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		for i := range v4 {
			b[at+i] = v4[i] ^ invert
		}
		return netip.AddrFrom16(b)
	}
	return map[string]netip.Addr{
		"mapped":             make16("::ffff:0:0", 12, 0),
		"compatible":         make16("::", 12, 0),
		"translated":         make16("::ffff:0:0:0", 12, 0),
		"NAT64":              make16("64:ff9b::", 12, 0),
		"NAT64 local":        make16("64:ff9b:1:fffe::", 12, 0),
		"6to4":               make16("2002::1", 2, 0),
		"Teredo client":      make16("2001:0:4136:e378:8000:63bf::", 12, 0xff),
		"Teredo server":      make16("2001::", 4, 0),
		"ISATAP":             make16("2606:4700::5efe:0:0", 12, 0),
		"ISATAP, global bit": make16("2606:4700::200:5efe:0:0", 12, 0),
	}
}

func TestAllowedNetworks(t *testing.T) {
	policy := func(prefixes ...string) webhook.AddressPolicy {
		var p webhook.AddressPolicy
		for _, s := range prefixes {
			p.Allow = append(p.Allow, netip.MustParsePrefix(s))
		}
		return p
	}
	for _, c := range []struct {
		name      string
		policy    webhook.AddressPolicy
		address   string
		permitted bool
	}{
		{"loopback", policy("127.0.0.0/8"), "127.0.0.1", true},
		{"loopback does not bring the rest", policy("127.0.0.0/8"), "10.0.0.1", false},
		{"IPv4 loopback does not bring IPv6's", policy("127.0.0.0/8"), "::1", false},
		{"IPv6 loopback", policy("::1/128"), "::1", true},
		{"just outside", policy("10.1.0.0/16"), "10.2.0.0", false},
		{"mapped, by its IPv4 address", policy("127.0.0.0/8"), "::ffff:127.0.0.1", true},
		{"mapped, of another", policy("127.0.0.0/8"), "::ffff:10.0.0.1", false},
		{"mapped range", policy("::ffff:10.0.0.0/104"), "::ffff:10.0.0.1", true},
		{"NAT64 gateway to a public address", policy("64:ff9b::/96"), "64:ff9b::8.8.8.8", true},
		{"NAT64 gateway to loopback", policy("64:ff9b::/96"), "64:ff9b::127.0.0.1", false},
		{"NAT64 gateway to an allowed network", policy("64:ff9b::/96", "10.0.0.0/8"), "64:ff9b::10.0.0.1", true},
		{"NAT64 of an allowed network, itself not allowed", policy("10.0.0.0/8"), "64:ff9b::10.0.0.1", false},
		{"6to4 to a private address", policy("2002::/16"), "2002:a00:1::1", false},
		{"Teredo to loopback", policy("2001::/32"), "2001:0:4136:e378:8000:63bf:80ff:fffe", false},
		{"Teredo to a public address", policy("2001::/32"), "2001:0:4136:e378:8000:63bf:f7f7:f7f7", true},
		{"ISATAP to a private address", policy("2606:4700::/32"), "2606:4700::5efe:a00:1", false},
		{"NAT64 of a network's own to loopback", policy("64:ff9b:1::/48"), "64:ff9b:1::127.0.0.1", false},
		{"public addresses stay allowed", policy("127.0.0.0/8"), "8.8.8.8", true},
		{"metadata behind a wide list", policy("169.254.0.0/16"), "169.254.169.254", true},
		{"public ISATAP", policy(), "2606:4700::5efe:808:808", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.permitted, c.policy.Permits(netip.MustParseAddr(c.address)))
		})
	}
}

// nat64 writes an IPv4 address into an IPv6 one after a prefix of so many bits, as RFC 6052, section 2.2 draws it.
func nat64(prefix string, v4 string, suffix string) netip.Addr {
	n := netip.MustParsePrefix(prefix)
	b := n.Addr().As16()
	if suffix != "" {
		tail := netip.MustParseAddr(suffix).As16()
		for i := range b {
			b[i] |= tail[i]
		}
	}
	at := map[int][4]int{32: {4, 5, 6, 7}, 40: {5, 6, 7, 9}, 48: {6, 7, 9, 10}, 56: {7, 9, 10, 11}, 64: {9, 10, 11, 12}, 96: {12, 13, 14, 15}}[n.Bits()]
	for i, part := range netip.MustParseAddr(v4).As4() {
		b[at[i]] = part
	}
	return netip.AddrFrom16(b)
}

func TestNAT64Layouts(t *testing.T) {
	// RFC 6052, section 2.4.
	for prefix, want := range map[string]string{
		"2001:db8::/32": "2001:db8:c000:221::", "2001:db8:100::/40": "2001:db8:1c0:2:21::", "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::", "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::", "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
	} {
		require.Equal(t, netip.MustParseAddr(want), nat64(prefix, "192.0.2.33", ""))
	}
	local := webhook.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("64:ff9b:1::/48")}}
	for _, prefix := range []string{"64:ff9b:1::/48", "64:ff9b:1::/56", "64:ff9b:1::/64", "64:ff9b:1::/96", "64:ff9b:1:0:0:0::/96"} {
		require.True(t, local.Permits(nat64(prefix, "140.82.121.4", "")), prefix)
		for _, special := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "224.0.0.1", "0.0.0.0"} {
			require.False(t, local.Permits(nat64(prefix, special, "")), "%s of %s", special, prefix)
			require.False(t, webhook.AddressPolicy{}.Permits(nat64(prefix, special, "")))
		}
	}
	// A translator does not look at what comes after the IPv4 address, so that it can pose as one of another layout.
	require.False(t, local.Permits(nat64("64:ff9b:1::/48", "127.0.0.1", "::8.8.8.8")))
	require.False(t, local.Permits(nat64("64:ff9b:1::/56", "10.0.0.1", "::8.8.8.8")))
	require.False(t, local.Permits(nat64("64:ff9b:1::/64", "10.0.0.1", "::8:808")))

	for _, prefix := range []string{"2a00:db8::/32", "2a00:db8:100::/40", "2a00:db8:122::/48", "2a00:db8:122:300::/56", "2a00:db8:122:344::/64", "2a00:db8:122:344::/96", "64:ff9b::/96", "64:ff9b:1:fffe::/96", "fd00:64::/96"} {
		policy := webhook.AddressPolicy{NAT64: []netip.Prefix{netip.MustParsePrefix(prefix)}}
		require.NoError(t, webhook.CheckNAT64(policy.NAT64))
		require.True(t, policy.Permits(nat64(prefix, "140.82.121.4", "")), prefix)
		require.Contains(t, policy.Reaches(nat64(prefix, "140.82.121.4", "")), netip.MustParseAddr("140.82.121.4"))
		for _, special := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"} {
			require.False(t, policy.Permits(nat64(prefix, special, "")), "%s of %s", special, prefix)
		}
		policy.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		require.True(t, policy.Permits(nat64(prefix, "10.0.0.1", "")), prefix)
	}
	within := webhook.AddressPolicy{NAT64: []netip.Prefix{netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("64:ff9b:1:1::/96")}}
	require.True(t, within.Permits(nat64("64:ff9b:1:1::/96", "8.8.8.8", "")), "the longest prefix counts")
	for _, bad := range []string{"64:ff9b::/95", "64:ff9b::/128", "2001:db8::/16", "10.0.0.0/32", "::ffff:10.0.0.0/96"} {
		require.ErrorContains(t, webhook.CheckNAT64([]netip.Prefix{netip.MustParsePrefix(bad)}), "NAT64")
	}
}

func TestPorts(t *testing.T) {
	open := []uint16{80, 443, 1024, 3000, 3001, 4000, 5000, 5001, 5173, 8000, 8008, 8080, 8081, 8088, 8443, 8888, 9000, 9090, 9443, 10000, 65535}
	for _, port := range open {
		require.True(t, webhook.AddressPolicy{}.PermitsPort(port), port)
	}
	refused := []uint16{
		0, 1, 21, 22, 23, 25, 53, 110, 143, 179, 465, 587, 993, 2049, 6000, 6667, 10080,
		1433, 1521, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 5432, 5672, 5984, 6379, 6443, 7233, 8200, 8500, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 15672, 27017,
	}
	for _, port := range refused {
		require.False(t, webhook.AddressPolicy{}.PermitsPort(port), port)
		_, err := webhook.URLRules{}.Check(fmt.Sprintf("https://example.com:%d/", port))
		require.Error(t, err, port)
		require.Equal(t, port != 0, webhook.AddressPolicy{AllowPorts: refused}.PermitsPort(port), port)
	}
	_, err := webhook.URLRules{AllowPorts: []uint16{9200}}.Check("https://example.com:9200/")
	require.NoError(t, err)
	for port := 32768; port < 1<<16; port++ {
		require.True(t, webhook.AddressPolicy{}.PermitsPort(uint16(port)), "%d: systems give it out by themselves", port)
	}
}
