package egress

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

// witnesses are the names or addresses to ask about a part.
func (o *outbound) witnesses(p part) (asked []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := p
	if p.scope == dnsPart.scope {
		known = dnsPart
	}
	if f := o.parts[known]; f != nil {
		asked = slices.Clone(f.witnesses)
	}
	for _, host := range o.hosts {
		if p.scope != dnsPart.scope {
			asked = append(asked, net.JoinHostPort(host, "443"))
		} else if _, err := netip.ParseAddr(host); err != nil {
			asked = append(asked, strings.TrimSuffix(host, "."))
		}
	}
	return asked
}

// ask returns nil where the witness answers in any way.
func (o *outbound) ask(ctx context.Context, p part, witness string) error {
	if p == namePart || p == placePart {
		found, err := o.resolver.LookupNetIP(ctx, "ip", witness+".")
		if err == nil && p == placePart && !slices.ContainsFunc(found, func(ip netip.Addr) bool { return o.policy.Permits(ip.Unmap()) }) {
			return errBlocked
		}
		return err
	}
	if p.scope == dnsPart.scope {
		_, err := o.resolver.LookupNetIP(ctx, p.network, fmt.Sprintf("mathub-%08x.%s.", rand.Uint32(), witness))
		if isNotFound(err) {
			return nil
		}
		return err
	}
	conn, err := o.connect(ctx, p.network, witness)
	told := (*tunnelFault)(nil)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &told) && told.text == connectionRefused {
		return nil
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// namesHosts says that one of the check hosts at least is a name.
func (o *outbound) namesHosts() bool {
	return slices.ContainsFunc(o.hosts, func(host string) bool { _, err := netip.ParseAddr(host); return err != nil })
}

// reach asks the proxy once more for a receiver that it did not reach. It may have been in trouble itself, which it says in
// the same words.
func (o *outbound) reach(p part, to netip.AddrPort) <-chan bool {
	reached := make(chan bool, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), accessTimeout)
		defer cancel()
		reached <- o.ask(ctx, p, to.String()) == nil
	}()
	return reached
}

// answeredForIPv4 looks up a name's IPv4 addresses once more, after a lookup that failed. If that is answered, be it that there are
// none, it was for the IPv6 addresses that it failed, about which others are asked.
func (o *outbound) answeredForIPv4(name string) <-chan bool {
	answered := make(chan bool, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), accessTimeout)
		defer cancel()
		_, err := o.resolver.LookupNetIP(ctx, dnsPart.network, name)
		is := realFault(err) == nil
		if is {
			o.begin(dns6Part)
		}
		answered <- is
	}()
	return answered
}
