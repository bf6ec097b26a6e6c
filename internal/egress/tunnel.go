package egress

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// leastShare is the least time for one of several addresses, as in net.Dialer.
const leastShare = 2 * time.Second

// maxProxyHead bounds what an HTTP proxy answers before a tunnel.
const maxProxyHead = 32 << 10

// dial resolves the name and connects through the proxy to the first of its addresses that the guard permits and that the proxy
// reaches, IPv4 first: fixed addresses that receivers know mostly are IPv4. A lookup has a context of its own, for its trace. e
// is the exchange that asks, nil for a check.
func (t *tunnels) dial(ctx, lookup context.Context, e *exchange, network, address string) (net.Conn, error) {
	addresses, err := t.resolve(ctx, lookup, network, address)
	if err != nil {
		return nil, err
	}
	var refused, first error
	var at netip.AddrPort // of the first error
	asked := 0
	for i, to := range addresses {
		conn, err := t.try(ctx, e, to, len(addresses)-i)
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, err
		case errors.Is(err, errBlocked):
			refused = err
			continue
		case !errors.As(err, new(*tunnelFault)):
			return nil, err
		case first == nil:
			first, at = err, to
		}
		if asked++; asked == maxAddresses {
			break
		}
	}
	if e != nil && at.IsValid() {
		e.tries(at) // which is asked for once more
	}
	return nil, cmp.Or(first, refused)
}

func (t *tunnels) resolve(ctx, lookup context.Context, network, address string) ([]netip.AddrPort, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, errBlocked
	}
	ips, err := confirmed(ctx, t.resolver, host, func() ([]netip.Addr, error) {
		return t.resolver.LookupNetIP(lookup, "ip"+strings.TrimPrefix(network, "tcp"), host)
	})
	if err != nil {
		return nil, err
	}
	addresses := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		addresses[i] = netip.AddrPortFrom(ip.Unmap(), uint16(port))
	}
	slices.SortStableFunc(addresses, func(a, b netip.AddrPort) int { return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen()) })
	return addresses, nil
}

// try connects to an address, of as many as are left.
func (t *tunnels) try(ctx context.Context, e *exchange, to netip.AddrPort, left int) (net.Conn, error) {
	if e != nil {
		e.tries(to)
	}
	if to.Addr().Zone() != "" {
		return nil, errBlocked // the zones are this machine's, not the proxy's
	}
	if err := t.guard.check(ctx, to); err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(leastShare, time.Until(end)/time.Duration(left)))
		defer cancel()
	}
	if e != nil {
		e.atProxy.Store(true)
	}
	conn, err := t.openProxy(ctx)
	if err != nil {
		return nil, err
	}
	if e != nil {
		e.atProxy.Store(false)
	}
	var rest []byte
	err = within(ctx, conn, func() (err error) {
		rest, err = t.proxy.ask(conn, to)
		return err
	})
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil { // the proxy still tries, or hangs: others are asked for to find out
			return nil, &tunnelFault{connectTimeout}
		}
		return nil, err
	}
	return &tunnel{Conn: conn, to: net.TCPAddrFromAddrPort(to), rest: rest}, nil
}

// within runs what reads and writes conn, and cuts it off when ctx ends.
func within(ctx context.Context, conn net.Conn, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}

// ask asks the proxy to connect to an address. It returns what has come of the tunnel already.
func (p *Proxy) ask(conn net.Conn, to netip.AddrPort) (rest []byte, err error) {
	if p.scheme == "socks5" {
		return nil, p.connectSOCKS(conn, to)
	}
	request := "CONNECT " + to.String() + " HTTP/1.1\r\nHost: " + to.String() + "\r\n"
	if p.hasUser {
		request += "Proxy-Authorization: " + p.basic() + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return nil, proxyDown(err)
	}
	limited := &io.LimitedReader{R: conn, N: maxProxyHead}
	head := bufio.NewReader(limited)
	status := 100
	for status/100 == 1 {
		if status, err = readHead(head); err != nil && limited.N <= 0 {
			return nil, proxyDown(errNoProxy)
		} else if err != nil {
			return nil, proxyDown(err)
		}
	}
	if status/100 != 2 {
		return nil, refusedByProxy(status)
	}
	rest, _ = head.Peek(head.Buffered())
	return bytes.Clone(rest), nil
}

// errNoProxy is the error of an answer that no proxy gives.
var errNoProxy = errors.New("egress: malformed answer of the proxy")

// readHead reads a status line and the headers, which say nothing about a tunnel (RFC 9110, section 9.3.6).
func readHead(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return 0, err
	}
	version, text, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
	code, _, _ := strings.Cut(text, " ")
	if status, err = strconv.Atoi(code); err != nil || len(code) != 3 || status < 100 || !strings.HasPrefix(version, "HTTP/1.") {
		return 0, errNoProxy
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if strings.TrimRight(line, "\r\n") == "" {
			return status, nil
		}
	}
}

// refusedByProxy is what a status means in place of a tunnel. A proxy answers 500, 502, 503 or 504 when it cannot connect to the
// receiver, and when it is itself in trouble; 403 when a rule refuses the receiver's address or port, and when one refuses us:
// outbound.ours finds out which. Any other, such as 407, is about us.
func refusedByProxy(status int) error {
	switch status {
	case 403:
		return &tunnelFault{proxyRefuses}
	case 500, 502, 503, 504:
		return &tunnelFault{hostUnreachable}
	}
	return &proxyError{cause: fmt.Sprintf("HTTP %d", status)}
}

// tunnel is a connection to a receiver through the proxy.
type tunnel struct {
	net.Conn
	to   net.Addr
	rest []byte // what came with the proxy's answer
}

// RemoteAddr is the receiver's address.
func (t *tunnel) RemoteAddr() net.Addr { return t.to }

// Read implements net.Conn.
func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.rest) > 0 {
		n := copy(p, t.rest)
		t.rest = t.rest[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}
