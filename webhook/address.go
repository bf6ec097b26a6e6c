package webhook

import (
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// AddressPolicy decides which addresses a delivery may go to: public ones, and those in Allow. The zero value allows
// nothing beyond the public internet. URLRules applies it to IP literals when a webhook is created, egress to every
// address at the moment of connecting.
type AddressPolicy struct {
	// Allow lists networks that may be reached although they are not public.
	Allow []netip.Prefix
}

// public denies what IANA's special-purpose registries list (RFC 6890), multicast and all IPv6 outside of global
// unicast, 2000::/3: loopback, link-local (cloud metadata), unique local, site-local, NAT64, SRv6, mapped and
// compatible addresses.
var public = ssrf.New(
	ssrf.WithAnyNetwork(), ssrf.WithAnyPort(),
	ssrf.WithDeniedV4Prefixes(
		// Azure's wire server: public by number, but every Azure VM finds its platform's keys there.
		netip.MustParsePrefix("168.63.129.16/32"),
	),
	ssrf.WithDeniedV6Prefixes(
		// The 6bone's, given back in 2006 (RFC 3701).
		netip.MustParsePrefix("3ffe::/16"),
	),
)

// Permits reports whether a delivery may connect to the address. An address that carries an IPv4 address within
// (NAT64, 6to4, Teredo, ISATAP) needs that one to be permitted too, even where Allow lists it. A mapped address,
// ::ffff:a.b.c.d, is permitted only where Allow lists it or its IPv4 address: nothing public is named so.
// An address with a zone never is.
func (p AddressPolicy) Permits(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" {
		return false
	}
	if ip.Is4In6() {
		return p.lists(ip) || p.lists(ip.Unmap())
	}
	if inner, ok := embeddedIPv4(ip); ok && !p.Permits(inner) {
		return false
	}
	return p.lists(ip) || public.SafeAddr(ip) == nil
}

func (p AddressPolicy) lists(ip netip.Addr) bool {
	return slices.ContainsFunc(p.Allow, func(n netip.Prefix) bool { return n.Contains(ip) })
}

var (
	nat64WellKnown = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local     = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour      = netip.MustParsePrefix("2002::/16")      // RFC 3056
	teredo         = netip.MustParsePrefix("2001::/32")      // RFC 4380
)

// embeddedIPv4 finds the IPv4 address that a transition mechanism would send a packet for ip to.
func embeddedIPv4(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case nat64WellKnown.Contains(ip), nat64Local.Contains(ip):
		return last, true
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(ip): // the client's address, inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214, section 6.1
		return last, true
	}
	return netip.Addr{}, false
}

// badPorts are the ports that browsers do not make requests to, because other protocols' servers there could be made
// to act on an HTTP request (WHATWG Fetch, "Port blocking").
var badPorts = []uint16{
	0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
	111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540,
	548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
	6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
}

// PermitsPort reports whether a delivery may go to the TCP port.
func (p AddressPolicy) PermitsPort(port uint16) bool {
	_, bad := slices.BinarySearch(badPorts, port)
	return !bad
}
