//go:build unix

package egress

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/mathub/webhooks/internal/testutil"
)

// unreachable is the broadcast address of loopback, to which TCP has no route.
const unreachable = "127.255.255.255"

var (
	servfail = dnsAnswer{code: dnsmessage.RCodeServerFailure}
	silent   = dnsAnswer{silent: true}
	here     = dnsAnswer{a: [][]string{{"127.0.0.1"}}}
)

// requireOurs posts, and requires that our own side is to blame.
func requireOurs(t testing.TB, c *Client, url string) {
	t.Helper()
	r, err := tryPost(c, url)
	require.ErrorIs(t, err, ErrNoOutboundAccess, "%+v", r)
	require.Equal(t, Response{}, r)
	require.NotContains(t, err.Error(), "example")
	require.NotContains(t, err.Error(), "127.")
}

// listenNarrowly listens with room for hardly any connection that is not accepted.
func listenNarrowly(t testing.TB) (socket int, address string) {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(socket) })
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(socket, 0))
	name, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	return socket, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// fillBacklog makes connections until one times out, as do all after it.
func fillBacklog(t testing.TB, address string) {
	t.Helper()
	for range 8 {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	require.Fail(t, "the backlog takes everything")
}

// fullBacklog listens and accepts nothing, so that further connections time out.
func fullBacklog(t testing.TB) (url string) {
	t.Helper()
	_, address := listenNarrowly(t)
	fillBacklog(t, address)
	return "http://" + address + "/"
}

// Five healthy receivers were disabled within 11 s when the worker's own resolver died.
func TestDeadResolverIsOurFailing(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(*dnsServer){
		"gone":           func(s *dnsServer) { _ = s.conn.Close() },
		"silent":         func(s *dnsServer) { s.Fail(silent) },
		"server failure": func(s *dnsServer) { s.Fail(servfail) },
		"refuses":        func(s *dnsServer) { s.Fail(dnsAnswer{code: dnsmessage.RCodeRefused}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := listen(t, "127.0.0.1:0", answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
			names := map[string]dnsAnswer{}
			var urls []string
			for i := range 5 {
				names[fmt.Sprintf("r%d.example.com", i)] = here
				urls = append(urls, fmt.Sprintf("http://r%d.example.com:%d/", i, r.Port))
			}
			dns := startDNS(t, names)
			o := Options{Resolver: dns.Resolver(), Timeout: 2 * time.Second}
			c := newClient(t, o)
			for _, url := range urls {
				require.True(t, post(t, c, url).Success())
			}
			die(dns)
			requireOurs(t, c, urls[0])
			requireOurs(t, c, urls[4])
			requireOurs(t, newClient(t, o), urls[0]) // after a restart too
		})
	}
}

// A forwarder that has lost the internet answers from its cache: that other names resolve is no evidence then.
func TestDeadResolverWithACacheIsOurFailing(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns := startDNS(t, nil)
	dns.FailBut(map[string]dnsAnswer{"cached.example.com": here}, servfail)
	c := newClient(t, Options{Resolver: dns.Resolver()})
	require.True(t, post(t, c, fmt.Sprintf("http://cached.example.com:%d/", r.Port)).Success())
	requireOurs(t, c, "http://healthy.example.com/")
}

// A resolver that has just gone, or come back, may answer so late that it leaves the receiver hardly any time.
func TestALateLookupIsNotTheReceiversTime(t *testing.T) {
	t.Parallel()
	const late = maxLost + 100*time.Millisecond
	well := listen(t, "127.0.0.1:0", serve(okResponse))
	slow := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, time.Minute) })
	for name, at := range map[string]string{"timeout": slow.URL, "connect timeout": fullBacklog(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, port, ok := strings.Cut(at, "127.0.0.1:")
			require.True(t, ok)
			url := "http://late.example.com:" + port
			names := map[string]dnsAnswer{"late.example.com": {a: here.a, delay: late}}
			dns := startDNS(t, names)
			c := newClient(t, Options{Resolver: dns.Resolver(), Timeout: late + 2*time.Second})
			require.True(t, post(t, c, well.URL).Success())
			require.Equal(t, name, post(t, c, url).Error, "the resolver works: it is the receiver's zone that is slow")
			dns.FailBut(names, servfail)
			requireOurs(t, c, url)
		})
	}
}

func TestBrokenZoneIsTheReceiversFailing(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	for name, broken := range map[string]dnsAnswer{"dns: server failure": servfail, "dns: timeout": silent} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns := startDNS(t, map[string]dnsAnswer{"broken.example.net": broken, "good.example.com": here})
			o := Options{Resolver: dns.Resolver(), Timeout: 2 * time.Second}
			require.Equal(t, name, post(t, newClient(t, o), "http://broken.example.net/").Error, "the check hosts' names are answered")

			o.CheckHosts = []string{}
			alone := newClient(t, o)
			requireOurs(t, alone, "http://broken.example.net/")
			require.True(t, post(t, alone, fmt.Sprintf("http://good.example.com:%d/", r.Port)).Success())
			require.Equal(t, name, post(t, alone, "http://broken.example.net/").Error, "a name below another receiver's is answered")
		})
	}
}

func TestUnreachableNetwork(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	url := "http://" + unreachable + ":8080/"
	c := newClient(t, Options{CheckHosts: []string{unreachable}})
	requireOurs(t, c, url)
	require.True(t, post(t, c, r.URL).Success())
	require.Equal(t, "network unreachable", post(t, c, url).Error, "another host accepts a connection")

	// Who answered before the outage, be it a moment before, is no evidence in it.
	down := newClient(t, Options{CheckHosts: []string{unreachable}, Timeout: 2 * time.Second})
	down.outbound.update(part{"loopback", "tcp4"}, func(f *finding) {
		f.remember(unreachable + ":80")
		f.works()
	})
	requireOurs(t, down, url)
	down.outbound.update(part{"loopback", "tcp4"}, func(f *finding) {
		f.remember(r.Listener.Addr().String())
	})
	requireOurs(t, down, url) // it began before the end of the outage was noticed
	require.Eventually(t, func() bool {
		r, err := down.Post(t.Context(), url, nil, nil)
		return err == nil && r.Error == "network unreachable"
	}, time.Minute, 10*time.Millisecond, "another host accepts a connection")
}

func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	url := fullBacklog(t)
	c := newClient(t, Options{CheckHosts: []string{unreachable}, Timeout: 2 * time.Second})
	requireOurs(t, c, url)
	require.True(t, post(t, c, r.URL).Success())
	got := post(t, c, url)
	require.Equal(t, "connect timeout", got.Error)
	require.Equal(t, "connect_timeout", got.Class())
	require.GreaterOrEqual(t, got.Duration, 2*time.Second-time.Millisecond)
	require.Less(t, got.Duration, 2*time.Second+slack)
}

// What needs no DNS and no network counts, also where there is none: on a machine by itself, or in an outage.
func TestWhatAReceiverDoesCountsWithoutOutboundAccess(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, nil)
	for want, url := range map[string]string{
		"connection refused":                  "http://" + testutil.ClosedPort(t),
		"connection reset":                    listen(t, "127.0.0.1:0", func(conn net.Conn) { reset(conn) }).URL,
		"timeout":                             listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, time.Minute) }).URL,
		"HTTP 503":                            listen(t, "127.0.0.1:0", answer("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")).URL,
		"tls: the receiver speaks plain HTTP": strings.Replace(listen(t, "127.0.0.1:0", func(conn net.Conn) { write(conn, okResponse, 1, 0); waitForClose(conn, time.Minute) }).URL, "http:", "https:", 1),
		"dns: no such host":                   "https://nobody.example.com/",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, Options{Resolver: dns.Resolver(), CheckHosts: []string{}, Timeout: 2 * time.Second})
			require.Equal(t, want, post(t, c, url).Error)
		})
	}
}

func TestNobodyToAskIsOurFailingForAWhileOnly(t *testing.T) {
	t.Parallel()
	c := newClient(t, Options{CheckHosts: []string{}})
	url := "http://" + unreachable + ":8080/"
	requireOurs(t, c, url)
	c.outbound.began = time.Now().Add(-accessGrace)
	require.Equal(t, "network unreachable", post(t, c, url).Error)

	c = newClient(t, Options{CheckHosts: []string{unreachable}})
	c.outbound.began = time.Now().Add(-accessGrace)
	requireOurs(t, c, url) // there is one to ask, who does not answer
}

// A machine without IPv6 must not try IPv6-only receivers for ever; one that has lost it must not blame them.
func TestWhoSpeaksForAnAddress(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		to       string
		answered []string
		want     part
	}{
		"nobody":                    {"8.8.8.8:443", nil, part{"public", "tcp"}},
		"the same family":           {"8.8.8.8:443", []string{"1.1.1.1:443"}, part{"public", "tcp4"}},
		"no IPv6 here":              {"[2606:4700::1111]:443", []string{"1.1.1.1:443"}, part{"public", "tcp4"}},
		"IPv6 has worked":           {"[2606:4700::1111]:443", []string{"1.1.1.1:443", "[2620:fe::fe]:443"}, part{"public", "tcp6"}},
		"no IPv4 here":              {"8.8.8.8:443", []string{"[2620:fe::fe]:443"}, part{"public", "tcp6"}},
		"mapped":                    {"[::ffff:8.8.8.8]:443", []string{"1.1.1.1:443"}, part{"public", "tcp4"}},
		"loopback is no internet":   {"8.8.8.8:443", []string{"127.0.0.1:80", "10.0.0.1:80"}, part{"public", "tcp"}},
		"the internet is not ours":  {"10.0.0.9:443", []string{"1.1.1.1:443", "127.0.0.1:80"}, part{"private", "tcp"}},
		"another of ours":           {"10.0.0.9:443", []string{"192.168.1.1:443"}, part{"private", "tcp4"}},
		"it is not known what to":   {"", []string{"1.1.1.1:443"}, part{"public", "tcp4"}},
		"nor is anybody known then": {"", nil, part{"public", "tcp"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := New(Options{}).outbound
			for _, who := range c.answered {
				o.answered(at(who))
			}
			var to netip.AddrPort
			if c.to != "" {
				to = at(c.to)
			}
			require.Equal(t, c.want, o.towards(to))
		})
	}
}

// Go's resolver says "no such host" of a name that is too long without asking, which would be taken for an answer.
func TestLongNamesAreNoWitnesses(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	long := strings.Repeat(strings.Repeat("a", 57)+".", 4) + "example.com"
	require.Greater(t, len("mathub-01234567.")+len(long), 253)
	dns := startDNS(t, map[string]dnsAnswer{long: here})
	c := newClient(t, Options{Resolver: dns.Resolver(), CheckHosts: []string{}})
	require.True(t, post(t, c, fmt.Sprintf("http://%s:%d/", long, r.Port)).Success())
	dns.Fail(servfail)
	requireOurs(t, c, "http://healthy.example.com/")
}

func TestManyFailuresAreOneCheck(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, nil)
	dns.Fail(servfail)
	c := newClient(t, Options{Resolver: dns.Resolver()})
	began := time.Now()
	var posts sync.WaitGroup
	var ours atomic.Int32
	for i := range 50 {
		posts.Go(func() {
			if _, err := c.Post(t.Context(), fmt.Sprintf("http://r%d.example.org/", i), nil, nil); err != nil {
				ours.Add(1)
			}
		})
	}
	posts.Wait()
	require.Equal(t, int32(50), ours.Load())
	checks := map[string]bool{}
	for _, name := range dns.Asked() {
		if strings.HasPrefix(name, "mathub-") {
			checks[name] = true
		}
	}
	require.NotEmpty(t, checks)
	require.LessOrEqual(t, len(checks), len(DefaultCheckHosts)*(1+int(time.Since(began)/accessRest)))
}

func TestACheckIsNoPartOfTheExchange(t *testing.T) {
	t.Parallel()
	broken := map[string]dnsAnswer{"broken.example.net": servfail}
	dns := startDNS(t, nil)
	dns.FailBut(broken, dnsAnswer{code: dnsmessage.RCodeNameError, delay: time.Second})
	c := newClient(t, Options{Resolver: dns.Resolver()})
	r := post(t, c, "http://broken.example.net/")
	require.Equal(t, "dns: server failure", r.Error)
	require.Less(t, r.Duration, time.Second)

	dns.FailBut(broken, silent)
	require.Eventually(t, func() bool { _, at, _ := c.outbound.known(dnsPart).state(); return time.Since(at) > accessRest }, time.Minute, 10*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.Post(ctx, "http://broken.example.net/", nil, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, time.Since(began), accessTimeout)
}

// Files on a disk that hangs hold up no connection: the certificate of before is given.
func TestClientCertificateOnADiskThatHangs(t *testing.T) {
	t.Parallel()
	files, clock := newClientFiles(t), testutil.NewClock()
	files.write(t, newAuthority(t), "first", nil)
	own := files.load(t, clock, &testutil.Buffer{})
	require.NoError(t, os.Remove(files.certificate))
	require.NoError(t, syscall.Mkfifo(files.certificate, 0o600)) // reading it waits for a writer
	clock.Advance(certificateFresh)
	given := make(chan string)
	for range 3 {
		go func() { given <- own.Subject() }()
	}
	for range 3 {
		select {
		case subject := <-given:
			require.Equal(t, "CN=first", subject)
		case <-time.After(time.Minute): // it would for ever
			require.Fail(t, "it waits for the disk")
		}
	}
	writer, err := os.OpenFile(files.certificate, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.Eventually(t, func() bool {
		own.mu.Lock()
		defer own.mu.Unlock()
		return own.looking == nil
	}, time.Minute, time.Millisecond)
}

func accessGauge(t testing.TB, reader *sdkmetric.ManualReader) int64 {
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	for _, m := range all.ScopeMetrics[0].Metrics {
		if m.Name == "mathub_outbound_access" {
			return m.Data.(metricdata.Gauge[int64]).DataPoints[0].Value
		}
	}
	require.Fail(t, "there is no such gauge")
	return 0
}

func TestOutboundAccess(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, nil)
	dns.FailBut(map[string]dnsAnswer{"check.example.com": here}, servfail)
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	c := newClient(t, Options{Resolver: dns.Resolver(), CheckHosts: []string{"check.example.com"}, Meter: meter})
	a := c.OutboundAccess(t.Context())
	require.Equal(t, Access{DNS: AccessFailed, Network: AccessOK, Cause: "dns: server failure", CheckedAt: a.CheckedAt}, a, "nobody listens on port 443, which is an answer")
	require.WithinDuration(t, time.Now(), a.CheckedAt, slack)
	require.Zero(t, accessGauge(t, reader))

	dns.FailBut(map[string]dnsAnswer{"check.example.com": here}, dnsAnswer{code: dnsmessage.RCodeNameError})
	require.Eventually(t, func() bool { return accessGauge(t, reader) == 1 }, time.Minute, 10*time.Millisecond, "it is looked at again")
	a = c.OutboundAccess(t.Context())
	require.Equal(t, Access{DNS: AccessOK, Network: AccessOK, CheckedAt: a.CheckedAt}, a)
	asked := len(dns.Asked())
	c.OutboundAccess(t.Context())
	require.Len(t, dns.Asked(), asked, "what works is left alone")

	reader = sdkmetric.NewManualReader()
	meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	nobody := newClient(t, Options{Resolver: dns.Resolver(), CheckHosts: []string{}, Meter: meter})
	require.Equal(t, Access{DNS: AccessUnknown, Network: AccessUnknown}, nobody.OutboundAccess(t.Context()))
	require.Equal(t, int64(1), accessGauge(t, reader))
}
