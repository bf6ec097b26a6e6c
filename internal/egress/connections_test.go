package egress

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// TestIdleHTTP2ConnectionsAreFew: each delivery to a receiver that takes one request a connection left a socket, for 30 s.
func TestIdleHTTP2ConnectionsAreFew(t *testing.T) {
	t.Parallel()
	const most = 5
	a := newAuthority(t)
	var open atomic.Int32
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2"}}
	r := listenTLS(t, config, func(conn *tls.Conn) {
		open.Add(1)
		defer open.Add(-1)
		serveHTTP2(conn, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
			respond2(f, stream, 200, "ok", true)
			return true
		})
	})
	c := newClient(t, Options{RootCAs: a.pool(), MaxIdleConns: most})
	for range 10 * most {
		got := post(t, c, r.URL)
		require.True(t, got.Success(), got.Error)
	}
	require.Equal(t, 10*most, r.Used())
	require.Eventually(t, func() bool { return open.Load() <= most }, 10*time.Second, 10*time.Millisecond)
}

// TestWhatComesWithoutAnExchangeIsBounded: a receiver sends pings after its answer, each of which is answered.
func TestWhatComesWithoutAnExchangeIsBounded(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	flooded := make(chan int, 1)
	var floods atomic.Bool
	r := listenHTTP2(t, a, func(f *http2.Framer, conn *tls.Conn, stream uint32) bool {
		respond2(f, stream, 200, "ok", true)
		if floods.Swap(true) {
			return true
		}
		go func() {
			var pings strings.Builder
			for framer := http2.NewFramer(&pings, nil); pings.Len() < 8<<10; {
				_ = framer.WritePing(false, [8]byte{})
			}
			sent := 0
			for err := error(nil); err == nil && sent < 2*idleBytes+(16<<20); {
				var n int
				n, err = io.WriteString(conn, pings.String())
				sent += n
			}
			flooded <- sent
		}()
		_, _ = io.Copy(io.Discard, conn)
		return false
	})
	c := newClient(t, Options{RootCAs: a.pool()})
	require.True(t, post(t, c, r.URL).Success())
	require.Less(t, <-flooded, 2*idleBytes+(16<<20), "the sockets of both sides take some MiB")
	require.True(t, post(t, c, r.URL).Success(), "on another connection")
}

// TestAnAnswerThatEndsAConnectionIsBlamedOnNobodyElse: headers beyond the limit have net/http end an HTTP/2 connection, with all that is
// in flight on it. Several bots may have webhooks at one host, where one of them shapes the answers to its own.
func TestAnAnswerThatEndsAConnectionIsBlamedOnNobodyElse(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	arrived, answered := make(chan bool, 2), make(chan bool)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("X-Large", strings.Repeat("b", 2*maxResponseHeaderBytes))
			return
		}
		arrived <- true
		<-answered
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, Options{RootCAs: a.pool()})
	other := make(chan Response, 1)
	go func() { other <- post(t, c, server.URL) }()
	<-arrived
	require.Equal(t, invalidResponse, post(t, c, server.URL+"/large").Error)
	close(answered)
	got := <-other
	require.True(t, got.Success(), got.Error)
	require.Len(t, arrived, 1, "it is sent once more, over a connection of its own")
	require.True(t, post(t, c, server.URL).Success())
}
