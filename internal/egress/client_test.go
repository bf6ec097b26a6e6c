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
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestPostSendsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	type received struct {
		*http.Request
		body []byte
	}
	requests := make(chan received, 1)
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		request, body, ok := readRequest(bufio.NewReader(conn))
		if !ok {
			return
		}
		requests <- received{request, body}
		_, _ = io.WriteString(conn, okResponse)
	})
	c := newClient(t, Options{})
	header := http.Header{"Content-Type": {"application/json"}, "X-Mathub-Event": {"post.created"}, "User-Agent": {"Mathub-Webhooks/1"}}
	body := []byte("{\"a\":\"<>&\u2028\x00😀\"}")
	before := time.Now()
	response, err := c.Post(context.Background(), r.URL+"/%2F?q=a%20b&c=;d", header, body)
	require.NoError(t, err)
	require.True(t, response.Success())
	require.Equal(t, 200, response.StatusCode)
	require.Equal(t, "ok", string(response.Body))
	require.Empty(t, response.Error)
	require.Zero(t, response.RetryAfter)
	require.False(t, response.StartedAt.Before(before))
	require.Positive(t, response.Duration)
	require.LessOrEqual(t, response.Duration, time.Since(before))

	got := <-requests
	require.Equal(t, http.MethodPost, got.Method)
	require.Equal(t, "/hook/%2F?q=a%20b&c=;d", got.RequestURI)
	require.Equal(t, r.Listener.Addr().String(), got.Host)
	require.Equal(t, body, got.body)
	require.Equal(t, int64(len(body)), got.ContentLength)
	want := header.Clone()
	want["Content-Length"] = []string{fmt.Sprint(len(body))}
	require.Equal(t, want, got.Header, "nothing else is sent: no Accept-Encoding, no cookies, no Referer")
}

func TestPostNeverSendsAnIdempotencyKey(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	t.Cleanup(server.Close)
	c := newClient(t, Options{})
	header := http.Header{"Idempotency-Key": {"a"}, "X-Idempotency-Key": {"b"}, "X-Other": {"c"}}
	_, err := c.Post(context.Background(), server.URL, header, nil)
	require.NoError(t, err)
	got := <-headers
	require.NotContains(t, got, "Idempotency-Key")
	require.NotContains(t, got, "X-Idempotency-Key")
	require.Equal(t, "c", got.Get("X-Other"))
	require.Len(t, header, 3, "the caller's header is left alone")
}

func TestPostWithoutHeaderAndBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.ContentLength)
	}))
	t.Cleanup(server.Close)
	response, err := newClient(t, Options{}).Post(context.Background(), server.URL, nil, nil)
	require.NoError(t, err)
	require.True(t, response.Success())
	require.Equal(t, "0", string(response.Body))
}

func TestStatusDecides(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	for _, status := range []int{200, 201, 202, 203, 204, 205, 206, 208, 226, 299} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := post(t, c, listen(t, "127.0.0.1:0", answer(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status))).URL)
			require.True(t, r.Success())
			require.Equal(t, status, r.StatusCode)
			require.NotNil(t, r.Body)
			require.Empty(t, r.Body)
		})
	}
	for _, status := range []int{300, 304, 400, 401, 403, 404, 408, 410, 418, 422, 429, 500, 502, 503, 504, 599, 600, 999} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			r := post(t, c, listen(t, "127.0.0.1:0", answer(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nbody", status))).URL)
			require.False(t, r.Success())
			require.Equal(t, status, r.StatusCode)
			require.Equal(t, fmt.Sprintf("HTTP %d", status), r.Error)
			if status != 304 { // has no body by definition
				require.Equal(t, "body", string(r.Body))
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	c := newClient(t, Options{})
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{canary.URL, "//" + canary.Listener.Addr().String(), "http://169.254.169.254/latest/meta-data/", "/elsewhere"} {
			r := listen(t, "127.0.0.1:0", serve(fmt.Sprintf("HTTP/1.1 %d X\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, location)))
			got := post(t, c, r.URL)
			require.Equal(t, fmt.Sprintf("HTTP %d", status), got.Error)
			require.Equal(t, status, got.StatusCode)
			require.Equal(t, 1, r.Accepted())
		}
	}
	refresh := listen(t, "127.0.0.1:0", answer("HTTP/1.1 200 OK\r\nRefresh: 0; url="+canary.URL+"\r\nContent-Length: 0\r\n\r\n"))
	require.True(t, post(t, c, refresh.URL).Success())
	require.Zero(t, canary.Accepted())
	require.True(t, post(t, c, canary.URL).Success(), "the canary can be reached")
	require.Equal(t, 1, canary.Accepted())
}

func TestProxiesOfTheEnvironmentAreNotUsed(t *testing.T) {
	proxy := listen(t, "127.0.0.1:0", serve(okResponse))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+proxy.Listener.Addr().String())
	}
	t.Setenv("NO_PROXY", "")
	direct := listen(t, "127.0.0.1:0", serve(okResponse))
	require.True(t, post(t, newClient(t, Options{}), direct.URL).Success())
	// Loopback is exempt from proxies in net/http itself; a public name is not.
	r := post(t, newClient(t, Options{Timeout: 2 * time.Second, Resolver: startDNS(t, map[string]dnsAnswer{"iana.org": {a: [][]string{{"127.0.0.1"}}}}).Resolver()}), "http://example.com/")
	require.Equal(t, "dns: no such host", r.Error)
	require.Zero(t, proxy.Accepted())
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now().Add(-40 * 24 * time.Hour) // by Postgres's clock: this machine's is wrong
	c := newClient(t, Options{Now: func() time.Time { return now }})
	ask := func(status int, value string) time.Duration {
		r := listen(t, "127.0.0.1:0", answer(fmt.Sprintf("HTTP/1.1 %d X\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", status, value)))
		return post(t, c, r.URL).RetryAfter
	}
	require.Equal(t, 2*time.Minute, ask(429, "120"))
	require.Equal(t, 2*time.Minute, ask(503, "120"))
	for _, status := range []int{200, 301, 400, 408, 500, 502, 504} {
		require.Zero(t, ask(status, "120"), status)
	}
	date := ask(503, now.Add(time.Hour).UTC().Format(http.TimeFormat))
	require.InDelta(t, time.Hour, date, float64(5*time.Second))
	require.Equal(t, 2*time.Minute, ask(429, "60\r\nRetry-After: 119.5\r\nRetry-After: soon"), "the longest of several lines")
}

func TestDefaultPortsAreNotSent(t *testing.T) {
	t.Parallel()
	for rawURL, host := range map[string]string{
		"http://127.0.0.77:80/": "127.0.0.77", "https://example.com:443/x": "example.com", "https://[::1]:443": "[::1]", "http://[2606::80]/": "[2606::80]",
		"https://example.com:80/": "example.com:80", "http://example.com:443/": "example.com:443", "https://example.com:8443/": "example.com:8443", "http://example.com:8080/": "example.com:8080",
	} {
		u, ok := parseURL(rawURL)
		require.True(t, ok)
		require.Equal(t, host, newRequest(t.Context(), u, nil, nil).Host, rawURL)
	}
}

func TestCallersEndIsNoDelivery(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	silent := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 10*time.Second) })
	drip := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
		write(conn, "x", 200, 20*time.Millisecond)
	})
	dripError := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\n")
		write(conn, "x", 200, 20*time.Millisecond)
	})
	for name, url := range map[string]string{"before the response": silent.URL, "in its body": drip.URL, "in an error's body": dripError.URL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(100*time.Millisecond, cancel)
			r, err := c.Post(ctx, url, nil, []byte("{}"))
			require.ErrorIs(t, err, context.Canceled)
			require.Equal(t, Response{}, r)
			require.Less(t, time.Since(started), slack)

			ctx, cancel = context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err = c.Post(ctx, url, nil, []byte("{}"))
			require.ErrorIs(t, err, context.DeadlineExceeded)

			stopping := errors.New("worker is stopping")
			because, stop := context.WithCancelCause(context.Background())
			stop(stopping)
			_, err = c.Post(because, url, nil, []byte("{}"))
			require.ErrorIs(t, err, stopping)
		})
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{})
	for _, url := range []string{"", "%", "https:", "https:example.com", "/x", "https:///x", "http://[::1"} {
		require.Equal(t, "invalid url", post(t, c, url).Error, url)
	}
	for _, url := range []string{"ftp://127.0.0.1/", "file://host/etc/passwd", "gopher://127.0.0.1/"} {
		require.Equal(t, "blocked: https only", post(t, c, url).Error, url)
	}
	strict := New(Options{Allow: loopback})
	canary := listen(t, "127.0.0.1:0", serve(okResponse))
	require.Equal(t, "blocked: https only", post(t, strict, canary.URL).Error)
	require.Zero(t, canary.Accepted())
}

func TestUserInfoIsNotSent(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }))
	t.Cleanup(server.Close)
	require.True(t, post(t, newClient(t, Options{}), strings.Replace(server.URL, "://", "://user:pass@", 1)).Success())
	require.NotContains(t, <-headers, "Authorization")
}

// What goes wrong is told without any of what is in the URL or the body.
func TestErrorsHoldNoSecrets(t *testing.T) {
	t.Parallel()
	const canary = "s3cr3t-canary"
	refused := listen(t, "127.0.0.1:0", nil)
	_ = refused.Close()
	c := newClient(t, Options{Timeout: 2 * time.Second, Resolver: startDNS(t, map[string]dnsAnswer{"iana.org": {a: [][]string{{"127.0.0.1"}}}}).Resolver()})
	silent := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 10*time.Second) })
	garbage := listen(t, "127.0.0.1:0", answer("HTTP/1.1 OK "+canary+"\r\n\r\n"))
	for _, url := range []string{refused.URL, silent.URL, garbage.URL, "https://" + canary + ".example.com", "ftp://x", "https://10.0.0.1", "%"} {
		url += "?token=" + canary
		r, err := c.Post(context.Background(), url, http.Header{"X-Secret": {canary}}, []byte(canary))
		require.NoError(t, err)
		require.NotEmpty(t, r.Error)
		require.NotContains(t, fmt.Sprint(r), canary)
		require.Less(t, len(r.Error), 40)

		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err = c.Post(ctx, url, http.Header{"X-Secret": {canary}}, []byte(canary))
		if err != nil {
			require.NotContains(t, err.Error(), canary)
		}
	}
}

func TestLargeBodyArrivesWhole(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies <- b
	}))
	t.Cleanup(server.Close)
	body := bytes.Repeat([]byte("0123456789abcdef"), webhook.MaxEventBytes/16)
	r, err := newClient(t, Options{}).Post(context.Background(), server.URL, nil, body)
	require.NoError(t, err)
	require.True(t, r.Success())
	require.True(t, bytes.Equal(body, <-bodies))
}
