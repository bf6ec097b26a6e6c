package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Destination is where no delivery may go, whatever is allowed: a service of our own. The zero value is none.
type Destination struct {
	network netip.Prefix // an address is a network of its own
	name    string       // where it has no network; neither: this machine
	port    uint16       // 0: every port
}

// UnmarshalText reads an address, a network or a name, with a port or, for every port, without: 10.1.2.3:8080,
// [fd00::1]:8080, temporal:7233, 10.1.0.0/16, 10.1.0.0/16:6060, [fd00::/8]:6060. A port alone, :8080, and an unspecified
// address, 0.0.0.0:8080, are that port of this machine, as for a listener.
func (d *Destination) UnmarshalText(text []byte) error {
	s := string(text)
	host, port := s, ""
	switch end := strings.LastIndexByte(s, ']'); {
	case strings.HasPrefix(s, "[") && end > 0:
		host, port = s[1:end], s[end+1:]
	case strings.Count(s, ":") == 1:
		at := strings.IndexByte(s, ':')
		host, port = s[:at], s[at:]
	}
	*d = Destination{}
	if port != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
		if err != nil || n == 0 || port[0] != ':' {
			return fmt.Errorf("%q has an invalid port; must be from 1 to 65535", s)
		}
		d.port = uint16(n)
	}
	if network, err := netip.ParsePrefix(host); err == nil {
		d.network = network.Masked()
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		if ip = ip.Unmap(); !ip.IsUnspecified() {
			d.network = netip.PrefixFrom(ip, ip.BitLen())
		}
		return nil
	}
	if host == "" && d.port == 0 || strings.ContainsAny(host, "/:[]% \t") {
		return fmt.Errorf("%q must be an address, a network or a host name, with or without a port, such as 10.1.2.3:8080, 10.1.0.0/16 or temporal:7233", s)
	}
	d.name = strings.ToLower(strings.TrimSuffix(host, "."))
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Destination) MarshalText() ([]byte, error) {
	host := d.name
	if d.network.IsSingleIP() {
		host = d.network.Addr().String()
	} else if d.network.IsValid() {
		host = d.network.String()
	}
	switch {
	case d.port == 0 && host == "":
		return []byte("0.0.0.0"), nil
	case d.port == 0:
		return []byte(host), nil
	}
	return []byte(net.JoinHostPort(host, strconv.Itoa(int(d.port)))), nil
}

// What is not known of an address is our own side's failing.
var (
	errUnknownInterfaces = errors.New("egress: cannot read this machine's addresses")
	errUnknownName       = errors.New("egress: cannot resolve a name in MATHUB_EGRESS_DENY")
)

// denials decide whether an address is a destination of ours.
type denials struct {
	list  []Destination
	own   interfaces
	names names
}

// include reports whether one of the destinations has the address and port. One of this machine has its port at each of
// this machine's addresses: a service may listen on all of them.
func (d *denials) include(ctx context.Context, ip netip.Addr, port uint16) (_ bool, unknown error) {
	for _, denied := range d.list {
		if denied.port != 0 && denied.port != port {
			continue
		}
		has, err := d.has(ctx, denied, ip)
		if has {
			return true, nil
		}
		unknown = cmp.Or(unknown, err)
	}
	return false, unknown
}

func (d *denials) has(ctx context.Context, denied Destination, ip netip.Addr) (bool, error) {
	if denied.network.IsValid() && (!denied.network.IsSingleIP() || denied.network.Contains(ip)) {
		return denied.network.Contains(ip), nil
	}
	local, err := d.own.have(ip)
	if err != nil {
		return false, err
	}
	var addresses []netip.Addr
	switch {
	case denied.network.IsValid():
		addresses = []netip.Addr{denied.network.Addr()}
	case denied.name != "":
		if addresses, err = d.names.lookup(ctx, denied.name); err != nil {
			return false, err
		}
	default:
		return local, nil
	}
	for _, address := range addresses {
		if address == ip {
			return true, nil
		}
		if same, err := d.own.have(address); err != nil || local && same {
			return same, err
		}
	}
	return false, nil
}

// interfacesFresh is how long this machine's addresses are relied on: addresses come and go.
const interfacesFresh = time.Second

// interfaces know the addresses of this machine.
type interfaces struct {
	list  func() ([]net.Addr, error) // net.InterfaceAddrs
	known atomic.Pointer[interfaceAddresses]
}

type interfaceAddresses struct {
	at  time.Time
	all map[netip.Addr]bool
}

// have reports whether ip is an address of this machine.
func (i *interfaces) have(ip netip.Addr) (bool, error) {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true, nil
	}
	known := i.known.Load()
	if known == nil || time.Since(known.at) > interfacesFresh {
		addresses, err := i.list()
		if err != nil {
			return false, fmt.Errorf("%w: %w", errUnknownInterfaces, err)
		}
		known = &interfaceAddresses{at: time.Now(), all: map[netip.Addr]bool{}}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				if address, ok := netip.AddrFromSlice(n.IP); ok {
					known.all[address.Unmap()] = true
				}
			}
		}
		i.known.Store(known)
	}
	return known.all[ip], nil
}

const (
	// namesFresh is how long the addresses of a denied name are relied on. Then they are still used until the next are
	// known.
	namesFresh = 30 * time.Second
	// namesTimeout bounds the looking up of one.
	namesTimeout = 2 * time.Second
)

// names look up denied names, and remember their addresses.
type names struct {
	resolver *net.Resolver
	lookups  singleflight.Group
	mu       sync.Mutex
	known    map[string]nameAddresses
}

type nameAddresses struct {
	at  time.Time
	all []netip.Addr
	err error // where none were ever known
}

// lookup returns the addresses of a name: none of one that never existed. It waits only where it was never asked before.
func (n *names) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	known, found := n.get(name)
	if !found || time.Since(known.at) > namesFresh {
		done := n.lookups.DoChan(name, func() (any, error) { return nil, n.refresh(name) })
		if !found {
			select {
			case <-done:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			known, _ = n.get(name)
		}
	}
	return known.all, known.err
}

func (n *names) get(name string) (nameAddresses, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, found := n.known[name]
	return known, found
}

// refresh asks for the addresses of each family. Those of a family that is not answered, or that is said to be none, stay as
// they were: a resolver's trouble opens nothing that is denied.
func (n *names) refresh(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), namesTimeout)
	defer cancel()
	found, faults := lookUpFamilies(ctx, n.resolver, name)
	n.mu.Lock()
	defer n.mu.Unlock()
	next := nameAddresses{at: time.Now()}
	for i, is4 := range []bool{true, false} {
		for _, ip := range found[i] {
			next.all = append(next.all, ip.Unmap().WithZone(""))
		}
		if len(found[i]) > 0 {
			continue
		}
		for _, ip := range n.known[name].all {
			if ip.Is4() == is4 {
				next.all = append(next.all, ip)
			}
		}
	}
	var err error
	if len(next.all) == 0 {
		if err = cmp.Or(realFault(faults[0]), realFault(faults[1])); err != nil {
			next.err = fmt.Errorf("%w: %w", errUnknownName, err)
		}
	}
	n.known[name] = next
	return err
}
