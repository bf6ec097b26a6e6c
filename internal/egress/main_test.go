package egress

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// children run in a process of their own, because the limits that they set are a process's: the test's own program,
// started with the child's name in this variable.
var children = map[string]func() int{}

const childVariable = "MATHUB_EGRESS_TEST_CHILD"

// TestMain also fails the run when an exchange leaves a goroutine behind, and with it a connection.
func TestMain(m *testing.M) {
	if child := os.Getenv(childVariable); child != "" {
		os.Exit(children[child]())
	}
	code := m.Run()
	// Go's resolver lets a query that was cut off run out by itself, in at most 5 s.
	for range 60 {
		stacks := make([]byte, 4<<20)
		if !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("net.(*Resolver)")) {
			break
		}
		time.Sleep(100 * time.Millisecond) // before it looks again
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// slack is what a busy machine may add to a time. What would go wrong without a limit takes much longer.
const slack = 4 * time.Second

// requireFiveSeconds: an attempt took as long as it may, body included.
func requireFiveSeconds(t testing.TB, r Response) {
	t.Helper()
	require.GreaterOrEqual(t, r.Duration, 5*time.Second-time.Millisecond)
	require.Less(t, r.Duration, 5*time.Second+slack)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newClient makes a client that may go to loopback.
func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Allow == nil {
		o.Allow = loopback
	}
	if o.CheckHosts == nil {
		o.CheckHosts = DefaultCheckHosts
	}
	o.AllowHTTP = true
	c := New(o)
	t.Cleanup(c.Close)
	return c
}

// receiver listens on loopback and handles each connection as told.
type receiver struct {
	net.Listener
	URL      string
	Port     uint16
	accepted atomic.Int32
	used     atomic.Int32
}

// receivers are those of all tests, by their addresses.
var receivers sync.Map

func (r *receiver) Accepted() int { return int(r.accepted.Load()) }

// Used are the accepted connections over which something came: not those that only find out whether the receiver takes one.
func (r *receiver) Used() int { return int(r.used.Load()) }

// countedConn counts itself when something comes.
type countedConn struct {
	*net.TCPConn
	used *atomic.Int32
	once sync.Once
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if n > 0 {
		c.once.Do(func() { c.used.Add(1) })
	}
	return n, err
}

// listen starts a receiver whose connections are closed after the handler returns, or at the test's end.
func listen(t testing.TB, address string, handle func(net.Conn)) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	to := netip.MustParseAddrPort(l.Addr().String())
	r := &receiver{Listener: l, URL: "http://" + l.Addr().String() + "/hook", Port: to.Port()}
	receivers.Store(l.Addr().String(), r)
	var mu sync.Mutex
	open := map[net.Conn]struct{}{}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			accepted, err := l.Accept()
			if err != nil {
				return
			}
			r.accepted.Add(1)
			conn := net.Conn(&countedConn{TCPConn: accepted.(*net.TCPConn), used: &r.used})
			mu.Lock()
			open[conn] = struct{}{}
			mu.Unlock()
			handlers.Go(func() {
				defer func() {
					mu.Lock()
					delete(open, conn)
					mu.Unlock()
					_ = conn.Close()
				}()
				if handle != nil {
					handle(conn)
				}
			})
		}
	})
	t.Cleanup(func() {
		receivers.Delete(l.Addr().String())
		_ = l.Close()
		mu.Lock()
		for conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		handlers.Wait()
	})
	return r
}

// readRequest reads one request from a connection, and reports whether there was one.
func readRequest(r *bufio.Reader) (*http.Request, []byte, bool) {
	request, err := http.ReadRequest(r)
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(request.Body)
	return request, body, err == nil
}

// answer reads a request and writes the text for an answer.
func answer(text string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, _, ok := readRequest(bufio.NewReader(conn)); ok {
			_, _ = io.WriteString(conn, text)
		}
	}
}

// serve answers every request on a connection with the text.
func serve(text string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			if _, _, ok := readRequest(r); !ok {
				return
			}
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// write writes until the connection fails, at most n times.
func write(conn net.Conn, text string, n int, pause time.Duration) {
	bytes := []byte(text) // once: what the receiver allocates would count in TestMemoryIsBounded
	for range n {
		if _, err := conn.Write(bytes); err != nil {
			return
		}
		time.Sleep(pause) // a receiver that is slow
	}
}

// waitForClose blocks until the peer closes, and reports whether it did within the time.
func waitForClose(conn net.Conn, within time.Duration) bool {
	_ = conn.SetReadDeadline(time.Now().Add(within))
	_, err := io.Copy(io.Discard, conn)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func reset(conn net.Conn) {
	_ = conn.(interface{ SetLinger(seconds int) error }).SetLinger(0) // close sends RST
	_ = conn.Close()
}

// post makes an exchange, which is not ours to fail.
func post(t testing.TB, c *Client, url string) Response {
	t.Helper()
	r, err := tryPost(c, url)
	require.NoError(t, err)
	return r
}

// tryPost makes an exchange. One during which this process did not run, as on a busy machine, is made again, as the product does.
func tryPost(c *Client, url string) (Response, error) {
	for deadline := time.Now().Add(3 * time.Minute); ; {
		r, err := c.Post(context.Background(), url, http.Header{"Content-Type": {"application/json"}}, []byte(`{"a":1}`))
		if !errors.Is(err, ErrPaused) || time.Now().After(deadline) {
			return r, err
		}
		_, address, _ := strings.Cut(url, "://")
		address, _, _ = strings.Cut(address, "/")
		if to, ok := receivers.Load(address); ok { // what came before does not count
			to.(*receiver).accepted.Store(0)
			to.(*receiver).used.Store(0)
		}
	}
}
