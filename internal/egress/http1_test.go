package egress

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// wantsHTTP1 is a receiver that speaks HTTP/2 and answers there as told; over HTTP/1.1 it takes everything, and counts.
func wantsHTTP1(t *testing.T, a *authority, overHTTP2 func(f *http2.Framer, stream uint32, n int32) bool) (r *receiver, http1, http2s *atomic.Int32) {
	http1, http2s = new(atomic.Int32), new(atomic.Int32)
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2", "http/1.1"}}
	r = listenTLS(t, config, func(conn *tls.Conn) {
		if conn.ConnectionState().NegotiatedProtocol != "h2" {
			http1.Add(1)
			serve(okResponse)(conn)
			return
		}
		serveHTTP2(conn, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
			return overHTTP2(f, stream, http2s.Add(1))
		})
	})
	return r, http1, http2s
}

func TestReceiversThatRequireHTTP1(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, answer := range map[string]func(f *http2.Framer, stream uint32, n int32) bool{
		"resets the stream": func(f *http2.Framer, stream uint32, _ int32) bool {
			return f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required) == nil
		},
		"resets a later stream": func(f *http2.Framer, stream uint32, _ int32) bool {
			if stream == 1 {
				respond2(f, stream, 200, "ok", true)
				return true
			}
			return f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required) == nil
		},
		"goes away, without the stream": func(f *http2.Framer, stream uint32, _ int32) bool {
			return f.WriteGoAway(stream-1, http2.ErrCodeHTTP11Required, []byte("IIS")) == nil
		},
		"goes away, without a later stream": func(f *http2.Framer, stream uint32, n int32) bool {
			if n == 1 {
				respond2(f, stream, 200, "ok", true)
				return true
			}
			return f.WriteGoAway(stream-1, http2.ErrCodeHTTP11Required, nil) == nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, http1, http2s := wantsHTTP1(t, a, answer)
			c := newClient(t, Options{RootCAs: a.pool()})
			for i := range 10 {
				got := post(t, c, r.URL)
				require.True(t, got.Success(), "%d: %s", i, got.Error)
			}
			require.LessOrEqual(t, http2s.Load(), int32(4), "it is remembered")
			require.LessOrEqual(t, http1.Load(), int32(2), "connections are kept")
		})
	}
}

// What may have been processed is not sent again.
func TestHTTP1IsNotTriedAfterAnAnswer(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, c := range map[string]struct {
		answer func(f *http2.Framer, stream uint32, n int32) bool
		errors []string
	}{
		"the answer's head": {func(f *http2.Framer, stream uint32, _ int32) bool {
			respond2(f, stream, 200, "half", false)
			return f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required) == nil
		}, []string{"connection reset"}},
		"a GOAWAY that holds the stream": {func(f *http2.Framer, stream uint32, _ int32) bool {
			_ = f.WriteGoAway(stream, http2.ErrCodeHTTP11Required, nil)
			return false
		}, []string{"connection closed", "connection reset"}},
		"another cause": {func(f *http2.Framer, stream uint32, _ int32) bool {
			return f.WriteRSTStream(stream, http2.ErrCodeCancel) == nil
		}, []string{"connection reset"}},
		"a cause in the debug data": {func(f *http2.Framer, stream uint32, _ int32) bool {
			_ = f.WriteGoAway(stream, http2.ErrCodeInternal, []byte("received GOAWAY from server ErrCode:HTTP_1_1_REQUIRED"))
			return false
		}, []string{"connection closed", "connection reset"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, http1, http2s := wantsHTTP1(t, a, c.answer)
			got := post(t, newClient(t, Options{RootCAs: a.pool()}), r.URL)
			require.Contains(t, c.errors, got.Error)
			require.EqualValues(t, 1, http2s.Load())
			require.Zero(t, http1.Load())
		})
	}
}

// All of it is one attempt, with one time.
func TestHTTP1IsTriedWithinTheSameTime(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	a := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2", "http/1.1"}}
	r := listenTLS(t, config, func(conn *tls.Conn) {
		if conn.ConnectionState().NegotiatedProtocol != "h2" {
			waitForClose(conn, 10*time.Second)
			return
		}
		serveHTTP2(conn, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
			time.Sleep(timeout / 2) // a receiver that is slow to ask for HTTP/1.1
			return f.WriteRSTStream(stream, http2.ErrCodeHTTP11Required) == nil
		})
	})
	c := newClient(t, Options{RootCAs: a.pool(), Timeout: timeout})
	got := post(t, c, r.URL)
	require.Equal(t, "timeout", got.Error)
	require.GreaterOrEqual(t, got.Duration, timeout-10*time.Millisecond)
	require.Less(t, got.Duration, timeout+slack)
	require.Equal(t, 2, r.Used())
	require.False(t, c.http1Only.has(strings.TrimSuffix(strings.TrimPrefix(r.URL, "https://"), "/hook")), "it has not answered there either")
}

func TestHTTP1HostsAreBounded(t *testing.T) {
	t.Parallel()
	var h http1Hosts
	require.False(t, h.has("a"))
	for i := range 3 * maxHTTP1Hosts {
		host := fmt.Sprintf("host-%d", i)
		h.add(host)
		require.True(t, h.has(host))
	}
	require.LessOrEqual(t, len(*h.until.Load()), maxHTTP1Hosts)
	(*h.until.Load())["old"] = time.Now().Add(-time.Second)
	require.False(t, h.has("old"))
	h.add("new")
	require.NotContains(t, *h.until.Load(), "old")
}
