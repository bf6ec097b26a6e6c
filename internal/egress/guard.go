package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// errBlocked refuses a connection.
var errBlocked = errors.New("egress: address not allowed")

// guard checks the address of each connection after the name is resolved. So neither DNS rebinding nor the notation of an
// address can bypass it.
type guard struct {
	policy webhook.AddressPolicy
	denied denials
}

func newGuard(o Options) guard {
	return guard{
		policy: webhook.AddressPolicy{Allow: o.Allow, AllowPorts: o.AllowPorts, NAT64: o.NAT64},
		denied: denials{
			list:  o.Deny,
			own:   interfaces{list: net.InterfaceAddrs},
			names: names{resolver: o.Resolver, known: map[string]nameAddresses{}},
		},
	}
}

// control is a [net.Dialer]'s ControlContext function: it runs for every socket, between its creation and connect.
func (g *guard) control(ctx context.Context, network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return errBlocked
	}
	return g.check(ctx, to)
}

// check returns errBlocked where the address is not public nor allowed, or is one of this machine and not allowed, or is a
// destination that is denied; and another error where that is not known.
func (g *guard) check(ctx context.Context, to netip.AddrPort) error {
	if !g.policy.Permits(to.Addr()) || !g.policy.PermitsPort(to.Port()) {
		return errBlocked
	}
	for _, ip := range g.policy.Reaches(to.Addr()) {
		local, err := g.denied.own.have(ip)
		if err != nil {
			return err
		}
		if local && !g.policy.Lists(ip) {
			return errBlocked // a public address of this machine's own: its firewall stands before others only
		}
		denied, err := g.denied.include(ctx, ip, to.Port())
		switch {
		case denied:
			return errBlocked
		case errors.Is(err, errUnknownName) && !g.policy.Lists(ip):
			// A name that does not resolve keeps deliveries out of allowed networks, not from the internet.
		case err != nil:
			return err
		}
	}
	return nil
}

// maxAddresses is how many of a name's addresses an attempt connects to. A stranger's name may have thousands, of anybody.
const maxAddresses = 16

// dialer resolves a name and connects to the first of its addresses that the guard permits and that answers.
type dialer struct {
	guard    *guard
	resolver *net.Resolver
	outbound *outbound
	tunnels  *tunnels // nil: without a proxy
	tls      *tls.Config
	own      *ClientCertificate // nil: none
	sessions sessions

	connections *connections
}

// DialContext connects on behalf of an exchange, and gives up when that ends.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	// net/http detaches a dial from its request, so that sockets would be opened and held by what has ended long ago.
	e, ok := ctx.Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errBlocked
	}
	began, connecting, name := time.Now(), time.Time{}, ""
	conn, err := d.connect(e, httptrace.WithClientTrace(e.Context, &httptrace.ClientTrace{
		DNSStart: func(info httptrace.DNSStartInfo) {
			name = info.Host
			e.name.Store(&info.Host)
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

// connect makes the connection, through the proxy if there is one. The lookup has a context of its own, for its trace.
func (d *dialer) connect(e *exchange, lookup context.Context, network, address string) (net.Conn, error) {
	if d.tunnels != nil {
		return d.tunnels.dial(e, lookup, e, network, address)
	}
	var tried atomic.Int32                   // addresses that were connected to
	var first atomic.Pointer[netip.AddrPort] // of them
	dial := net.Dialer{
		ControlContext: func(ctx context.Context, network, address string, c syscall.RawConn) error {
			if err := d.guard.control(ctx, network, address, c); err != nil {
				return err
			}
			if tried.Add(1) > maxAddresses {
				return errBlocked
			}
			to := netip.MustParseAddrPort(address)
			first.CompareAndSwap(nil, &to)
			e.tries(to)
			return nil
		},
		Resolver:  d.resolver,
		KeepAlive: -1, // an exchange has its own end, and idle connections are closed after 30 s
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conn, err := confirmed(e, d.resolver, host, func() (net.Conn, error) { return dial.DialContext(lookup, network, address) })
	if to := first.Load(); errors.Is(err, errBlocked) && to != nil {
		tried.Store(0)
		return dial.DialContext(lookup, network, to.String()) // that another address is refused does not say why this one failed
	}
	return conn, err
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
	e, began := ctx.Value(exchangeKey{}).(*exchange), time.Now()
	conn := d.connections.wrap(raw)
	own := d.own.current()
	receiver := receiverTLS{name: strings.TrimSuffix(host, "."), roots: d.tls.RootCAs, now: e.now}
	if own == nil || isCurrent(own, e.now()) { // else no session hides that a receiver asks for it
		receiver.ClientSessionCache = d.sessions.of(own)
	}
	config := d.tls.Clone()
	receiver.configure(config)
	config.GetClientCertificate = func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		e.certificateAsked.Store(true)
		if own != nil && asked.SupportsCertificate(own) == nil {
			e.certificateGiven.Store(own)
			conn.given = own
			return own, nil
		}
		return &tls.Certificate{}, nil // there is none, or none of an authority that the receiver names
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(e); err != nil {
		_ = raw.Close()
		return nil, err
	}
	e.tls.end(began)
	return secure, nil
}

// absolute makes a name a fully qualified one, so that the machine's DNS search list cannot complete it to a name of
// its own network. Who allows other than public networks may want just that. Names below localhost are this machine
// (RFC 6761, section 6.3), which no DNS is asked about.
func (d *dialer) absolute(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && strings.HasSuffix(strings.TrimSuffix(host, "."), ".localhost") {
		return net.JoinHostPort("localhost", port)
	}
	if err != nil || len(d.guard.policy.Allow) > 0 || !strings.Contains(host, ".") || strings.HasSuffix(host, ".") {
		return address
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return address
	}
	return net.JoinHostPort(host+".", port)
}
