package listen_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/openfiles"
)

// many is more than a listener holds.
func many() int { return openfiles.Connections() * 11 / 10 }

// served starts a server and returns its address; stop waits for its end, and returns what it logged.
func served(t *testing.T, handler http.Handler, trusted ...netip.Prefix) (addr string, stop func() (log string, err error)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	lines, log := io.Pipe()
	stopped := make(chan error, 1)
	go func() {
		stopped <- listen.Run(ctx, slog.New(slog.NewTextHandler(log, nil)), listen.Server{Name: "test", Variable: "X", Addr: "127.0.0.1:0", Handler: handler, Trusted: trusted})
		_ = log.Close() // a pipe's does not fail
	}()
	reader := bufio.NewReader(lines)
	line, err := reader.ReadString('\n')
	require.NoError(t, err)
	_, addr, found := strings.Cut(strings.TrimSpace(line), "addr=")
	require.True(t, found, line)
	rest := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(reader)
		rest <- string(all)
	}()
	t.Cleanup(cancel)
	return addr, func() (string, error) {
		cancel()
		return <-rest, <-stopped
	}
}

// dial connects from that address of this machine.
func dial(t *testing.T, from, addr string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(256<<10)) // so that little is an answer that is not read
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// get asks on a connection of its own and returns for how long it waited.
func get(t *testing.T, from, addr string) time.Duration {
	t.Helper()
	began := time.Now()
	conn := dial(t, from, addr)
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	return time.Since(began)
}

func isClosed(t *testing.T, conn net.Conn, within time.Duration) bool {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(within)))
	_, err := io.Copy(io.Discard, conn)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// large is more than the sockets of both sides take.
var large = bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(large) })
	mux.HandleFunc("POST /read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	return mux
}

// TestNobodyIsKeptOut: one address opens more connections than there are places, in each way in which a client can let a
// server wait. Whoever comes next, also from the same address, is served within moments.
func TestNobodyIsKeptOut(t *testing.T) {
	for name, says := range map[string]string{
		"nothing said":            "",
		"half a header":           "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ",
		"idle after an answer":    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"half a body, unread":     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
		"half a body, read":       "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
		"half a chunk":            "POST /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n12345",
		"a large answer not read": "GET /large HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := served(t, handler())
			for range many() {
				_, err := io.WriteString(dial(t, "127.0.0.1", addr), says)
				require.NoError(t, err)
			}
			for _, from := range []string{"127.0.0.2", "127.0.0.1"} {
				require.Less(t, get(t, from, addr), 4*time.Second, from)
			}
		})
	}
}

// TestTheAddressWithTheMostConnectionsGivesOneUp: a client with one connection keeps it, though it has been idle for longest.
func TestTheAddressWithTheMostConnectionsGivesOneUp(t *testing.T) {
	addr, _ := served(t, handler())
	idle := dial(t, "127.0.0.2", addr)
	_, err := io.WriteString(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	_, err = http.ReadResponse(bufio.NewReader(idle), nil)
	require.NoError(t, err)
	var theirs []net.Conn
	for range many() {
		conn := dial(t, "127.0.0.1", addr)
		theirs = append(theirs, conn)
		_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		require.NoError(t, err)
	}
	get(t, "127.0.0.3", addr)
	require.True(t, isClosed(t, theirs[0], 10*time.Second))
	require.False(t, isClosed(t, idle, 100*time.Millisecond))
}

// TestAProxysConnectionsAreClosedLast: it has the most, and many clients behind them.
func TestAProxysConnectionsAreClosedLast(t *testing.T) {
	addr, _ := served(t, handler(), netip.MustParsePrefix("127.0.0.2/32"))
	keep := func(from string, n int) (open []net.Conn) {
		for range n {
			conn := dial(t, from, addr)
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			require.NoError(t, err)
			_, err = http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			open = append(open, conn)
		}
		return open
	}
	proxys := keep("127.0.0.2", openfiles.Connections()*3/4)
	strangers := keep("127.0.0.1", openfiles.Connections()*3/10)
	require.True(t, isClosed(t, strangers[0], 10*time.Second))
	require.False(t, isClosed(t, proxys[0], 100*time.Millisecond))
}

// TestAnsweringIsNotCutOffForOthers: a handler at work keeps its connection, however full it is.
func TestAnsweringIsNotCutOffForOthers(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/", handler())
	mux.HandleFunc("GET /wait", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "done")
	})
	addr, _ := served(t, mux)
	working := dial(t, "127.0.0.1", addr)
	_, err := io.WriteString(working, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	require.NoError(t, err)
	<-begun
	for range many() {
		_, err := io.WriteString(dial(t, "127.0.0.1", addr), "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		require.NoError(t, err)
	}
	get(t, "127.0.0.2", addr)
	close(finish)
	answer, err := http.ReadResponse(bufio.NewReader(working), nil)
	require.NoError(t, err)
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "done", string(text))
}

// TestARequestHasFiveSeconds also where nobody else needs the place.
func TestARequestHasFiveSeconds(t *testing.T) {
	t.Parallel()
	addr, _ := served(t, handler())
	for name, says := range map[string]string{
		"header": "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ",
		"body":   "POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
		"unread": "POST /large HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, "127.0.0.1", addr)
			_, err := io.WriteString(conn, says)
			require.NoError(t, err)
			require.True(t, isClosed(t, conn, 9*time.Second))
		})
	}
}

// TestAnAnswerArrivesThoughTheBodyWasNotRead: closing a connection with unread data resets it.
func TestAnAnswerArrivesThoughTheBodyWasNotRead(t *testing.T) {
	t.Parallel()
	addr, _ := served(t, handler())
	for name, header := range map[string]string{
		"a length":   "Content-Length: 200000\r\n",
		"chunked":    "Transfer-Encoding: chunked\r\n",
		"kept alive": "Content-Length: 200000\r\nX-Keep: ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("x", 200_000)
			if name == "chunked" {
				body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
			}
			for range 10 {
				conn := dial(t, "127.0.0.1", addr)
				require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
				_, err := io.WriteString(conn, "GET /large HTTP/1.1\r\nHost: h\r\n"+header+"Connection: close\r\n\r\n"+body)
				require.NoError(t, err)
				reader := bufio.NewReader(conn)
				answer, err := http.ReadResponse(reader, nil)
				require.NoError(t, err)
				half, err := io.CopyN(io.Discard, answer.Body, int64(len(large)/2))
				require.NoError(t, err)
				time.Sleep(20 * time.Millisecond) // a client that takes its time while the server may already be done
				rest, err := io.Copy(io.Discard, answer.Body)
				require.NoError(t, err)
				require.EqualValues(t, len(large), half+rest)
			}
		})
	}
}

// TestARequestThatNeverEndsDoesNotMakeStoppingFail: any stranger can begin one.
func TestARequestThatNeverEndsDoesNotMakeStoppingFail(t *testing.T) {
	t.Parallel()
	addr, stop := served(t, http.NotFoundHandler())
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: ", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
		conn := dial(t, "127.0.0.1", addr)
		_, err := io.WriteString(conn, request)
		require.NoError(t, err)
		if strings.HasSuffix(request, "\r\n\r\n") { // answered, so the connection before has been taken too
			_, err = bufio.NewReader(conn).ReadString('\n')
			require.NoError(t, err)
		}
	}
	log, err := stop()
	require.NoError(t, err)
	require.Contains(t, log, "cut off")
}

// TestAServerIsOfOnePortOrNone: where one port is taken, nothing is served on the other.
func TestAServerIsOfOnePortOrNone(t *testing.T) {
	t.Parallel()
	busy, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, busy.Close()) }()
	require.ErrorContains(t, listen.Check(t.Context(), map[string]string{"MATHUB_ADDR": busy.Addr().String()}), "MATHUB_ADDR")
	err = listen.Run(t.Context(), slog.New(slog.DiscardHandler),
		listen.Server{Addr: "127.0.0.1:0", Handler: handler()}, listen.Server{Variable: "OTHER", Addr: busy.Addr().String(), Handler: handler()})
	require.ErrorContains(t, err, "OTHER")
}

// TestOnlyLoopbackNamesAreServed: what a page of a stranger makes a browser ask for bears that page's name.
func TestOnlyLoopbackNamesAreServed(t *testing.T) {
	t.Parallel()
	server := listen.LocalHosts(handler(), "ui.example.org")
	for host, status := range map[string]int{
		"localhost": 200, "localhost:8233": 200, "LOCALHOST:1": 200, "a.localhost:1": 200, "localhost.": 200,
		"127.0.0.1": 200, "127.0.0.1:8233": 200, "127.9.9.9:1": 200, "[::1]:8233": 200, "[::1]": 200, "[::ffff:127.0.0.1]:1": 200,
		"ui.example.org": 200, "ui.example.org:8233": 200,
		"evil.example": 421, "evil.example:8233": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example": 421, "notlocalhost": 421,
		"192.168.1.4:8233": 421, "0.0.0.0:8233": 421, "[::]:1": 421, "": 421, "evil.example@localhost": 421, "2130706433": 421,
		"x.ui.example.org": 421,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/", http.NoBody)
		require.NoError(t, err)
		request.Host = host
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		require.Equal(t, status, answer.Code, "%q", host)
	}
}

// TestKnownHosts: what others are to reach answers to each of its addresses, and to names that it knows.
func TestKnownHosts(t *testing.T) {
	t.Parallel()
	server := listen.KnownHosts(handler(), "Ops.example.org")
	for host, status := range map[string]int{
		"localhost:6060": 200, "127.0.0.1:6060": 200, "10.1.2.3:6060": 200, "10.1.2.3": 200, "[fd00::1]:6060": 200, "ops.example.org": 200, "OPS.example.org.:443": 200,
		"evil.example": 421, "evil.example:6060": 421, "10.1.2.3.evil.example": 421, "x.ops.example.org": 421, "2130706433": 421, "api": 421, "": 421,
	} {
		request := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		request.Host = host
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		require.Equal(t, status, answer.Code, "%q", host)
	}
}
