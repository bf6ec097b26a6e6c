// Package egress is the HTTP client for receivers. Their URLs come from strangers, so every exchange is bounded in time, bytes
// and sockets. It follows no redirect, and it connects only to public addresses, checked after the name is resolved.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/mathub/webhooks/internal/openfiles"
	"github.com/mathub/webhooks/webhook"
)

const (
	// maxResponseHeaderBytes bounds a response's headers, those of all 1xx responses before it included. Go's own
	// default is 10 MB.
	maxResponseHeaderBytes = 32 << 10

	// idleConnTimeout is how long a connection is kept for the next delivery. Longer saves few handshakes and holds
	// sockets of receivers that may never be called again.
	idleConnTimeout = 30 * time.Second

	// An HTTP/2 peer may send this much ahead of what is read; little of it ever is.
	http2StreamBuffer     = 64 << 10
	http2ConnectionBuffer = 1 << 20
)

// Options configure a Client. The zero value is fit for production: https to the public internet, 5 s an attempt.
type Options struct {
	// Allow lists networks that may be reached although they are not public, see webhook.AddressPolicy.
	Allow []netip.Prefix
	// AllowHTTP allows http:// URLs beside https://.
	AllowHTTP bool
	// AllowPorts and NAT64 are those of webhook.AddressPolicy.
	AllowPorts []uint16
	NAT64      []netip.Prefix
	// Deny lists our own services (the API, Postgres, Temporal), never connected to even where Allow lists their address.
	Deny []Destination
	// Timeout bounds an exchange, from resolving the name to the last byte read. 0 means webhook.AttemptTimeout, 5 s.
	Timeout time.Duration
	// MaxInFlight bounds the exchanges in flight at once, and with them the sockets in use (at most 3 each, while
	// both address families are tried). Further ones wait, which is no part of Timeout. 0 means an eighth of the
	// limit on open files (RLIMIT_NOFILE), from 8 to 2,048.
	MaxInFlight int
	// MaxInFlightPerHost bounds the exchanges in flight with one host and port, so that one that hangs cannot take
	// every place. 0 means half of MaxInFlight.
	MaxInFlightPerHost int
	// MaxIdleConns bounds the connections kept open between exchanges. 0 means as many as MaxInFlight.
	MaxIdleConns int
	// RootCAs are the authorities that receivers' certificates must lead to. Nil means the system's.
	RootCAs *x509.CertPool
	// Now is the time that receivers' certificates are held against, and from which a Retry-After with a date counts. Nil means
	// this machine's.
	Now func() time.Time
	// Resolver looks up names. Nil means Go's own resolver with the machine's configuration, not the C library's: that
	// takes a thread for each lookup, cannot be cut off, and calls a lack of files "no such host".
	Resolver *net.Resolver
	// CheckHosts are hosts, by name or address, that test outbound access when a receiver's name or network fails: by a DNS
	// lookup of a name below theirs and a connection to port 443, over which nothing is sent. Empty: only other receivers are
	// tested. The program's default is DefaultCheckHosts.
	CheckHosts []string
	// Proxy is what all connections to receivers and check hosts go through. Names are resolved and judged here; it is asked for
	// an address. Nil means none: connections are made directly, whatever HTTP_PROXY says.
	Proxy *Proxy
	// ClientCertificate is for receivers that ask for one. Nil means none.
	ClientCertificate *ClientCertificate
	// Meter measures the client, see docs/observability.md. Nil measures nothing.
	Meter metric.Meter
}

// Client makes deliveries. It is safe for concurrent use; make one and keep it, it pools connections.
type Client struct {
	guard     guard
	allowHTTP bool
	timeout   time.Duration
	now       func() time.Time
	any       transports
	http1     transports // for receivers whose HTTP/2 asks for HTTP/1.1
	http1Only http1Hosts
	places    *places
	outbound  *outbound
	tunnels   *tunnels // nil: without a proxy
	// clientCertificate is for receivers that ask for one; nil: none.
	clientCertificate *ClientCertificate
	connections       *connections // of all transports
	heartbeat         *heartbeat
	blocked           metric.Int64Counter
	// withoutRoots: no receiver's certificate can lead to an authority, as this machine knows of none.
	withoutRoots bool
}

// transports make the same connections.
type transports struct {
	pooled *http.Transport
	fresh  *http.Transport // makes a new connection for every request
}

// New returns a Client.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = webhook.AttemptTimeout
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = openfiles.InFlight()
	}
	if o.MaxInFlightPerHost <= 0 {
		o.MaxInFlightPerHost = max(1, o.MaxInFlight/2)
	}
	if o.MaxIdleConns <= 0 {
		o.MaxIdleConns = o.MaxInFlight
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Resolver == nil {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	o.Resolver = bounded(o.Resolver)
	c := &Client{
		guard:     newGuard(o),
		allowHTTP: o.AllowHTTP,
		timeout:   o.Timeout,
		now:       o.Now,
		places:    newPlaces(o.MaxInFlight, o.MaxInFlightPerHost),
		heartbeat: processHeartbeat(),

		clientCertificate: o.ClientCertificate,
		connections:       &connections{most: o.MaxIdleConns},
	}
	dial := net.Dialer{ControlContext: c.guard.control, Resolver: o.Resolver}
	c.outbound = &outbound{hosts: o.CheckHosts, resolver: o.Resolver, policy: c.guard.policy, connect: dial.DialContext, timeout: o.Timeout, began: time.Now(), parts: map[part]*finding{}}
	if o.Proxy != nil {
		c.tunnels = &tunnels{proxy: o.Proxy, guard: &c.guard, resolver: o.Resolver, roots: o.RootCAs}
		c.outbound.proxied = true
		c.outbound.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			return c.tunnels.dial(ctx, ctx, nil, network, address)
		}
	}
	c.any = c.transports(o, "h2", "http/1.1")
	c.http1 = c.transports(o, "http/1.1")
	c.withoutRoots = o.RootCAs == nil && !hasSystemRoots()
	c.measured(o.Meter)
	return c
}

func (c *Client) transports(o Options, protocols ...string) transports {
	t := transports{pooled: c.transport(o, protocols), fresh: c.transport(o, protocols)}
	t.fresh.DisableKeepAlives = true
	return t
}

func (c *Client) transport(o Options, protocols []string) *http.Transport {
	d := &dialer{
		guard:    &c.guard,
		resolver: o.Resolver,
		outbound: c.outbound,
		tunnels:  c.tunnels,
		tls:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, NextProtos: protocols, Time: o.Now},
		own:      o.ClientCertificate,
		sessions: sessions{size: o.MaxIdleConns},

		connections: c.connections,
	}
	return &http.Transport{
		Proxy:                  nil, // never from the environment; Options.Proxy is the dialer's business, behind the guard
		DialContext:            d.DialContext,
		DialTLSContext:         d.DialTLSContext,
		ForceAttemptHTTP2:      true, // a dialer of one's own switches it off otherwise
		DisableCompression:     true, // asks for none, and decompresses nothing
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		MaxIdleConns:           o.MaxIdleConns,
		MaxIdleConnsPerHost:    o.MaxIdleConns, // Go's default of 2 would close nearly every connection of a busy receiver
		IdleConnTimeout:        idleConnTimeout,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     http2StreamBuffer,
			MaxReceiveBufferPerConnection: http2ConnectionBuffer,
			// An HTTP/2 connection outlives a request on it that timed out. A ping finds out whether its peer is gone,
			// and no sooner than a slow but living one has had its full time to answer.
			SendPingTimeout: o.Timeout / 2,
			PingTimeout:     o.Timeout,
		},
	}
}

// Close closes the idle connections. Exchanges in progress go on.
func (c *Client) Close() {
	for _, t := range []transports{c.any, c.http1} {
		t.pooled.CloseIdleConnections()
		t.fresh.CloseIdleConnections()
	}
}

// Response is what came of a delivery attempt.
type Response struct {
	// StatusCode is 0 where no response came.
	StatusCode int
	// Body is what was read of the response's body, as it came, at most webhook.MaxResponseBody bytes. It is nil where
	// no response came, and only there.
	Body []byte
	// RetryAfter is how long a 429 or 503 asks to wait, at most webhook.MaxRetryAfter; else 0.
	RetryAfter time.Duration
	// Error is empty on success, else the short cause: "timeout", "connect timeout", "connection refused",
	// "tls: certificate expired", "HTTP 503" … It holds nothing of the URL, the request or the response.
	Error string
	// Header is the response's, whole, as net/http read it; nil where no response came. It is at most 32 KiB.
	Header http.Header
	// Timings say where the time went.
	Timings Timings
	// StartedAt is when the exchange began, after any wait for its turn.
	StartedAt time.Time
	// Duration is how long the exchange took.
	Duration time.Duration
}

// Success reports whether the receiver took the delivery: a 2xx, and its body to the end or to the limit, in time.
func (r Response) Success() bool { return r.Error == "" }

// ErrPaused is what Post returns when an exchange failed, perhaps because this process did not run for a part of it.
var ErrPaused = errors.New("egress: this process did not run")

// Turn is a place for one exchange with a URL. Release gives it back.
type Turn struct {
	client  *Client
	url     *url.URL
	lane    lane
	refused string // why nothing may be sent to the URL; there is no place then
}

// Turn waits for a place for an exchange of a bot with the URL: see Options.MaxInFlight and MaxInFlightPerHost. Of either, a bot gets
// no more than it leaves free; "" is none, which gets any. It fails only when ctx is done first. What is to be sent is best read after
// it, as it may have changed during the wait.
func (c *Client) Turn(ctx context.Context, bot, rawURL string) (*Turn, error) {
	u, ok := parseURL(rawURL)
	if !ok {
		return &Turn{refused: "invalid url"}, nil
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !c.allowHTTP) {
		c.countBlocked(ctx, "scheme")
		return &Turn{refused: "blocked: https only"}, nil
	}
	l := lane{bot, u.Host}
	if err := c.places.acquire(ctx, l); err != nil {
		return nil, fmt.Errorf("egress: waiting for a place: %w", err)
	}
	return &Turn{client: c, url: u, lane: l}, nil
}

// Release gives the place back.
func (t *Turn) Release() {
	if t.client != nil {
		t.client.places.release(t.lane)
	}
}

// Post sends body to the URL, once in a turn, and reads the answer. A fault of the receiver, its name or its network is a
// Response with an Error. A fault of our own side is an error, and must not count against the receiver:
//   - ctx is done;
//   - this machine is out of sockets (errors.Is syscall.EMFILE, ENFILE, EADDRNOTAVAIL or ENOBUFS) or memory (ENOMEM);
//   - its resolver, network or proxy is down (ErrNoOutboundAccess; the check may take 2 s after the exchange);
//   - it has no certificate authorities, or its client certificate has expired;
//   - this process did not run for a part of the exchange (ErrPaused).
//
// The error contains no part of the URL. The caller must not change header until Post returns. Idempotency-Key is not sent,
// because Go's transport would then repeat the POST.
func (t *Turn) Post(ctx context.Context, header http.Header, body []byte) (Response, error) {
	if t.refused != "" {
		return Response{Error: t.refused, StartedAt: time.Now()}, nil
	}
	r, err := t.client.exchange(ctx, t.url, withoutIdempotencyKey(header), body)
	if err != nil {
		return Response{}, err
	}
	if r.Class() == "blocked" {
		t.client.countBlocked(ctx, "address")
	}
	return r, nil
}

// Post waits for a turn of no bot and takes it: see Turn.
func (c *Client) Post(ctx context.Context, rawURL string, header http.Header, body []byte) (Response, error) {
	turn, err := c.Turn(ctx, "", rawURL)
	if err != nil {
		return Response{}, err
	}
	defer turn.Release()
	return turn.Post(ctx, header, body)
}

var defaultPort = map[string]string{"https": ":443", "http": ":80"}

// parseURL leaves out what is not sent: a user and a fragment, and the scheme's default port, which would stand in the
// Host header.
func parseURL(rawURL string) (*url.URL, bool) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, false
	}
	u.User, u.Fragment = nil, ""
	u.Host = strings.TrimSuffix(u.Host, defaultPort[u.Scheme])
	return u, true
}

func withoutIdempotencyKey(h http.Header) http.Header {
	// net/http looks for both, and only in canonical form.
	if _, ok := h["Idempotency-Key"]; !ok {
		if _, ok := h["X-Idempotency-Key"]; !ok {
			return h
		}
	}
	h = h.Clone()
	delete(h, "Idempotency-Key")
	delete(h, "X-Idempotency-Key")
	return h
}
