package egress

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

const (
	// exchangeBytes is what a receiver may send over a TLS connection for each exchange: more than the headers and the HTTP/2 window
	// that it is given. idleBytes is what it may send without one: what it has sent of bodies that are not read to their end, which
	// the window of an HTTP/2 connection bounds. HTTP/2 answers pings, and TLS takes session tickets, without end.
	exchangeBytes = 512 << 10
	idleBytes     = 2 * http2ConnectionBuffer
)

var errTooMuch = fmt.Errorf("egress: the receiver sends more than it was asked for: %w", io.ErrUnexpectedEOF)

// connections bounds those over TLS that are kept without an exchange. net/http does so for HTTP/1.1 alone: receivers whose HTTP/2
// takes few requests a connection would leave one of each delivery, for 30 s.
type connections struct {
	most int

	mu   sync.Mutex
	idle list.List // of *receiverConn, the longest idle first
}

// receiverConn is what a TLS connection runs over.
type receiverConn struct {
	net.Conn
	among *connections
	given *tls.Certificate // our client certificate, to a receiver that asked for one; nil: none; written in the handshake only
	left  atomic.Int64     // bytes that the receiver may send

	// Guarded by among.mu.
	exchanges int
	begun     int           // exchanges, those that have ended too
	place     *list.Element // in among.idle; nil: there is an exchange, or it is closed
	closed    bool
}

func (cs *connections) wrap(raw net.Conn) *receiverConn {
	c := &receiverConn{Conn: raw, among: cs}
	c.left.Store(exchangeBytes) // for the handshake
	return c
}

// begin is called when an exchange gets the connection.
func (c *receiverConn) begin() {
	c.among.mu.Lock()
	defer c.among.mu.Unlock()
	c.exchanges++
	c.begun++
	c.left.Add(exchangeBytes)
	c.rest(false)
}

// shared reports whether several exchanges have used the connection.
func (c *receiverConn) shared() bool {
	c.among.mu.Lock()
	defer c.among.mu.Unlock()
	return c.begun > 1
}

// end is called when an exchange has ended. It closes the connection that is idle for longest, if there are too many. An exchange
// that is given that one at this very moment is repeated, as where the receiver closes it.
func (c *receiverConn) end() {
	if oldest := c.ended(); oldest != nil {
		_ = oldest.Close() // nobody uses it
	}
}

func (c *receiverConn) ended() (tooMany *receiverConn) {
	c.among.mu.Lock()
	defer c.among.mu.Unlock()
	if c.exchanges--; c.exchanges > 0 || c.closed {
		return nil
	}
	if spare := c.left.Load() - idleBytes; spare > 0 {
		c.left.Add(-spare)
	}
	c.rest(true)
	if idle := &c.among.idle; idle.Len() > c.among.most {
		return idle.Front().Value.(*receiverConn)
	}
	return nil
}

// rest is for who holds among.mu.
func (c *receiverConn) rest(rests bool) {
	if c.place != nil {
		c.among.idle.Remove(c.place)
		c.place = nil
	}
	if rests {
		c.place = c.among.idle.PushBack(c)
	}
}

// Read implements net.Conn.
func (c *receiverConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left.Add(-int64(n)) < 0 {
		return 0, errTooMuch
	}
	return n, err
}

// Close implements net.Conn.
func (c *receiverConn) Close() error {
	c.among.mu.Lock()
	c.closed = true
	c.rest(false)
	c.among.mu.Unlock()
	return c.Conn.Close()
}
