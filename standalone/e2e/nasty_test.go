package e2e_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// nasty are receivers that do what they should not. Each writes its answer to a connection whose request was read.
// egress has the long list; here is what becomes of them as rows of the history.
var nasty = map[string]struct {
	answer func(net.Conn)
	status int    // 0: none came
	err    string // several causes, where TCP leaves it to chance, have a | between them
	body   string // how the stored body begins
	retry  bool   // takes its five seconds
}{
	"slow headers":                  {answer: drip("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), err: "timeout", retry: true},
	"slow drip":                     {answer: drip("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x"), status: 200, err: "timeout", body: "xx", retry: true},
	"silence":                       {answer: drip("", ""), err: "timeout", retry: true},
	"endless body":                  {answer: flood("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 64<<10)), status: 200, body: strings.Repeat("x", 4096)},
	"100 MB of headers":             {answer: flood("HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("b", 64<<10)+"\r\n"), err: "response headers too large"},
	"endless 1xx":                   {answer: flood("", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100)), err: "response headers too large"},
	"gzip bomb":                     {answer: say("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + bomb()), status: 200},
	"reset in mid-answer":           {answer: resetAfter("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), status: 200, err: "connection reset", body: "half"},
	"closed without a word":         {answer: func(net.Conn) {}, err: "connection closed|connection reset"},
	"wrong content length":          {answer: say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"), status: 200, err: "connection closed", body: "half"},
	"two content lengths":           {answer: say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), err: "invalid response"},
	"no HTTP":                       {answer: say("220 mail.example.com ESMTP\r\n"), err: "invalid response"},
	"invalid UTF-8, NUL":            {answer: say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na\x00\xff\xfeb"), status: 200, body: "a\x00\uFFFDb"},
	"redirect to metadata":          {answer: say("HTTP/1.1 307 X\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"), status: 307, err: "HTTP 307"},
	"204":                           {answer: say("HTTP/1.1 204 No Content\r\n\r\n"), status: 204},
	"410":                           {answer: say("HTTP/1.1 410 Gone\r\nContent-Length: 4\r\n\r\ngone"), status: 410, err: "HTTP 410", body: "gone"},
	"429, huge Retry-After":         {answer: say("HTTP/1.1 429 X\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n"), status: 429, err: "HTTP 429"},
	"503, Retry-After that is none": {answer: say("HTTP/1.1 503 X\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n"), status: 503, err: "HTTP 503"},
}

func TestNastyReceiversAreRecordedAsTheyAre(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "", "MATHUB_MAX_WEBHOOKS_PER_BOT": "100"}})
	silent := log.New(io.Discard, "", 0)
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ErrorLog = silent
	plain.Start()
	t.Cleanup(plain.Close)
	selfSigned := httptest.NewUnstartedServer(http.NotFoundHandler())
	selfSigned.Config.ErrorLog = silent
	selfSigned.StartTLS()
	t.Cleanup(selfSigned.Close)
	oldTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	oldTLS.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	oldTLS.Config.ErrorLog = silent
	oldTLS.StartTLS()
	t.Cleanup(oldTLS.Close)
	type want struct {
		url, err, body string
		status         int
		slow           bool
	}
	wanted := map[string]want{
		"self-signed certificate": {url: selfSigned.URL, err: "tls: unknown authority"},
		"TLS 1.1":                 {url: oldTLS.URL, err: "tls: protocol version too old"},
		"no TLS at all":           {url: strings.Replace(plain.URL, "http", "https", 1), err: "tls: the receiver speaks plain HTTP"},
		"nobody listens":          {url: "http://127.0.0.1:1025/", err: "connection refused"},
	}
	for name, n := range nasty {
		wanted[name] = want{url: "http://" + listen(t, n.answer) + "/hook", err: n.err, body: n.body, status: n.status, slow: n.retry}
	}
	bot := stack.API().CreateBot(t, "nasty")
	for name, want := range wanted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hook := bot.CreateWebhook(t, want.url, "s", post)
			began := time.Now()
			sent := bot.Test(t, hook.ID)
			if want.slow {
				require.GreaterOrEqual(t, sent.DurationMS, 4900)
			}
			require.Less(t, sent.DurationMS, 7000, "after %v", time.Since(began))
			rows := bot.AwaitDeliveries(t, hook.ID, 1)
			require.Equal(t, sent, rows[0], "what was answered is what is kept")
			row := rows[0]
			require.Equal(t, want.err == "", row.Success)
			if want.status == 0 {
				require.Nil(t, row.StatusCode)
				require.Nil(t, row.ResponseBody)
			} else {
				require.Equal(t, want.status, *row.StatusCode)
				require.True(t, strings.HasPrefix(*row.ResponseBody, want.body), "%.100q", *row.ResponseBody)
				require.True(t, utf8.ValidString(*row.ResponseBody))
				require.LessOrEqual(t, utf8.RuneCountInString(*row.ResponseBody), 4096)
			}
			if row.Success {
				require.Nil(t, row.Error)
				require.Zero(t, bot.Webhook(t, hook.ID).FailureCount)
				return
			}
			require.Contains(t, strings.Split(want.err, "|"), *row.Error)
			require.Less(t, len(*row.Error), 60)
			require.Equal(t, 1, bot.Webhook(t, hook.ID).FailureCount)
		})
	}
}

// listen is the address of a receiver that reads each request and answers in its way.
func listen(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close() //nolint:errcheck // often broken off
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				request, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, request.Body)
				answer(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func say(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

// drip says the first text at once and the other ten times a second, until the peer has enough.
func drip(first, then string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, first)
		for ; err == nil; time.Sleep(100 * time.Millisecond) { // a receiver that drips
			if _, err = io.WriteString(conn, then); then == "" {
				_, err = conn.Read(make([]byte, 1))
			}
		}
	}
}

// flood says the first text and the other as often as the peer takes it, up to 100 MB.
func flood(first, then string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, first)
		for n := 0; err == nil && n < 100<<20; n += len(then) {
			_, err = io.WriteString(conn, then)
		}
	}
}

func resetAfter(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		time.Sleep(100 * time.Millisecond) // until it has been read: a reset takes what has not
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
}

// bomb is 10 MB of zeros, compressed.
func bomb() string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(make([]byte, 10<<20)) // into memory
	_ = w.Close()
	return b.String()
}
