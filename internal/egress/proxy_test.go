package egress

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseProxy(t *testing.T) {
	for _, good := range []string{"http://proxy:3128", "http://" + secretive + "@proxy.example:3128/", "https://[fd00::1]:443", "socks5://127.0.0.1:1080", "socks5://u:p@127.0.0.1:1080"} {
		p, err := ParseProxy(good)
		require.NoError(t, err, good)
		require.NotContains(t, p.String(), "@")
		require.Equal(t, strings.Contains(good, "@"), p.HasUser())
	}
	for _, bad := range []string{
		"proxy:3128", "w0rd", "user:w0rd@proxy:3128", "http://", "http://proxy", "http://proxy:0", "http://proxy:70000", "http://u:w0rd@proxy:x", "ftp://u:w0rd@proxy:1",
		"socks5h://u:w0rd@proxy:1080", "socks4://proxy:1080", "http://u:w0rd@proxy:1/x", "http://proxy:1?w0rd", "http://proxy:1#w0rd", "http://a%3Ab:w0rd@proxy:1",
		"socks5://w0rd@proxy:1080", "socks5://:w0rd@proxy:1080", "socks5://u:" + strings.Repeat("w0rd", 64) + "@proxy:1080", "http://u:w0rd%zz@proxy:1",
	} {
		_, err := ParseProxy(bad)
		require.ErrorContains(t, err, "must ", bad)
		require.NotContains(t, err.Error(), "w0rd", bad)
	}
}

// Names are resolved and judged here, and the proxy is asked for the address; what is sent through it is what is sent directly.
func TestThroughAProxy(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	for _, scheme := range []string{"http", "https", "socks5"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			dns := startDNS(t, map[string]dnsAnswer{"hooks.example.com": here, "other.example.com": here})
			proxy := startTestProxy(t, scheme, trusted)
			c := newClient(t, proxy.Options(t, Options{RootCAs: trusted.pool(), Resolver: dns.Resolver()}))
			names := make(chan string, 2)
			secure := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}, func(conn *tls.Conn) {
				names <- conn.ConnectionState().ServerName
				answerTLS(conn)
			})
			plain := listen(t, "127.0.0.1:0", serve(okResponse))

			got := post(t, c, fmt.Sprintf("https://hooks.example.com:%d/", secure.Port))
			require.True(t, got.Success(), got.Error)
			require.Equal(t, "hooks.example.com", <-names, "the receiver's own certificate is asked for")
			require.Positive(t, got.Timings.DNS)
			require.Positive(t, got.Timings.Connect)
			require.Positive(t, got.Timings.TLS)
			require.Equal(t, "tls: wrong host", post(t, c, fmt.Sprintf("https://other.example.com:%d/", secure.Port)).Error)
			for range 2 {
				got = post(t, c, fmt.Sprintf("http://hooks.example.com:%d/", plain.Port))
				require.True(t, got.Success(), got.Error)
			}
			require.Equal(t, 1, plain.Used(), "a tunnel is kept as a connection is")

			of := func(r *receiver) string { return fmt.Sprintf("127.0.0.1:%d", r.Port) }
			require.Equal(t, []string{of(secure), of(secure), of(plain)}, proxy.Asked(), "and nothing else went anywhere")
			login := map[string]string{"socks5": "us@er:p:ss/w0rd"}[scheme]
			if login == "" {
				login = "Basic dXNAZXI6cDpzcy93MHJk"
			}
			require.Equal(t, []string{login, login, login}, proxy.logins)
		})
	}
}

func TestHTTP2ThroughAProxy(t *testing.T) {
	t.Parallel()
	proxy := startTestProxy(t, "http", nil)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Protocol", r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := newClient(t, proxy.Options(t, Options{RootCAs: roots}))
	got := post(t, c, server.URL)
	require.True(t, got.Success(), got.Error)
	require.Equal(t, "HTTP/2.0", got.Header.Get("X-Protocol"))
}

// The proxy is never asked for an address that would not be connected to without it.
func TestTheGuardStandsBeforeTheProxy(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.2:0", serve(okResponse))
	proxy := startTestProxy(t, "http", nil)
	dns := startDNS(t, map[string]dnsAnswer{
		"inward.example.com": {a: [][]string{{"127.0.0.1"}}}, "metadata.example.com": {a: [][]string{{"169.254.169.254"}}},
		"mixed.example.com": {a: [][]string{{"10.0.0.1", "127.0.0.2"}}, aaaa: [][]string{{"::1"}}},
	})
	c := newClient(t, proxy.Options(t, Options{CheckHosts: []string{}, Resolver: dns.Resolver(), Allow: mustPrefixes("127.0.0.2/32"), Deny: destinations(t, "127.0.0.2:8098")}))
	for _, url := range []string{"http://inward.example.com/", "http://metadata.example.com/", "http://10.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://127.0.0.2:8098/", "http://[fe80::1]/"} {
		require.Equal(t, "blocked: address not allowed", post(t, c, url).Error, url)
	}
	require.Empty(t, proxy.Asked())
	require.True(t, post(t, c, fmt.Sprintf("http://mixed.example.com:%d/", r.Port)).Success())
	require.Equal(t, []string{fmt.Sprintf("127.0.0.2:%d", r.Port)}, proxy.Asked())
}

// No fault of the proxy is ever blamed on a receiver.
func TestFaultsOfTheProxyAreOurs(t *testing.T) {
	t.Parallel()
	greeted := "\x05\x02\x01\x00"
	for name, c := range map[string]struct {
		scheme string
		handle func(net.Conn)
		cause  string
	}{
		"closed":                        {"http", func(conn net.Conn) { _ = conn.Close() }, "connection closed|connection reset"},
		"reset":                         {"http", reset, "connection reset"},
		"silent":                        {"http", func(conn net.Conn) { waitForClose(conn, 10*time.Second) }, "connect timeout"},
		"no HTTP":                       {"http", say("SSH-2.0-OpenSSH_9.9\r\n"), "invalid response"},
		"no status":                     {"http", say("HTTP/1.1 2OO OK\r\n\r\n"), "invalid response"},
		"a status of four digits":       {"http", say("HTTP/1.1 2000 OK\r\n\r\n"), "invalid response"},
		"a drip":                        {"http", drip("HTTP/1.1 200 OK\r\n", strings.Repeat("x", 1000)), "connect timeout"},
		"an endless line":               {"http", flood("HTTP/1.1 200 OK", strings.Repeat("x", 4096)), "invalid response|connection reset"},
		"endless headers":               {"http", flood("HTTP/1.1 200 OK\r\n", "X: y\r\n"), "invalid response|connection reset"},
		"endless hints":                 {"http", flood("", "HTTP/1.1 103 Early Hints\r\n\r\n"), "invalid response|connection reset"},
		"a head without an end":         {"http", func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: y\r\n"); _ = conn.Close() }, "connection closed|connection reset"},
		"authentication required":       {"http", say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "HTTP 407"},
		"forbidden":                     {"http", say("HTTP/1.1 403 Filtered\r\n\r\n"), "refused by the egress proxy"},
		"a redirect":                    {"http", say("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"), "HTTP 302"},
		"too many requests":             {"http", say("HTTP/1.1 429 Too Many Requests\r\n\r\n"), "HTTP 429"},
		"cannot connect to anybody":     {"http", say("HTTP/1.1 503 Service Unavailable\r\n\r\n"), "host unreachable"},
		"a bad gateway for everybody":   {"http", say("HTTP/1.1 502 Bad Gateway\r\n\r\n"), "host unreachable"},
		"plain where TLS is asked for":  {"https", say("HTTP/1.1 400 Bad Request\r\n\r\n"), "tls: it speaks plain HTTP"},
		"TLS that hangs":                {"https", func(conn net.Conn) { waitForClose(conn, 10*time.Second) }, "timeout"},
		"no SOCKS":                      {"socks5", say("HTTP/1.1 400 Bad Request\r\n\r\n"), "invalid response"},
		"SOCKS4":                        {"socks5", say("\x00\x5b\x00\x00\x00\x00\x00\x00"), "invalid response"},
		"no method in common":           {"socks5", say("\x05\xff"), "it does not take a user and password"},
		"SOCKS without a password":      {"socks5", say("\x05\x00"), "it does not take a user and password"},
		"a wrong password":              {"socks5", say("\x05\x02\x01\x01"), "it refuses the user or password"},
		"SOCKS that hangs":              {"socks5", func(conn net.Conn) { waitForClose(conn, 10*time.Second) }, "timeout"},
		"SOCKS that hangs later":        {"socks5", say(greeted), "connect timeout"},
		"a general failure":             {"socks5", say(greeted + "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"), "host unreachable"},
		"a rule of its own":             {"socks5", say(greeted + "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"), "refused by the egress proxy"},
		"IPv4 that it does not know":    {"socks5", say(greeted + "\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"), "SOCKS reply 8"},
		"a reply that has no meaning":   {"socks5", say(greeted + "\x05\xfe\x00\x01\x00\x00\x00\x00\x00\x00"), "SOCKS reply 254"},
		"an address of an unknown kind": {"socks5", say(greeted + "\x05\x00\x00\x07"), "invalid response"},
		"unreachable for everybody":     {"socks5", say(greeted + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00"), "network unreachable"},
		"hosts are unreachable":         {"socks5", say(greeted + "\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00"), "host unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := &testProxy{scheme: c.scheme, receiver: listen(t, "127.0.0.1:0", func(conn net.Conn) {
				c.handle(conn)
				waitForClose(conn, 10*time.Second)
			})}
			client := newClient(t, proxy.Options(t, Options{CheckHosts: []string{"127.0.0.1"}, Timeout: 2 * time.Second}))
			requireProxysFault(t, client, "http://127.0.0.1:8099/", strings.Split(c.cause, "|")...)
		})
	}
	for name, address := range map[string]string{"refused": "127.0.0.1:1", "without a name": "proxy.example.com:3128", "unreachable": unreachable + ":3128"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy, err := ParseProxy("http://" + secretive + "@" + address)
			require.NoError(t, err)
			requireProxysFault(t, newClient(t, Options{Proxy: proxy, Resolver: startDNS(t, nil).Resolver(), CheckHosts: []string{"127.0.0.1"}}), "http://127.0.0.1:8099/", "connection refused", "dns: no such host", "network unreachable")
		})
	}
}

// requireProxysFault posts, and requires that our own side is to blame, with one of the causes.
func requireProxysFault(t *testing.T, c *Client, url string, causes ...string) {
	t.Helper()
	r, err := c.Post(t.Context(), url, nil, []byte("{}"))
	require.ErrorIs(t, err, ErrNoOutboundAccess, "%+v", r)
	require.Equal(t, Response{}, r)
	require.True(t, slices.ContainsFunc(causes, func(cause string) bool { return strings.HasSuffix(err.Error(), ": "+cause) }), "%v is none of %v", err, causes)
	for _, hidden := range []string{"w0rd", "us@er", "127.", "example"} {
		require.NotContains(t, err.Error(), hidden)
	}
}

// What a proxy says of a receiver is the receiver's failing where the proxy reaches others, and still not the receiver.
func TestWhatAProxySaysOfAReceiver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scheme string
		says   int
		want   string
	}{
		{"http", 403, "refused by the egress proxy"},
		{"http", 500, "host unreachable"},
		{"http", 502, "host unreachable"},
		{"http", 503, "host unreachable"},
		{"http", 504, "host unreachable"},
		{"socks5", 1, "host unreachable"},
		{"socks5", 2, "refused by the egress proxy"},
		{"socks5", 3, "network unreachable"},
		{"socks5", 4, "host unreachable"},
		{"socks5", 5, "connection refused"},
		{"socks5", 6, "connect timeout"},
	} {
		t.Run(fmt.Sprintf("%s %d", c.scheme, c.says), func(t *testing.T) {
			t.Parallel()
			proxy := startTestProxy(t, c.scheme, nil)
			client := newClient(t, proxy.Options(t, Options{CheckHosts: []string{}}))
			healthy := listen(t, "127.0.0.1:0", serve(okResponse))
			require.True(t, post(t, client, healthy.URL).Success())
			const gone = "127.0.0.1:8099"
			proxy.Say(func(to string) int {
				if to == gone {
					return c.says
				}
				return 0
			})
			got := post(t, client, "http://"+gone+"/")
			require.Equal(t, c.want, got.Error)
			require.Contains(t, Classes, got.Class())

			proxy.Say(func(string) int { return c.says })
			if c.says == 5 {
				require.Equal(t, c.want, post(t, client, "http://"+gone+"/").Error, "who is refused was there")
				return
			}
			requireOurs(t, client, "http://"+gone+"/")
		})
	}
}

// A proxy that was in trouble for a moment says the same of a receiver as one that cannot reach it.
func TestAMomentsTroubleOfTheProxyIsOurs(t *testing.T) {
	t.Parallel()
	proxy := startTestProxy(t, "http", nil)
	client := newClient(t, proxy.Options(t, Options{CheckHosts: []string{}}))
	healthy, other := listen(t, "127.0.0.1:0", serve(okResponse)), listen(t, "127.0.0.1:0", serve(okResponse))
	require.True(t, post(t, client, healthy.URL).Success())
	var refused atomic.Bool
	proxy.Say(func(to string) int {
		if to == other.Addr().String() && refused.CompareAndSwap(false, true) {
			return 503
		}
		return 0
	})
	requireOurs(t, client, other.URL)
	require.True(t, post(t, client, other.URL).Success())
}

// Which address it was is remembered: the last one says nothing of it.
func TestAMomentsTroubleAtOneOfSeveralAddresses(t *testing.T) {
	t.Parallel()
	proxy := startTestProxy(t, "http", nil)
	dns := startDNS(t, map[string]dnsAnswer{"both.example.com": {a: [][]string{{"127.0.0.1"}}, aaaa: [][]string{{"::1"}}}})
	client := newClient(t, proxy.Options(t, Options{CheckHosts: []string{}, Resolver: dns.Resolver()}))
	healthy, other := listen(t, "127.0.0.1:0", serve(okResponse)), listen(t, "127.0.0.1:0", serve(okResponse))
	require.True(t, post(t, client, healthy.URL).Success())
	var refused atomic.Bool
	proxy.Say(func(to string) int {
		if strings.HasPrefix(to, "[") || to == other.Addr().String() && refused.CompareAndSwap(false, true) {
			return 503
		}
		return 0
	})
	url := fmt.Sprintf("http://both.example.com:%d/", other.Port)
	requireOurs(t, client, url)
	require.True(t, post(t, client, url).Success())
}

// A connection that ends before the answer is whole is the receiver's failing, unless the proxy has ended it.
func TestATunnelThatBreaks(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{"before the answer": "", "in its headers": "HTTP/1.1 200 OK\r\nX: ", "in its body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := startTestProxy(t, "socks5", nil)
			client := newClient(t, proxy.Options(t, Options{CheckHosts: []string{}}))
			var proxyDies atomic.Bool
			r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
				if _, _, ok := readRequest(bufio.NewReader(conn)); ok {
					_, _ = io.WriteString(conn, answer)
				}
				if proxyDies.Load() {
					_ = proxy.Close()
				}
			})
			require.Contains(t, []string{"connection closed", "connection reset"}, post(t, client, r.URL).Error)
			proxyDies.Store(true)
			requireOurs(t, client, r.URL)
		})
	}
}

func TestAnotherAddressThroughTheProxy(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.3:0", serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{"several.example.com": {a: [][]string{{"127.0.0.2", "127.0.0.3"}}, aaaa: [][]string{{"::1"}}}})
	proxy := startTestProxy(t, "http", nil)
	proxy.Say(func(to string) int {
		if strings.HasPrefix(to, "127.0.0.3:") {
			return 0
		}
		return 503
	})
	got := post(t, newClient(t, proxy.Options(t, Options{Resolver: dns.Resolver()})), fmt.Sprintf("http://several.example.com:%d/", r.Port))
	require.True(t, got.Success(), got.Error)
	require.NotContains(t, strings.Join(proxy.Asked(), " "), "[::1]", "IPv4 first")
}

// The check of outbound access goes through the proxy, and notices its end and its return.
func TestOutboundAccessThroughAProxy(t *testing.T) {
	t.Parallel()
	const host = "127.0.0.1:443"
	proxy := startTestProxy(t, "http", nil)
	var answers atomic.Bool
	answers.Store(true)
	echo := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 10*time.Second) })
	handled := &testProxy{scheme: "http", receiver: listen(t, "127.0.0.1:0", func(conn net.Conn) {
		request, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		proxy.answerTo(request.RequestURI, "")
		if answers.Load() {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			waitForClose(conn, 10*time.Second)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
	})}
	dns := startDNS(t, nil)
	c := newClient(t, handled.Options(t, Options{CheckHosts: []string{"127.0.0.1"}, Resolver: dns.Resolver()}))
	require.Equal(t, AccessOK, c.OutboundAccess(t.Context()).Network)
	require.Equal(t, []string{host}, proxy.Asked())

	answers.Store(false)
	require.Eventually(t, func() bool {
		requireProxysFault(t, c, echo.URL, "HTTP 407")
		return c.OutboundAccess(t.Context()).Network == AccessFailed
	}, time.Minute, 10*time.Millisecond, "a fault of the proxy has what worked looked at again")
	require.Contains(t, c.OutboundAccess(t.Context()).Cause, "proxy: HTTP 407")
	answers.Store(true)
	require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).Network == AccessOK }, time.Minute, 10*time.Millisecond)
}
