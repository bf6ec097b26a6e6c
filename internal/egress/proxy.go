package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Proxy is the operator's forward proxy. Its own address is not judged, as the operator chose it.
type Proxy struct {
	scheme   string // http, https or socks5
	address  string // host:port
	user     string
	password string
	hasUser  bool
}

// maxSOCKSText is the most bytes that SOCKS5 has room for in a user or a password (RFC 1929).
const maxSOCKSText = 255

// ParseProxy reads http://[user:password@]host:port (HTTP CONNECT), https:// (the same over TLS) or socks5:// (RFC 1928). The
// error says what is allowed and contains nothing of the text, which may hold a password.
func ParseProxy(text string) (*Proxy, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return nil, errors.New("must be a URL such as http://user:password@proxy.example:3128; percent-encode special characters of user and password")
	}
	switch u.Scheme {
	case "http", "https", "socks5":
	case "socks5h":
		return nil, errors.New("must begin with socks5://; names are always resolved here, never by the proxy")
	default:
		return nil, errors.New("must begin with http://, https:// or socks5://")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || port == 0 {
		return nil, errors.New("must name the proxy's port, from 1 to 65535, such as http://proxy.example:3128")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("must end after the port")
	}
	p := &Proxy{scheme: u.Scheme, address: net.JoinHostPort(u.Hostname(), u.Port()), hasUser: u.User != nil}
	if p.hasUser {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
	}
	return p, p.checkUser()
}

func (p *Proxy) checkUser() error {
	switch {
	case !p.hasUser:
		return nil
	case p.scheme != "socks5" && strings.Contains(p.user, ":"):
		return errors.New("must have a user without a colon, as HTTP's Basic authentication has no way to send one")
	case p.scheme == "socks5" && (p.user == "" || p.password == "" || len(p.user) > maxSOCKSText || len(p.password) > maxSOCKSText):
		return errors.New("must have a user and a password of 1 to 255 bytes each, or neither, as SOCKS5 sends them")
	}
	return nil
}

// String is the proxy without its user and password.
func (p *Proxy) String() string { return p.scheme + "://" + p.address }

// Address is the proxy's host and port.
func (p *Proxy) Address() string { return p.address }

// HasUser reports whether the proxy is sent a user and a password.
func (p *Proxy) HasUser() bool { return p.hasUser }

func (p *Proxy) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password))
}

// proxyError is a fault of the proxy, or of our way to it, and so of our own side.
type proxyError struct {
	cause string
	own   error // what this machine has run out of, if that is why
}

// Error implements error. It names neither the proxy nor the receiver.
func (e *proxyError) Error() string { return ErrNoOutboundAccess.Error() + ": proxy: " + e.cause }

// Is makes it one of ErrNoOutboundAccess.
func (e *proxyError) Is(target error) bool { return target == ErrNoOutboundAccess }

// Unwrap is nothing that could be taken for an error of the receiver's connection.
func (e *proxyError) Unwrap() error { return e.own }

// proxyDown makes what went wrong between this process and the proxy its fault.
func proxyDown(err error) error {
	if known := (*proxyError)(nil); errors.As(err, &known) {
		return known
	}
	if errors.Is(err, errNoProxy) {
		return &proxyError{cause: invalidResponse}
	}
	cause, own := faultOf(err)
	if own != nil {
		cause = own.Error()
	}
	return &proxyError{cause: strings.ReplaceAll(cause, "the receiver", "it"), own: own}
}

// tunnelFault is what the proxy says of a receiver that it cannot connect to, in the words of describe.
type tunnelFault struct{ text string }

// Error implements error.
func (f *tunnelFault) Error() string { return "egress: through the proxy: " + f.text }

// openProxy connects to the proxy, up to where it can be asked for a receiver.
func (t *tunnels) openProxy(ctx context.Context) (net.Conn, error) {
	dial := net.Dialer{Resolver: t.resolver, KeepAlive: -1}
	conn, err := dial.DialContext(ctx, "tcp", t.proxy.address)
	if err != nil {
		return nil, proxyDown(err)
	}
	ready, err := t.greet(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, proxyDown(err)
	}
	return ready, nil
}

// greet does what comes before the first request: TLS, or the negotiation of SOCKS5.
func (t *tunnels) greet(ctx context.Context, conn net.Conn) (net.Conn, error) {
	switch t.proxy.scheme {
	case "https":
		host, _, _ := net.SplitHostPort(t.proxy.address)
		secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: t.roots})
		return secure, secure.HandshakeContext(ctx)
	case "socks5":
		return conn, within(ctx, conn, func() error { return t.proxy.negotiateSOCKS(conn) })
	}
	return conn, nil
}

// tunnels connect to receivers through the proxy.
type tunnels struct {
	proxy    *Proxy
	guard    *guard
	resolver *net.Resolver
	roots    *x509.CertPool // that an https proxy's certificate must lead to
}
