package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// errTimeout ends an exchange whose own time is over, which is the receiver's fault, unlike the end of the caller's.
var errTimeout = errors.New("egress: attempt timed out")

// exchange is one delivery attempt in flight.
type exchange struct {
	// Context carries the exchange's end to the dialer, which net/http would let go on after it.
	context.Context
	began     time.Time
	now       func() time.Time               // by which our client certificate is valid or not
	resolving atomic.Bool                    // a name is being looked up
	name      atomic.Pointer[string]         // that was looked up last
	atProxy   atomic.Bool                    // the proxy is being connected to, and was not asked for the receiver yet
	connected atomic.Bool                    // net/http has a connection for the request
	reused    atomic.Bool                    // the connection had served before
	to        atomic.Pointer[netip.AddrPort] // where it is connected to, or was tried last, see tries
	// certificateAsked says that the receiver wanted a client certificate in a handshake.
	certificateAsked atomic.Bool
	// certificateGiven is what it got, also in the handshake of a connection that is kept.
	certificateGiven atomic.Pointer[tls.Certificate]
	conn             atomic.Pointer[receiverConn] // that it has, over TLS
	phases
}

type exchangeKey struct{}

// Value makes the exchange itself findable, saving a context of its own for that.
func (e *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return e
	}
	return e.Context.Value(key)
}

func (c *Client) exchange(ctx context.Context, u *url.URL, header http.Header, body []byte) (Response, error) {
	limited, cancel := context.WithTimeoutCause(ctx, c.timeout, errTimeout)
	defer cancel()
	e := &exchange{Context: limited, began: time.Now(), now: c.now}
	lostBefore := c.heartbeat.lost(instantOf(e.began))
	r, err := c.roundTrip(e, cancel, u, header, body)
	e.leave(nil)
	ended := time.Now()
	r.StartedAt, r.Duration = e.began, ended.Sub(e.began)
	if err != nil {
		if errors.As(err, new(*proxyError)) {
			c.outbound.lookAgain()
		}
		return Response{}, err
	}
	if r.couldComeOfPause() {
		if lost := c.heartbeat.lost(instantOf(ended)) - lostBefore; lost > maxLost {
			return Response{}, fmt.Errorf("%w for %v of the exchange: %s", ErrPaused, lost.Round(time.Millisecond), r.Error)
		}
	}
	to := netip.AddrPort{}
	if tried := e.to.Load(); tried != nil {
		to = *tried
	}
	// An answer that did not end in time may be one that the network has lost, and says nothing of now.
	late := errors.Is(context.Cause(limited), errTimeout)
	if r.StatusCode != 0 && !late && !(c.outbound.proxied && r.brokeOff()) {
		c.outbound.answered(to)
		return r, nil
	}
	name := ""
	if asked := e.name.Load(); asked != nil {
		name = *asked
	}
	return r, c.outbound.ours(ctx, r, to, name)
}

func (c *Client) roundTrip(e *exchange, cancel context.CancelFunc, u *url.URL, header http.Header, body []byte) (Response, error) {
	traced := httptrace.WithClientTrace(e, &httptrace.ClientTrace{
		GotConn:              e.gotConn,
		GotFirstResponseByte: func() { e.firstByte.end(e.began) },
	})
	via := &c.any
	if c.http1Only.has(u.Host) {
		via = &c.http1
	}
	response, err := via.pooled.RoundTrip(newRequest(traced, u, header, body)) //nolint:bodyclose // read closes it
	if e.mayRepeat(err) && e.sharedConn() && connectionEnded(err) && !asksForHTTP1(err) {
		// The receiver had closed, or was just closing, a connection kept from before, or the answer to another delivery
		// has ended it. That is no answer to this delivery, so it gets one on a new connection, which nothing else uses,
		// within the same time.
		e.connected.Store(false)
		response, err = via.fresh.RoundTrip(newRequest(traced, u, header, body)) //nolint:bodyclose // as above
	}
	if e.mayRepeat(err) && via == &c.any && asksForHTTP1(err) {
		e.connected.Store(false)
		response, err = c.http1.fresh.RoundTrip(newRequest(traced, u, header, body))
		if err == nil {
			c.http1Only.add(u.Host)
		}
	}
	if err != nil {
		text, err := e.fault(err)
		if text == tlsUnknownAuthority && c.withoutRoots {
			err = errNoRoots
		}
		return Response{Error: text, Timings: e.timings()}, err
	}
	if response.StatusCode == 0 { // net/http takes any three digits; 0 stands for no response
		cancel()
		_ = response.Body.Close()
		return Response{Error: invalidResponse, Timings: e.timings()}, nil
	}
	return c.read(e, cancel, response)
}

// tries notes an address before it is connected to. A dial that was not needed, as a kept connection came free, may go on
// beside the request: it says nothing of who answers.
func (e *exchange) tries(to netip.AddrPort) {
	if !e.connected.Load() {
		e.to.Store(&to)
	}
}

// mayRepeat reports whether the exchange failed before any answer, and has time left.
func (e *exchange) mayRepeat(err error) bool {
	return err != nil && !e.firstByte.ended() && e.Err() == nil
}

func (e *exchange) gotConn(info httptrace.GotConnInfo) {
	e.connected.Store(true)
	e.reused.Store(info.Reused)
	if secure, ok := info.Conn.(*tls.Conn); ok {
		if conn, ok := secure.NetConn().(*receiverConn); ok {
			e.certificateGiven.Store(conn.given)
			conn.begin()
			e.leave(conn)
		}
	}
	if peer, ok := info.Conn.RemoteAddr().(*net.TCPAddr); ok {
		at := peer.AddrPort()
		to := netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		e.to.Store(&to)
	}
}

// sharedConn reports whether the connection has served another exchange, before or at the same time.
func (e *exchange) sharedConn() bool {
	conn := e.conn.Load()
	return e.reused.Load() || conn != nil && conn.shared()
}

// leave ends the use of the connection before, for the next; nil: there is none.
func (e *exchange) leave(next *receiverConn) {
	if before := e.conn.Swap(next); before != nil {
		before.end()
	}
}

func newRequest(ctx context.Context, u *url.URL, header http.Header, body []byte) *http.Request {
	r := &http.Request{
		Method:        http.MethodPost,
		URL:           u,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Host:          u.Host,
		ContentLength: int64(len(body)),
		Body:          http.NoBody,
	}
	if header == nil {
		r.Header = http.Header{}
	}
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		// Lets net/http itself begin again where a kept connection turned out closed before a byte was written.
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return r.WithContext(ctx)
}

// bodyBuffers are reused, since most answers are a few bytes.
var bodyBuffers = sync.Pool{New: func() any { return new([webhook.MaxResponseBody]byte) }}

func (c *Client) read(e *exchange, cancel context.CancelFunc, response *http.Response) (Response, error) {
	buffer := bodyBuffers.Get().(*[webhook.MaxResponseBody]byte)
	defer bodyBuffers.Put(buffer)

	n := 0
	var err error
	if response.StatusCode != http.StatusSwitchingProtocols { // its body is the bare connection
		for n < len(buffer) && err == nil {
			var m int
			m, err = response.Body.Read(buffer[n:])
			n += m
		}
	}
	text := ""
	var ours error
	if err != nil && err != io.EOF {
		text, ours = e.fault(err)
	}
	if err != io.EOF {
		cancel() // what is left of the body is not wanted, and not waited for: the connection is dropped
	}
	_ = response.Body.Close() // says nothing that reading has not said
	if ours == nil && e.blamesCertificate(response.StatusCode) {
		ours = errClientCertificate
	}
	if ours != nil {
		return Response{}, ours
	}
	r := Response{
		StatusCode: response.StatusCode,
		Body:       append(make([]byte, 0, n), buffer[:n]...),
		Header:     response.Header,
		Timings:    e.timings(),
		Error:      text,
	}
	if r.StatusCode < 200 || r.StatusCode > 299 {
		r.Error = "HTTP " + strconv.Itoa(r.StatusCode)
	}
	if r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusServiceUnavailable {
		r.RetryAfter = webhook.ParseRetryAfter(strings.Join(response.Header.Values("Retry-After"), ","), c.now())
	}
	return r, nil
}
