package egress

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// listenHTTP2 starts a receiver that speaks HTTP/2 by its frames. The handler gets each request's stream in the order
// of arrival, and says whether to go on reading.
func listenHTTP2(t testing.TB, a *authority, handle func(f *http2.Framer, conn *tls.Conn, stream uint32) bool) *receiver {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2"}}
	return listenTLS(t, config, func(conn *tls.Conn) { serveHTTP2(conn, handle) })
}

func serveHTTP2(conn *tls.Conn, handle func(f *http2.Framer, conn *tls.Conn, stream uint32) bool) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	_ = f.WriteSettings()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		case *http2.DataFrame:
			if frame.StreamEnded() && !handle(f, conn, frame.StreamID) {
				return
			}
		}
	}
}

func respond2(f *http2.Framer, stream uint32, status int, body string, end bool) {
	var block strings.Builder
	e := hpack.NewEncoder(&block)
	_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: fmt.Sprint(status)})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: true})
	_ = f.WriteData(stream, end, []byte(body))
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	var protocol atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol.Store(int32(r.ProtoMajor))
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}}
	server.StartTLS()
	t.Cleanup(server.Close)
	c := newClient(t, Options{RootCAs: a.pool()})
	for range 3 {
		got := post(t, c, server.URL)
		require.True(t, got.Success(), got.Error)
		require.Equal(t, `{"a":1}`, string(got.Body))
	}
	require.EqualValues(t, 2, protocol.Load())
}

func TestHTTP2ConnectionIsShared(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := listenHTTP2(t, a, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
		respond2(f, stream, 200, "ok", true)
		return true
	})
	c := newClient(t, Options{RootCAs: a.pool()})
	for range 20 {
		require.True(t, post(t, c, r.URL).Success())
	}
	require.Equal(t, 1, r.Accepted())
}

// What a receiver may send ahead of being read is said in the connection's first frame.
func TestHTTP2Settings(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	settings := make(chan map[http2.SettingID]uint32, 1)
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2"}}
	r := listenTLS(t, config, func(conn *tls.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		frame, err := http2.NewFramer(conn, conn).ReadFrame()
		if err != nil {
			return
		}
		said := map[http2.SettingID]uint32{}
		_ = frame.(*http2.SettingsFrame).ForeachSetting(func(s http2.Setting) error {
			said[s.ID] = s.Val
			return nil
		})
		settings <- said
	})
	post(t, newClient(t, Options{RootCAs: a.pool()}), r.URL)
	said := <-settings
	require.EqualValues(t, 64<<10, said[http2.SettingInitialWindowSize])
	require.LessOrEqual(t, said[http2.SettingMaxHeaderListSize], uint32(maxResponseHeaderBytes+1<<10))
	push, ok := said[http2.SettingEnablePush]
	require.True(t, ok)
	require.Zero(t, push)
}

// A receiver's restart, done properly: GOAWAY says that the last request was not processed.
func TestHTTP2GoAway(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, last := range map[string]func(stream uint32) uint32{
		"of what it has not begun": func(stream uint32) uint32 { return stream - 2 },
		"of nothing at all":        func(uint32) uint32 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := listenHTTP2(t, a, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
				if stream == 1 {
					respond2(f, stream, 200, "ok", true)
					return true
				}
				_ = f.WriteGoAway(last(stream), http2.ErrCodeNo, nil)
				return false
			})
			c := newClient(t, Options{RootCAs: a.pool()})
			for i := range 10 {
				got := post(t, c, r.URL)
				require.True(t, got.Success(), "%d: %s", i, got.Error)
			}
		})
	}
}

// And done badly: a kept connection breaks without a word.
func TestHTTP2StaleConnectionIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	r := listenHTTP2(t, a, func(f *http2.Framer, conn *tls.Conn, stream uint32) bool {
		if stream == 1 {
			respond2(f, stream, 200, "ok", true)
			return true
		}
		_ = conn.NetConn().Close()
		return false
	})
	c := newClient(t, Options{RootCAs: a.pool()})
	require.True(t, post(t, c, r.URL).Success())
	got := post(t, c, r.URL)
	require.True(t, got.Success(), got.Error)
	require.Equal(t, 2, r.Accepted())
}

func TestHTTP2HostileReceivers(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	a := newAuthority(t)
	for _, h := range []struct {
		name   string
		handle func(f *http2.Framer, conn *tls.Conn, stream uint32) bool
		status int
		errors []string
		body   string
	}{
		{"silence", func(*http2.Framer, *tls.Conn, uint32) bool { return true }, 0, []string{"timeout"}, ""},
		{"resets the stream", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			return f.WriteRSTStream(s, http2.ErrCodeInternal) == nil
		}, 0, []string{"connection reset"}, ""},
		{"resets the stream in the body", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			respond2(f, s, 200, "half", false)
			return f.WriteRSTStream(s, http2.ErrCodeInternal) == nil
		}, 200, []string{"connection reset"}, "half"},
		{"goes away for cause", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			_ = f.WriteGoAway(s, http2.ErrCodeEnhanceYourCalm, []byte("debug"))
			return false
		}, 0, []string{"connection closed", "connection reset"}, ""},
		{"closes", func(*http2.Framer, *tls.Conn, uint32) bool { return false }, 0, []string{"connection closed", "connection reset"}, ""},
		{"body that never ends", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			respond2(f, s, 200, "half", false)
			return true
		}, 200, []string{"timeout"}, "half"},
		{"more body than its window", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			respond2(f, s, 200, "", false)
			for range 100 {
				if f.WriteData(s, false, make([]byte, 16384)) != nil {
					return false
				}
			}
			return true
		}, 200, []string{"", "invalid response", "connection reset", "connection closed"}, ""},
		{"100 MB of headers", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			var block, more strings.Builder
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			e := hpack.NewEncoder(&more)
			for range 10 {
				_ = e.WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("b", 1000), Sensitive: true})
			}
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte(block.String())})
			for range 100 << 20 / more.Len() {
				if f.WriteContinuation(s, false, []byte(more.String())) != nil {
					return false
				}
			}
			return true
		}, 0, []string{"response headers too large", "connection closed", "connection reset", "invalid response"}, ""},
		{"frames that are none", func(_ *http2.Framer, conn *tls.Conn, _ uint32) bool {
			_, _ = conn.Write([]byte(strings.Repeat("\xff", 4096)))
			return false
		}, 0, []string{"invalid response", "connection closed", "connection reset"}, ""},
		{"pings without end", func(f *http2.Framer, _ *tls.Conn, _ uint32) bool {
			for i := range 1_000_000 {
				if f.WritePing(false, [8]byte{byte(i)}) != nil {
					return false
				}
			}
			return false
		}, 0, []string{"timeout", "connection closed", "connection reset"}, ""},
		{"settings without end", func(f *http2.Framer, _ *tls.Conn, _ uint32) bool {
			for range 1_000_000 {
				if f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535}) != nil {
					return false
				}
			}
			return false
		}, 0, []string{"timeout", "connection closed", "connection reset"}, ""},
		{"1xx without end", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			var block strings.Builder
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "103"})
			for range 1_000_000 {
				if f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte(block.String()), EndHeaders: true}) != nil {
					return false
				}
			}
			return false
		}, 0, []string{"timeout", "connection closed", "connection reset", "invalid response", "response headers too large"}, ""},
		{"redirect", func(f *http2.Framer, _ *tls.Conn, s uint32) bool {
			respond2(f, s, 307, "", true)
			return true
		}, 307, []string{"HTTP 307"}, ""},
	} {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			r := listenHTTP2(t, a, h.handle)
			started := time.Now()
			got := post(t, newClient(t, Options{RootCAs: a.pool(), Timeout: timeout}), r.URL)
			require.Contains(t, h.errors, got.Error)
			require.Equal(t, h.status, got.StatusCode)
			require.True(t, strings.HasPrefix(string(got.Body), h.body))
			require.LessOrEqual(t, len(got.Body), 4096)
			require.Less(t, time.Since(started), timeout+slack)
			require.Equal(t, 1, r.Used())
		})
	}
}

// A connection whose peer has vanished is not given to one delivery after another.
func TestHTTP2DeadConnectionIsDropped(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	a := newAuthority(t)
	var connections atomic.Int32
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}, NextProtos: []string{"h2"}}
	r := listenTLS(t, config, func(conn *tls.Conn) {
		if connections.Add(1) > 1 {
			// Whoever comes later finds it well.
			serveHTTP2(conn, func(f *http2.Framer, _ *tls.Conn, stream uint32) bool {
				respond2(f, stream, 200, "ok", true)
				return true
			})
			return
		}
		waitForClose(conn, 10*time.Second) // reads, and answers nothing, not even a ping
	})
	c := newClient(t, Options{RootCAs: a.pool(), Timeout: timeout})
	got := post(t, c, r.URL)
	require.Equal(t, "timeout", got.Error)
	require.GreaterOrEqual(t, got.Duration, timeout-10*time.Millisecond, "the full time is given")
	require.Eventually(t, func() bool { return post(t, c, r.URL).Success() }, time.Minute, 10*time.Millisecond)
}
