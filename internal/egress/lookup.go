package egress

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
)

// maxDNSAnswer bounds an answer over TCP, in bytes: to some 250 addresses. A stranger's name may have 4,000. Go asks the system from
// where each would be reached, which takes 44 ms of a processor.
const maxDNSAnswer = 4 << 10

var errLongAnswer = errors.New("egress: the name has too many addresses")

// bounded is the resolver, which takes no longer answers.
func bounded(r *net.Resolver) *net.Resolver {
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if _, packets := conn.(net.PacketConn); err != nil || packets { // an answer in a packet has 1,232 bytes
			return conn, err
		}
		return &boundedConn{conn, maxDNSAnswer}, nil
	}}
}

// boundedConn is for one answer.
type boundedConn struct {
	net.Conn
	left int
}

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errLongAnswer
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// confirmed calls do, which looks up a name, and believes "no such host" only where it holds for each address family. Go asks
// for both and passes on one of two failures: of a resolver that fails to answer for IPv4 and has "none" for IPv6 it says "no
// such host" too, for which a receiver is blamed without a check. Both families are asked at once: ctx has no trace that minds.
func confirmed[T any](ctx context.Context, r *net.Resolver, name string, do func() (T, error)) (T, error) {
	result, err := do()
	if !isNotFound(err) {
		return result, err
	}
	found, faults := lookUpFamilies(ctx, r, name)
	if len(found[0])+len(found[1]) > 0 {
		if result, err = do(); isNotFound(err) { // a resolver that contradicts itself
			err = &net.DNSError{Err: "contradictory answers", Name: name, IsTemporary: true}
		}
		return result, err
	}
	return result, cmp.Or(realFault(faults[0]), realFault(faults[1]), err)
}

// lookUpFamilies looks up a name's IPv4 addresses and, by itself, its IPv6 addresses: one may be answered alone.
func lookUpFamilies(ctx context.Context, r *net.Resolver, name string) (found [2][]netip.Addr, faults [2]error) {
	var asked sync.WaitGroup
	for i, family := range []string{"ip4", "ip6"} {
		asked.Go(func() { found[i], faults[i] = r.LookupNetIP(ctx, family, name) })
	}
	asked.Wait()
	return found, faults
}

// realFault is err, unless it says that a name has no address of a family.
func realFault(err error) error {
	if isNotFound(err) || errors.As(err, new(*net.AddrError)) {
		return nil
	}
	return err
}

// isNotFound reports whether a resolver says that there is no such name, or none with an address.
func isNotFound(err error) bool {
	dns := (*net.DNSError)(nil)
	return errors.As(err, &dns) && dns.IsNotFound
}
