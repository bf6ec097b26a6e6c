package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// errBlocked refuses a connection.
var errBlocked = errors.New("egress: address not allowed")

// guard judges the address that is about to be connected to, after the name was resolved, so that what a name meant
// earlier (DNS rebinding) or how an address is written makes no difference.
type guard struct {
	policy webhook.AddressPolicy
	deny   []netip.AddrPort
}

// control is a [net.Dialer]'s Control function: it runs for every socket, between its creation and connect.
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") || !g.permits(to) {
		return errBlocked
	}
	return nil
}

func (g *guard) permits(to netip.AddrPort) bool {
	return g.policy.Permits(to.Addr()) && g.policy.PermitsPort(to.Port()) && !g.isOwn(to)
}

// isOwn reports whether the address leads to one of our own listeners.
func (g *guard) isOwn(to netip.AddrPort) bool {
	ip := to.Addr().Unmap()
	for _, own := range g.deny {
		if own.Port() != to.Port() {
			continue
		}
		listener := own.Addr().Unmap()
		switch {
		case listener == ip:
			return true
		case ip.IsUnspecified() && (listener.IsLoopback() || listener.IsUnspecified()):
			return true // connecting to 0.0.0.0 connects to this machine
		case listener.IsUnspecified() && isLocal(ip):
			return true
		}
	}
	return false
}

// isLocal reports whether ip is an address of this machine. It asks the system each time: addresses come and go, and
// it is asked only about connections to a port of our own.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return true // cannot tell: better refused
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if local, ok := netip.AddrFromSlice(n.IP); ok && local.Unmap() == ip {
				return true
			}
		}
	}
	return false
}

// dialer resolves a name and connects to the first of its addresses that the guard permits and that answers.
type dialer struct {
	guard    *guard
	resolver *net.Resolver
	outbound *outbound
	tls      *tls.Config
}

// DialContext connects on behalf of an exchange, and gives up when that ends.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	// net/http detaches a dial from its request, so that sockets would be opened and held by what has ended long ago.
	e, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errBlocked
	}
	dial := net.Dialer{
		Control: func(network, address string, c syscall.RawConn) error {
			if to, err := netip.ParseAddrPort(address); err == nil {
				e.to.Store(&to)
			}
			return d.guard.control(network, address, c)
		},
		Resolver:  d.resolver,
		KeepAlive: -1, // an exchange has its own end, and idle connections are closed after 30 s
	}
	began, connecting, name := time.Now(), time.Time{}, ""
	conn, err := dial.DialContext(httptrace.WithClientTrace(e.Context, &httptrace.ClientTrace{
		DNSStart: func(info httptrace.DNSStartInfo) {
			name = info.Host
			e.resolving.Store(true)
		},
		DNSDone: func(info httptrace.DNSDoneInfo) {
			// A lookup that the exchange's end has cut off stays the place where it ended.
			e.resolving.Store(info.Err != nil)
			if info.Err == nil {
				d.outbound.resolved(name)
				e.dns.end(began)
				connecting = time.Now()
			}
		},
	}), network, d.absolute(address))
	if err != nil {
		return nil, err
	}
	if connecting.IsZero() { // there was no name to look up
		connecting = began
	}
	e.connect.end(connecting)
	return conn, nil
}

// DialTLSContext connects and shakes hands on behalf of an exchange, and gives up when that ends. Left to net/http, a
// handshake that hangs would hold its socket for as long as the receiver likes.
func (d *dialer) DialTLSContext(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	config := d.tls.Clone()
	config.ServerName = strings.TrimSuffix(host, ".")
	conn := tls.Client(raw, config)
	e, began := ctx.Value(exchangeKey{}).(*exchange), time.Now()
	if err := conn.HandshakeContext(e); err != nil {
		_ = raw.Close()
		return nil, err
	}
	e.tls.end(began)
	return conn, nil
}

// absolute makes a name a fully qualified one, so that the machine's DNS search list cannot complete it to a name of
// its own network. Who allows other than public networks may want just that.
func (d *dialer) absolute(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || len(d.guard.policy.Allow) > 0 || !strings.Contains(host, ".") || strings.HasSuffix(host, ".") {
		return address
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return address
	}
	return net.JoinHostPort(host+".", port)
}
