package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"with a length": okResponse,
		"204":           "HTTP/1.1 204 No Content\r\n\r\n",
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"failing":       "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno",
		"at the limit":  "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + strings.Repeat("x", 4096),
	} {
		t.Run(name, func(t *testing.T) {
			r := listen(t, "127.0.0.1:0", serve(text))
			c := newClient(t, Options{})
			for range 50 {
				post(t, c, r.URL)
			}
			// net/http gives up on one whose write it has not seen the end of within 50 ms, as on a busy machine.
			require.Less(t, r.Accepted(), 5)
		})
	}
}

func TestConnectionsAreDroppedWhoseBodyIsNotReadToTheEnd(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve("HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n"+strings.Repeat("x", 4097)))
	c := newClient(t, Options{})
	for range 5 {
		require.True(t, post(t, c, r.URL).Success())
	}
	require.Equal(t, 5, r.Accepted())
}

func TestConcurrentDeliveriesShareConnections(t *testing.T) {
	t.Parallel()
	const senders, each = 20, 50
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	c := newClient(t, Options{})
	var group sync.WaitGroup
	var failed atomic.Int32
	for range senders {
		group.Go(func() {
			for range each {
				if got, err := c.Post(context.Background(), r.URL, nil, []byte("{}")); err != nil || !got.Success() {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	require.Zero(t, failed.Load())
	require.Less(t, r.Accepted(), 3*senders, "of %d deliveries", senders*each)
}

// A receiver that answers once a connection and then, while the next request is on its way, closes it: as a keep-alive
// timeout or a restart does at the wrong moment.
func TestStaleConnectionIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"reset":  reset,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var answered atomic.Int32
			r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
				in := bufio.NewReader(conn)
				if _, _, ok := readRequest(in); !ok {
					return
				}
				answered.Add(1)
				_, _ = io.WriteString(conn, okResponse)
				_, _ = in.Peek(1) // the next request begins
				end(conn)
			})
			c := newClient(t, Options{})
			for i := range 20 {
				got := post(t, c, r.URL)
				require.True(t, got.Success(), "%d: %s", i, got.Error)
			}
			require.EqualValues(t, 20, answered.Load(), "each delivery was taken once")
		})
	}
}

// The second connection is a new one, even where the pool has more that are as stale, and there is no third.
func TestStaleConnectionIsTriedOnceMoreOnly(t *testing.T) {
	t.Parallel()
	const pooled = 10
	var requests atomic.Int32
	var dying atomic.Bool
	var together sync.WaitGroup
	together.Add(pooled)
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			if _, _, ok := readRequest(in); !ok {
				return
			}
			requests.Add(1)
			if dying.Load() {
				return
			}
			together.Done()
			together.Wait()
			_, _ = io.WriteString(conn, okResponse)
		}
	})
	c := newClient(t, Options{})
	var group sync.WaitGroup
	for range pooled {
		group.Go(func() { post(t, c, r.URL) })
	}
	group.Wait()
	require.Equal(t, pooled, r.Accepted())

	dying.Store(true)
	requests.Store(0)
	got := post(t, c, r.URL)
	require.Contains(t, []string{"connection closed", "connection reset"}, got.Error)
	require.EqualValues(t, 2, requests.Load(), "once on a kept connection, once on a new one")
	require.Equal(t, pooled+1, r.Accepted())
}

func TestFreshConnectionIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) { _, _, _ = readRequest(bufio.NewReader(conn)) })
	for range 5 {
		got := post(t, newClient(t, Options{}), r.URL)
		require.Contains(t, []string{"connection closed", "connection reset"}, got.Error)
	}
	require.Equal(t, 5, r.Accepted())
}

// A receiver that has begun to answer has taken the delivery: that it then breaks off is its failing.
func TestReusedConnectionIsNotTriedAgainAfterAnAnswer(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", "rubbish\r\n\r\n"} {
		r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
			in := bufio.NewReader(conn)
			_, _, _ = readRequest(in)
			_, _ = io.WriteString(conn, okResponse)
			_, _, _ = readRequest(in)
			_, _ = io.WriteString(conn, broken)
		})
		c := newClient(t, Options{})
		require.True(t, post(t, c, r.URL).Success())
		got := post(t, c, r.URL)
		require.False(t, got.Success())
		require.Equal(t, 1, r.Accepted())
	}
}

// Nor is one that is merely slow.
func TestReusedConnectionIsNotTriedAgainAfterATimeout(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		_, _, _ = readRequest(in)
		_, _ = io.WriteString(conn, okResponse)
		_, _, _ = readRequest(in)
		waitForClose(conn, 5*time.Second)
	})
	c := newClient(t, Options{Timeout: 2 * time.Second})
	require.True(t, post(t, c, r.URL).Success())
	got := post(t, c, r.URL)
	require.Equal(t, "timeout", got.Error)
	require.Equal(t, 1, r.Used())
}

// Both tries share the exchange's time.
func TestSecondTryIsWithinTheSameTime(t *testing.T) {
	t.Parallel()
	const timeout = 1500 * time.Millisecond
	var connections atomic.Int32
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		_, _, _ = readRequest(in)
		if connections.Add(1) > 1 {
			waitForClose(conn, 5*time.Second)
			return
		}
		_, _ = io.WriteString(conn, okResponse)
		_, _, _ = readRequest(in)
		time.Sleep(time.Second) // most of the time of the exchange
	})
	c := newClient(t, Options{Timeout: timeout})
	require.True(t, post(t, c, r.URL).Success())
	got := post(t, c, r.URL)
	require.Equal(t, "timeout", got.Error)
	require.Less(t, got.Duration, time.Second+timeout-100*time.Millisecond)
	require.Equal(t, 2, r.Used())
}

func TestClosedIdleConnectionsAreNoFailures(t *testing.T) {
	t.Parallel()
	// The receiver's own keep-alive timeout is just as long as the pause between deliveries.
	server := &http.Server{IdleTimeout: 10 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "ok")
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	c := newClient(t, Options{})
	var group sync.WaitGroup
	var failed atomic.Int32
	for range 8 {
		group.Go(func() {
			for i := range 100 {
				time.Sleep(9*time.Millisecond + time.Duration(i%20)*100*time.Microsecond) // about when the receiver closes the connection
				if r, err := c.Post(context.Background(), "http://"+l.Addr().String(), nil, []byte("{}")); err != nil || !r.Success() {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	require.Zero(t, failed.Load())
}

func TestCloseEndsIdleConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan bool, 1)
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		serve(okResponse)(conn)
		closed <- true
	})
	c := newClient(t, Options{})
	post(t, c, r.URL)
	c.Close()
	select {
	case <-closed:
	case <-time.After(2 * time.Second): // the most that it may take
		t.Fatal("left open")
	}
	require.True(t, post(t, c, r.URL).Success(), "it can still be used")
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 5
	var open atomic.Int32
	c := newClient(t, Options{MaxIdleConns: most})
	for range 20 {
		r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
			open.Add(1)
			defer open.Add(-1)
			serve(okResponse)(conn)
		})
		post(t, c, r.URL)
	}
	require.Eventually(t, func() bool { return open.Load() <= most }, time.Minute, 10*time.Millisecond)
}
