package egress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil"
	"github.com/mathub/webhooks/webhook"
)

// hostileReceivers do what receivers do to senders, by malice or by mistake. Each is given a connection after its
// request was read.
var hostileReceivers = []struct {
	name   string
	handle func(net.Conn)
	status int
	// errors has the causes that may be told; where there are two, TCP itself leaves it to chance.
	errors []string
	// body is how the response's body begins, and exact that it is all.
	body  string
	exact bool
	// waits says that only the exchange's end ends it.
	waits bool
}{
	{name: "silence", handle: func(c net.Conn) { waitForClose(c, time.Minute) }, errors: []string{"timeout"}, waits: true},
	{name: "drip of the status line", handle: drip("", "HTTP/1.1 200 OK"+strings.Repeat(" ", 1000)), errors: []string{"timeout"}, waits: true},
	{name: "drip of headers", handle: drip("HTTP/1.1 200 OK\r\n", strings.Repeat("X-A: b\r\n", 200)), errors: []string{"timeout"}, waits: true},
	{name: "headers that never end", handle: drip("HTTP/1.1 200 OK\r\nX-A: b\r\n", ""), errors: []string{"timeout"}, waits: true},
	{
		name: "drip of the body", handle: drip("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", strings.Repeat("x", 1000)),
		status: 200, errors: []string{"timeout"}, body: "xx", waits: true,
	},
	{
		name: "drip of chunks", handle: drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 200)),
		status: 200, errors: []string{"timeout"}, body: "x", waits: true,
	},
	{
		name: "drip of a body without length", handle: drip("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1000)),
		status: 200, errors: []string{"timeout"}, body: "xx", waits: true,
	},
	{
		name: "body that never comes", handle: drip("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", ""),
		status: 200, errors: []string{"timeout"}, exact: true, waits: true,
	},
	{
		name: "body that stops a byte short of the limit", handle: drip("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"+strings.Repeat("x", webhook.MaxResponseBody-1), ""),
		status: 200, errors: []string{"timeout"}, body: strings.Repeat("x", webhook.MaxResponseBody-1), exact: true, waits: true,
	},
	{
		name: "last chunk that never comes", handle: drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", ""),
		status: 200, errors: []string{"timeout"}, body: "x", exact: true, waits: true,
	},
	{
		name: "drip of an error's body", handle: drip("HTTP/1.1 500 X\r\nContent-Length: 10000\r\n\r\n", strings.Repeat("x", 1000)),
		status: 500, errors: []string{"HTTP 500"}, body: "xx", waits: true,
	},
	{
		name: "endless body", handle: flood("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 64<<10)),
		status: 200, errors: []string{""}, body: strings.Repeat("x", webhook.MaxResponseBody), exact: true,
	},
	{
		name: "endless chunks", handle: flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
		status: 200, errors: []string{""}, body: strings.Repeat("x", webhook.MaxResponseBody), exact: true,
	},
	{
		name: "endless body of an error", handle: flood("HTTP/1.1 503 X\r\nContent-Length: 1000000000000\r\n\r\n", strings.Repeat("x", 64<<10)),
		status: 503, errors: []string{"HTTP 503"}, body: strings.Repeat("x", webhook.MaxResponseBody), exact: true,
	},
	{name: "100 MB of headers", handle: flood("HTTP/1.1 200 OK\r\n", strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 64)), errors: []string{"response headers too large"}},
	{name: "endless empty headers", handle: flood("HTTP/1.1 200 OK\r\n", "A:\r\n"), errors: []string{"response headers too large"}},
	{name: "endless header", handle: flood("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("b", 64<<10)), errors: []string{"response headers too large"}},
	{name: "endless folded header", handle: flood("HTTP/1.1 200 OK\r\nX-A: b\r\n", " b\r\n"), errors: []string{"response headers too large"}},
	{name: "endless status line", handle: flood("HTTP/1.1 200 ", strings.Repeat("b", 64<<10)), errors: []string{"response headers too large"}},
	{name: "endless 102", handle: flood("", "HTTP/1.1 102 Processing\r\n\r\n"), errors: []string{"response headers too large"}},
	{name: "endless 103 with headers", handle: flood("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"), errors: []string{"response headers too large"}},
	{name: "endless 100", handle: flood("", "HTTP/1.1 100 Continue\r\n\r\n"), errors: []string{"response headers too large"}},
	{name: "a few 1xx", handle: say(strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 10) + okResponse), status: 200, errors: []string{""}, body: "ok", exact: true},
	{name: "drip of 1xx", handle: drip("", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50)), errors: []string{"timeout"}, waits: true},
	{name: "101", handle: say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw"), status: 101, errors: []string{"HTTP 101"}, exact: true},
	{name: "101 without upgrade", handle: say("HTTP/1.1 101 Switching Protocols\r\n\r\nraw"), status: 101, errors: []string{"HTTP 101"}, exact: true},
	{name: "close at once", handle: func(net.Conn) {}, errors: []string{"connection closed", "connection reset"}},
	{name: "reset at once", handle: reset, errors: []string{"connection reset"}},
	{name: "a status of zero", handle: say("HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "close in the status line", handle: say("HTTP/1.1 2"), errors: []string{"invalid response"}},
	{name: "close in the headers", handle: say("HTTP/1.1 200 OK\r\nX-A: "), errors: []string{"connection closed"}},
	{name: "reset in the headers", handle: sayAndReset("HTTP/1.1 200 OK\r\nX-A: "), errors: []string{"connection reset", "connection closed"}},
	{name: "close in the body", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), status: 200, errors: []string{"connection closed"}, body: "half", exact: true},
	{name: "close in a chunk", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf"), status: 200, errors: []string{"connection closed"}, body: "half", exact: true},
	{name: "close between chunks", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), status: 200, errors: []string{"connection closed"}, body: "half", exact: true},
	{name: "reset in the body", handle: sayAndReset("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), status: 200, errors: []string{"connection reset"}, body: "half", exact: true},
	{name: "reset in an error's body", handle: sayAndReset("HTTP/1.1 502 X\r\nContent-Length: 100\r\n\r\nhalf"), status: 502, errors: []string{"HTTP 502"}, body: "half", exact: true},
	{name: "more body than announced", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"), status: 200, errors: []string{""}, body: "ok", exact: true},
	{name: "two lengths", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "negative length", handle: say("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "length over 64 bits", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "unknown transfer coding", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "two transfer codings", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), errors: []string{"invalid response"}},
	{name: "chunk that is none", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), status: 200, errors: []string{"invalid response"}, exact: true},
	{name: "chunk over 64 bits", handle: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"), status: 200, errors: []string{"invalid response"}, exact: true},
	{name: "endless chunk extension", handle: flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", strings.Repeat("a", 64<<10)), status: 200, errors: []string{"invalid response"}, exact: true},
	{name: "endless trailer", handle: flood("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", "X-A: b\r\n"), status: 200, errors: []string{"invalid response"}, body: "x", exact: true},
	{name: "an SSH server", handle: say("SSH-2.0-OpenSSH_9.9\r\n"), errors: []string{"invalid response"}},
	{name: "an SMTP server", handle: say("220 mail.example.com ESMTP\r\n"), errors: []string{"invalid response"}},
	{name: "an HTTP/2 server", handle: say("\x00\x00\x00\x04\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 100)), errors: []string{"invalid response", "connection closed", "connection reset"}},
	{name: "binary rubbish", handle: say(strings.Repeat("\x00\xff\r\n\x80", 1000)), errors: []string{"invalid response", "connection reset"}},
	{name: "HTTP/3.0", handle: say("HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"), status: 200, errors: []string{""}, exact: true},
	{name: "HTTP/1.0", handle: say("HTTP/1.0 200 OK\r\n\r\nok"), status: 200, errors: []string{""}, body: "ok", exact: true},
	{name: "status of four digits", handle: say("HTTP/1.1 2000 OK\r\n\r\n"), errors: []string{"invalid response"}},
	{name: "status of letters", handle: say("HTTP/1.1 OK\r\n\r\n"), errors: []string{"invalid response"}},
	{name: "status below 100", handle: say("HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n"), status: 99, errors: []string{"HTTP 99"}, exact: true},
	{name: "header without a colon", handle: say("HTTP/1.1 200 OK\r\nrubbish\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "header with NUL", handle: say("HTTP/1.1 200 OK\r\nX\x00A: b\r\n\r\nok"), errors: []string{"invalid response"}},
	{name: "204", handle: say("HTTP/1.1 204 No Content\r\n\r\n"), status: 204, errors: []string{""}, exact: true},
	{name: "204 with a body", handle: say("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"), status: 204, errors: []string{""}, exact: true},
	{name: "304", handle: say("HTTP/1.1 304 Not Modified\r\n\r\n"), status: 304, errors: []string{"HTTP 304"}, exact: true},
	{name: "410", handle: say("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone"), status: 410, errors: []string{"HTTP 410"}, body: "gone", exact: true},
	{name: "body that is not UTF-8", handle: say("HTTP/1.1 200 OK\r\n\r\n\xff\xfe\x00\x00\x80"), status: 200, errors: []string{""}, body: "\xff\xfe\x00\x00\x80", exact: true},
	{name: "body at the limit", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + strings.Repeat("x", 4096)), status: 200, errors: []string{""}, body: strings.Repeat("x", 4096), exact: true},
	{name: "body over the limit", handle: say("HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n" + strings.Repeat("x", 4097)), status: 200, errors: []string{""}, body: strings.Repeat("x", 4096), exact: true},
	{name: "reset after the limit", handle: sayAndReset("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 4096)), status: 200, errors: []string{"", "connection reset"}, body: ""},
	{name: "gzip bomb", handle: say("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb), status: 200, errors: []string{""}, body: bomb[:webhook.MaxResponseBody], exact: true},
	{name: "small gzip", handle: say("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08"), status: 200, errors: []string{""}, body: "\x1f\x8b\x08", exact: true},
	{name: "cookies", handle: say("HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok"), status: 200, errors: []string{""}, body: "ok", exact: true},
}

// bomb is 100 MiB of zeros, in parts of one: each process of these tests makes it.
var bomb = func() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 1<<20))
	_ = z.Close()
	return strings.Repeat(b.String(), 100)
}()

func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

func sayAndReset(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		time.Sleep(50 * time.Millisecond) // let it arrive: a reset discards what was not read yet
		reset(c)
	}
}

func flood(start, then string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, start)
		if len(then) < 4096 {
			then = strings.Repeat(then, 64<<10/len(then))
		}
		write(c, then, 100<<20/len(then), 0)
	}
}

// drip writes a start, then one byte after another, and waits when there is none left.
func drip(start, then string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, start)
		for i := range len(then) {
			if _, err := io.WriteString(c, then[i:i+1]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond) // a receiver that is slow
		}
		waitForClose(c, time.Minute)
	}
}

func TestHostileReceivers(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	for _, h := range hostileReceivers {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, Options{Timeout: timeout})
			closed := make(chan bool, 100)
			r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
				if _, _, ok := readRequest(bufio.NewReader(conn)); !ok {
					return
				}
				h.handle(conn)
				closed <- true
			})
			started := time.Now()
			got := post(t, c, r.URL)
			took := time.Since(started)

			require.Equal(t, h.status, got.StatusCode)
			require.Contains(t, h.errors, got.Error)
			if h.exact {
				require.Equal(t, h.body, string(got.Body))
			} else {
				require.Truef(t, strings.HasPrefix(string(got.Body), h.body), "%.40q", got.Body)
			}
			require.Equal(t, h.status == 0, got.Body == nil, "nil means that no response came")
			require.LessOrEqual(t, len(got.Body), webhook.MaxResponseBody)
			require.Less(t, took, timeout+slack)
			if h.waits {
				require.GreaterOrEqual(t, took, timeout-10*time.Millisecond)
			}
			require.Equal(t, 1, r.Used(), "one delivery is one request")
			select {
			case <-closed: // what still sends or waits has been cut off
			case <-time.After(slack): // the most that it may take
				t.Fatal("the connection was left open")
			}
		})
	}
}

// The same on an error that a receiver gives before it has read anything of the request, and on none at all.
func TestReceiversThatDoNotRead(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{Timeout: 2 * time.Second})
	body := bytes.Repeat([]byte("x"), 16<<20) // more than sockets buffer
	deliver := func(t *testing.T, handle func(net.Conn)) Response {
		r := listen(t, "127.0.0.1:0", handle)
		got, err := c.Post(context.Background(), r.URL, nil, body)
		require.NoError(t, err)
		return got
	}
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		got := deliver(t, func(net.Conn) { time.Sleep(4 * time.Second) }) // longer than the exchange may take
		require.Equal(t, "timeout", got.Error)
	})
	t.Run("answers at once", func(t *testing.T) {
		t.Parallel()
		got := deliver(t, func(conn net.Conn) {
			_, _ = bufio.NewReaderSize(conn, 16).Peek(1)
			_, _ = io.WriteString(conn, okResponse)
			time.Sleep(time.Second) // the connection stays open
		})
		require.True(t, got.Success(), got.Error)
	})
	t.Run("answers before it is asked", func(t *testing.T) {
		t.Parallel()
		got := deliver(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, okResponse)
			time.Sleep(time.Second) // the connection stays open
		})
		require.Contains(t, []string{"", "invalid response", "connection closed"}, got.Error, "as the bytes happen to meet")
	})
	t.Run("closes at accept", func(t *testing.T) {
		t.Parallel()
		got := deliver(t, func(net.Conn) {})
		require.Contains(t, []string{"connection reset", "connection closed"}, got.Error)
	})
	t.Run("resets at accept", func(t *testing.T) {
		t.Parallel()
		got := deliver(t, reset)
		require.Contains(t, []string{"connection reset", "connection closed"}, got.Error)
	})
	t.Run("refuses", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "connection refused", post(t, c, "http://"+testutil.ClosedPort(t)).Error)
	})
}

// The contract's own figure, not a shortened one.
func TestFiveSeconds(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	oneByteASecond := func(start, then string) func(net.Conn) {
		return func(conn net.Conn) {
			_, _, _ = readRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, start)
			for i := range len(then) {
				time.Sleep(time.Second) // a byte a second
				if _, err := io.WriteString(conn, then[i:i+1]); err != nil {
					return
				}
			}
		}
	}
	for _, x := range []struct {
		name   string
		handle func(net.Conn)
		status int
	}{
		{"accepts and never answers", func(conn net.Conn) { waitForClose(conn, time.Minute) }, 0},
		{"drips headers, a byte a second", oneByteASecond("HTTP/1.1 200 OK\r\n", "X-Header: value"), 0},
		{"drips its body, a byte a second", oneByteASecond("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "0123456789abcdef"), 200},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			got := post(t, c, listen(t, "127.0.0.1:0", x.handle).URL)
			require.Equal(t, "timeout", got.Error)
			require.Equal(t, x.status, got.StatusCode)
			requireFiveSeconds(t, got)
		})
	}
	t.Run("answers in the fifth second", func(t *testing.T) {
		t.Parallel()
		got := post(t, c, listen(t, "127.0.0.1:0", func(conn net.Conn) {
			_, _, _ = readRequest(bufio.NewReader(conn))
			time.Sleep(4300 * time.Millisecond) // a receiver that answers just in time
			_, _ = io.WriteString(conn, okResponse)
		}).URL)
		require.True(t, got.Success(), got.Error)
	})
}

// Each hostile receiver in turn, counting all that is allocated, by client and receiver together. Not in parallel: the
// count is the process's.
func TestMemoryIsBounded(t *testing.T) {
	for _, name := range []string{"endless body", "endless chunks", "100 MB of headers", "endless header", "endless status line", "endless 102", "endless trailer", "endless chunk extension", "gzip bomb", "drip of the body"} {
		t.Run(name, func(t *testing.T) {
			for _, h := range hostileReceivers {
				if h.name != name {
					continue
				}
				c := newClient(t, Options{Timeout: 300 * time.Millisecond})
				r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
					_, _, _ = readRequest(bufio.NewReader(conn))
					h.handle(conn)
				})
				var before, after runtime.MemStats
				const n = 10
				runtime.ReadMemStats(&before)
				for range n {
					post(t, c, r.URL)
				}
				runtime.ReadMemStats(&after)
				require.Less(t, (after.TotalAlloc-before.TotalAlloc)/n, uint64(1<<20), "bytes a request")
			}
		})
	}
}

func TestResponseHeadersAtTheLimit(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	const frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: \r\n\r\n"
	with := func(size int) string {
		return strings.Replace(frame, "X-A: ", "X-A: "+strings.Repeat("b", size-len(frame)), 1)
	}
	got := post(t, c, listen(t, "127.0.0.1:0", answer(with(maxResponseHeaderBytes))).URL)
	require.True(t, got.Success(), got.Error)
	got = post(t, c, listen(t, "127.0.0.1:0", answer(with(maxResponseHeaderBytes+8<<10))).URL)
	require.Equal(t, "response headers too large", got.Error)
}

// net/http warns of unsolicited bytes on an idle connection; tests provoke them.
func init() {
	if os.Getenv("MATHUB_EGRESS_TEST_LOG") == "" {
		discardLog()
	}
}
