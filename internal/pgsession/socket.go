package pgsession

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout bounds the connection to an address, hostTimeout the session with each of several hosts, and soleTimeout that
	// with an only one, unless the URL says otherwise. A kernel answers at once, however busy Postgres is. Of several hosts, another
	// is asked soon; an only one may take its time.
	dialTimeout = 3 * time.Second
	hostTimeout = 3 * time.Second
	soleTimeout = 10 * time.Second
	// userTimeout is how long sent data may stay unacknowledged before the kernel gives the connection up.
	userTimeout = 8 * time.Second
)

// keepAlive finds within 8 s that the host of an idle or waiting session is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}

// socket is a connection that can be cut from outside its session.
type socket struct {
	net.Conn
	sessions *Sessions
	heard    atomic.Int64 // when the server last said anything, in Unix nanoseconds
}

func (c *socket) Read(p []byte) (n int, err error) {
	n, err = c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *socket) Close() error {
	c.sessions.mu.Lock()
	delete(c.sessions.open, c)
	c.sessions.mu.Unlock()
	return c.Conn.Close()
}

func (s *Sessions) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: s.dialTimeout, KeepAliveConfig: keepAlive, Control: limitUnacknowledged}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &socket{Conn: conn, sessions: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	return c, nil
}

func (s *Sessions) dialUnlessSilent(ctx context.Context, network, addr string) (net.Conn, error) {
	if s.isSilent(addr) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s does not answer", addr)}
	}
	return s.dial(ctx, network, addr)
}

func (s *Sessions) isSilent(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return addr != "" && s.silent == addr
}

// answers says that addr is no longer silent.
func (s *Sessions) answers(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent == addr {
		s.silent = ""
	}
}

// heard says whether the server at addr has said anything since then.
func (s *Sessions) heard(addr string, since time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if c.RemoteAddr().String() == addr && c.heard.Load() > since.UnixNano() {
			return true
		}
	}
	return false
}

// cut closes the connections to addr and returns how many. Whoever waits for an answer on one gets an error.
func (s *Sessions) cut(addr string, silent bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if silent {
		s.silent = addr
	}
	for c := range s.open {
		if c.RemoteAddr().String() == addr {
			_ = c.Conn.Close()
			delete(s.open, c)
			n++
		}
	}
	return n
}
