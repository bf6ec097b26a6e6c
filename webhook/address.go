package webhook

import (
	"fmt"
	"net/netip"
	"slices"

	"code.dny.dev/ssrf"
)

// AddressPolicy decides which addresses and ports a delivery may go to: public addresses, and those in Allow. The zero
// value allows nothing beyond the public internet. URLRules applies it to IP literals when a webhook is created, egress to
// every address at the moment of connecting.
type AddressPolicy struct {
	// Allow lists networks that may be reached although they are not public.
	Allow []netip.Prefix
	// AllowPorts lists ports that may be reached although PermitsPort refuses them by default.
	AllowPorts []uint16
	// NAT64 lists the prefixes of the network's own NAT64 translators. An address in one is judged by the IPv4 address
	// within alone, read in the layout that the prefix's length says. See CheckNAT64.
	NAT64 []netip.Prefix
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
	within, configured := p.within(ip)
	if slices.ContainsFunc(within, func(inner netip.Addr) bool { return !p.Permits(inner) }) {
		return false
	}
	return configured || p.lists(ip) || public.SafeAddr(ip) == nil
}

func (p AddressPolicy) lists(ip netip.Addr) bool {
	return slices.ContainsFunc(p.Allow, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// Lists reports whether Allow lists the address itself, in whatever form it is written.
func (p AddressPolicy) Lists(ip netip.Addr) bool { return p.lists(ip) || p.lists(ip.Unmap()) }

// Reaches returns the address, and the IPv4 addresses that a connection to it may end at.
func (p AddressPolicy) Reaches(ip netip.Addr) []netip.Addr {
	within, _ := p.within(ip)
	return append(within, ip.Unmap())
}

var (
	nat64WellKnown = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local     = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour      = netip.MustParsePrefix("2002::/16")      // RFC 3056
	teredo         = netip.MustParsePrefix("2001::/32")      // RFC 4380
)

// within finds the IPv4 addresses that a transition mechanism may send a packet for ip to: more than one where the layout
// is not known. configured says that a prefix of NAT64 holds ip.
func (p AddressPolicy) within(ip netip.Addr) (found []netip.Addr, configured bool) {
	if !ip.Is6() {
		return nil, false
	}
	bits := 0
	for _, n := range p.NAT64 {
		if n.Contains(ip) {
			bits = max(bits, n.Bits()) // the longest prefix, as a router chooses
		}
	}
	if bits > 0 {
		return []netip.Addr{nat64Inner(ip, bits)}, true
	}
	b := ip.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case nat64WellKnown.Contains(ip):
		return []netip.Addr{last}, false
	case nat64Local.Contains(ip):
		return nat64Readings(ip), false
	case sixToFour.Contains(ip):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}, false
	case teredo.Contains(ip): // the client's address, inverted
		return []netip.Addr{netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}, false
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214, section 6.1
		return []netip.Addr{last}, false
	}
	return nil, false
}

// nat64Inner reads the IPv4 address after a prefix of so many bits: RFC 6052, section 2.2. Byte 8 is no part of it.
func nat64Inner(ip netip.Addr, bits int) netip.Addr {
	b := ip.As16()
	var v4 [4]byte
	at := bits / 8
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4)
}

// nat64Readings reads an address of the local-use prefix, which does not say its layout, in each that fits into it. What
// reads as 0.0.0.0/8 is no destination (RFC 1122, section 3.2.1.3), so that layout is not the one in use.
func nat64Readings(ip netip.Addr) (found []netip.Addr) {
	for _, bits := range []int{48, 56, 64, 96} {
		if inner := nat64Inner(ip, bits); inner.As4()[0] != 0 {
			found = append(found, inner)
		}
	}
	if len(found) == 0 {
		found = append(found, netip.IPv4Unspecified())
	}
	return found
}

// CheckNAT64 returns an error where a prefix cannot be a NAT64 translator's (RFC 6052, section 2.2).
func CheckNAT64(prefixes []netip.Prefix) error {
	for _, n := range prefixes {
		if !n.Addr().Is6() || n.Addr().Is4In6() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, n.Bits()) {
			return fmt.Errorf("%s is not a NAT64 prefix: must be an IPv6 network of 32, 40, 48, 56, 64 or 96 bits, such as 64:ff9b:1::/96", n)
		}
	}
	return nil
}

// badPorts are the ports that browsers do not make requests to, because other protocols' servers there could be made
// to act on an HTTP request (WHATWG Fetch, "Port blocking").
var badPorts = []uint16{
	0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
	111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540,
	548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
	6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
}

// servicePorts are those of databases, caches, message brokers and control planes. Some of these speak HTTP, or take an
// HTTP request for a command of theirs, and many ask for no password. Ports on which people run receivers as well (3000,
// 5000, 8000 to 8443, 9000, 9090) are not among them, nor is any that systems give out by themselves (from 32768).
var servicePorts = []uint16{
	1433, 1434, 1521, 2483, 2484, 3050, 3306, 5432, 5433, 6432, 9042, 9160, 26257, // SQL Server, Oracle, Firebird, MySQL, Postgres, PgBouncer, Cassandra, CockroachDB
	5984, 6984, 7473, 7474, 7687, 8529, 9200, 9300, 27017, 27018, 27019, // CouchDB, Neo4j, ArangoDB, Elasticsearch, MongoDB
	6379, 6380, 11211, 26379, // Redis, memcached
	1883, 4222, 4369, 5671, 5672, 6650, 8883, 9092, 9093, 9094, 15671, 15672, // MQTT, NATS, Erlang, AMQP, Pulsar, Kafka, RabbitMQ
	2181, 2379, 2380, 4001, 8200, 8201, 8300, 8301, 8302, 8500, 8501, 8502, // ZooKeeper, etcd, Vault, Consul
	2375, 2376, 2377, 4646, 4647, 4648, 6443, 10248, 10249, 10250, 10255, 10256, 10257, 10259, // Docker, Nomad, Kubernetes
	6933, 6934, 6935, 6939, 7233, 7234, 7235, 7239, 7243, // Temporal
	88, 445, 623, 873, 3260, 3268, 3269, 3389, 5900, 5985, 5986, // Kerberos, SMB, IPMI, rsync, iSCSI, Active Directory, remote desktops, WinRM
}

// PermitsPort reports whether a delivery may go to the TCP port: to none of another protocol, a database or a control
// plane that AllowPorts does not list.
func (p AddressPolicy) PermitsPort(port uint16) bool {
	if slices.Contains(p.AllowPorts, port) {
		return port != 0
	}
	_, bad := slices.BinarySearch(badPorts, port)
	return !bad && !slices.Contains(servicePorts, port)
}
