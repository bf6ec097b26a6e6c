package listen

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// stalledAfter is for how long a client may let the server wait, with a header, a body or an answer half way, before its
	// connection can be given to another.
	stalledAfter = time.Second
	// lookAgain is how often a new connection looks for a place while each of the others is being answered.
	lookAgain = 50 * time.Millisecond
	// outOfFiles is how long a closed connection's file may take to come free.
	outOfFiles = 5 * time.Millisecond
	// writeChunk is what a client must take of an answer within stalledAfter, where others need its place.
	writeChunk = 64 << 10
)

// places is a listener with a bounded number of connections. When all are taken, a new connection replaces one of the client
// address with the most connections: the one that has waited longest for its client.
type places struct {
	net.Listener
	most    int
	trusted []netip.Prefix
	closing chan struct{}
	close   func() error

	mu    sync.Mutex
	taken map[*conn]struct{}
	of    map[netip.Prefix]*client
}

func newPlaces(listener net.Listener, most int, trusted []netip.Prefix) *places {
	p := &places{
		Listener: listener, most: most, trusted: trusted, closing: make(chan struct{}),
		taken: map[*conn]struct{}{}, of: map[netip.Prefix]*client{},
	}
	p.close = sync.OnceValue(func() error {
		close(p.closing)
		return listener.Close()
	})
	return p
}

// Close implements net.Listener.
func (p *places) Close() error { return p.close() }

// Accept implements net.Listener.
func (p *places) Accept() (net.Conn, error) {
	accepted, err := p.Listener.Accept()
	for isOutOfFiles(err) && p.closeSome() {
		time.Sleep(outOfFiles)
		accepted, err = p.Listener.Accept()
	}
	if err != nil {
		return nil, err // one that is out of files is tried again by net/http
	}
	peer, _ := netip.ParseAddrPort(accepted.RemoteAddr().String()) // the zero address where it has none
	c := &conn{Conn: accepted, places: p, address: Client(peer.Addr())}
	c.proxied = slices.ContainsFunc(p.trusted, func(proxy netip.Prefix) bool { return proxy.Contains(peer.Addr().Unmap().WithZone("")) })
	c.waitForClient()
	for !p.take(c) {
		select {
		case <-time.After(lookAgain):
		case <-p.closing:
			return nil, errors.Join(net.ErrClosed, accepted.Close())
		}
	}
	return c, nil
}

// isOutOfFiles says whether a connection could not be taken, as this process or the whole machine has too many files open.
func isOutOfFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// take gives c a place, if need be another's.
func (p *places) take(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.most && !p.closeSomeLocked() {
		return false
	}
	p.taken[c] = struct{}{}
	if c.from = p.of[c.address]; c.from == nil {
		c.from = new(client)
		p.of[c.address] = c.from
	}
	c.from.conns++
	return true
}

// closeSome closes connections that are least missed. It returns false when each is being answered.
func (p *places) closeSome() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closeSomeLocked()
}

func (p *places) closeSomeLocked() bool {
	victims := p.leastMissed(time.Now())
	for _, victim := range victims {
		p.forget(victim)
		_ = victim.Conn.Close() // its own goroutine ends by that
	}
	return len(victims) > 0
}

// leastMissed are the connections to be closed for another; none when each is being answered. Of a full-sized listener it
// is some at once, of one client, so that who connects again and again does not have all connections looked through each
// time.
func (p *places) leastMissed(now time.Time) (found []*conn) {
	waited := make(map[*conn]time.Duration, len(p.taken))
	for c := range p.taken {
		if w := c.waited(now); w > 0 {
			waited[c] = w
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *conn) int { return cmp.Or(a.before(b), cmp.Compare(waited[b], waited[a])) })
	n := 0
	for n < len(found) && n < max(1, p.most/50) && found[n].from == found[0].from {
		n++
	}
	return found[:n]
}

// before is less than 0 if c is closed before other: a proxy's, which may carry many clients, is closed last.
func (c *conn) before(other *conn) int {
	switch {
	case c.proxied != other.proxied && other.proxied:
		return -1
	case c.proxied != other.proxied:
		return 1
	}
	return cmp.Compare(other.from.conns, c.from.conns)
}

// forget is for who holds mu.
func (p *places) forget(c *conn) {
	if _, has := p.taken[c]; !has {
		return
	}
	delete(p.taken, c)
	if c.from.conns--; c.from.conns == 0 {
		delete(p.of, c.address)
	}
}

// client is an address that has connections: how many is for who holds mu.
type client struct{ conns int }

// conn is a connection that knows since when its client is waited for.
type conn struct {
	net.Conn
	places  *places
	address netip.Prefix
	from    *client
	proxied bool

	since atomic.Int64 // nanoseconds since 1970; 0 while the server works
	idle  atomic.Bool  // between two requests
}

// Client is what counts as one client: an IPv4 address, or the /64 of an IPv6 address, which one host has whole.
func Client(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	client, _ := addr.Prefix(bits) // the number of bits is right
	return client
}

func (c *conn) waitForClient() { c.since.Store(time.Now().UnixNano()) }
func (c *conn) work()          { c.since.Store(0) }

// waited is for how long the client has been waited for; 0 when it is not yet anybody's business.
func (c *conn) waited(now time.Time) time.Duration {
	since := c.since.Load()
	if since == 0 {
		return 0
	}
	waited := now.Sub(time.Unix(0, since))
	if waited < stalledAfter && !c.idle.Load() {
		return 0
	}
	return max(waited, 1)
}

// changed is a server's ConnState.
func changed(nc net.Conn, state http.ConnState) {
	c := nc.(*conn)
	switch state { //nolint:exhaustive // the rest is Close's
	case http.StateActive:
		c.idle.Store(false)
		c.work()
	case http.StateIdle:
		c.waitForClient()
		c.idle.Store(true)
	}
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (n int, err error) {
	defer c.work()
	for first := true; first || len(b) > 0 && err == nil; first = false {
		c.waitForClient()
		chunk := b[:min(len(b), writeChunk)]
		var written int
		written, err = c.Conn.Write(chunk)
		n, b = n+written, b[len(chunk):]
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.places.mu.Lock()
	c.places.forget(c)
	c.places.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite is what net/http ends an answer by where it has not read the whole request.
func (c *conn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// connKey finds the connection in a request's context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}
