//go:build unix

package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// A connection that was there when the network went dies without a word. So does one to a receiver that hangs, which takes
// another, though.
func TestAConnectionThatDies(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]bool{"the receiver hangs": false, "the network is gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, address := listenNarrowly(t)
			if !gone {
				require.NoError(t, syscall.Listen(socket, 16))
			}
			answerOnce(t, socket, okResponse)
			c := newClient(t, Options{CheckHosts: []string{unreachable}, Timeout: 2 * time.Second})
			require.True(t, post(t, c, "http://"+address+"/").Success())
			if gone {
				fillBacklog(t, address)
				requireOurs(t, c, "http://"+address+"/")
				return
			}
			require.Equal(t, "timeout", post(t, c, "http://"+address+"/").Error)
		})
	}
}

// answerOnce accepts a connection, answers the first request on it, and then keeps it without a word.
func answerOnce(t *testing.T, socket int, text string) {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	go func() {
		fd, _, err := syscall.Accept(socket)
		if err != nil {
			return
		}
		file := os.NewFile(uintptr(fd), "connection")
		conn, err := net.FileConn(file)
		_ = file.Close()
		if err == nil {
			answer(text)(conn)
			<-ended
			_ = conn.Close()
		}
	}()
}

// An answer that stays half may be the network's doing too, whatever its status, and is no evidence that the network works.
func TestAConnectionThatDiesAfterTheHeaders(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]string{"200 OK": "", "500 No": "HTTP 500"} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			socket, address := listenNarrowly(t)
			answerOnce(t, socket, "HTTP/1.1 "+status+"\r\nContent-Length: 100\r\n\r\nhalf")
			c := newClient(t, Options{CheckHosts: []string{unreachable}, Timeout: 2 * time.Second})
			c.outbound.connect = func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ENETUNREACH }
			if want == "" {
				requireOurs(t, c, "http://"+address+"/")
			} else {
				require.Equal(t, want, post(t, c, "http://"+address+"/").Error)
			}
			require.NotEqual(t, AccessOK, c.OutboundAccess(t.Context()).Network)
		})
	}
}

// A dial that goes on beside a kept connection that came free may try an address at which nobody answers.
func TestAnAddressThatWasOnlyTriedIsNoWitness(t *testing.T) {
	t.Parallel()
	release, dialled := make(chan struct{}), make(chan struct{})
	arrived := make(chan struct{}, 2)
	r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		requests := bufio.NewReader(conn)
		for {
			if _, _, ok := readRequest(requests); !ok {
				return
			}
			arrived <- struct{}{}
			<-release
			_, _ = io.WriteString(conn, okResponse)
		}
	})
	other := listen(t, fmt.Sprintf("127.0.0.9:%d", r.Port), func(conn net.Conn) {
		close(dialled)
		waitForClose(conn, time.Minute)
	})
	dns := startDNS(t, map[string]dnsAnswer{"two.example.com": {a: [][]string{{"127.0.0.1"}, {"127.0.0.9"}}}})
	var lookups atomic.Int32
	asked, goOn := make(chan struct{}, 2), make(chan struct{})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if lookups.Add(1) > 2 { // of the second connection; a lookup asks for two families
			asked <- struct{}{}
			<-goOn
		}
		return dns.Resolver().Dial(ctx, network, address)
	}}
	c := newClient(t, Options{Resolver: resolver})
	ended := make(chan error, 2)
	send := func() {
		got, err := c.Post(context.Background(), fmt.Sprintf("http://two.example.com:%d/", r.Port), nil, nil)
		if err == nil && !got.Success() {
			err = errors.New(got.Error)
		}
		ended <- err
	}
	go send()
	<-arrived
	go send()
	<-asked
	release <- struct{}{} // the first connection comes free
	require.NoError(t, <-ended)
	<-arrived
	close(goOn)
	<-dialled
	release <- struct{}{}
	require.NoError(t, <-ended)
	require.Zero(t, other.Used())
	require.Equal(t, []string{fmt.Sprintf("127.0.0.1:%d", r.Port)}, c.outbound.known(partOf(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), r.Port))).witnesses)
}

// What began in an outage is ours although it fails after that, and so is what may share its lookup.
func TestWhatBeganInAnOutageIsOurs(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, nil)
	dns.Fail(silent)
	c := newClient(t, Options{Resolver: dns.Resolver(), Timeout: 3 * time.Second})
	late := make(chan error, 1)
	go func() {
		_, err := c.Post(context.Background(), "http://late.example.net/", nil, nil)
		late <- err
	}()
	require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).DNS == AccessFailed }, time.Minute, 10*time.Millisecond)
	dns.FailBut(map[string]dnsAnswer{"late.example.net": servfail, "another.example.net": servfail}, dnsAnswer{code: dnsmessage.RCodeNameError})
	require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).DNS == AccessOK }, time.Minute, 10*time.Millisecond)
	_, err := c.Post(context.Background(), "http://another.example.net/", nil, nil)
	for _, err := range []error{err, <-late} {
		if !errors.Is(err, ErrPaused) { // as on a busy machine, which is ours too
			require.ErrorIs(t, err, ErrNoOutboundAccess)
		}
	}
}

// A resolver, or a firewall before it, that answers for IPv4 addresses only: receivers that have others alone cannot be found, and
// where it is silent none can, as both answers are waited for.
func TestAResolverWithoutIPv6AnswersIsOurFailing(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	for name, fails := range map[string]dnsAnswer{
		"server failure": {code: dnsmessage.RCodeServerFailure, only: dnsmessage.TypeAAAA},
		"silent":         {silent: true, only: dnsmessage.TypeAAAA},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both := fails
			both.a = here.a
			dns := startDNS(t, map[string]dnsAnswer{"good.example.com": here})
			c := newClient(t, Options{Resolver: dns.Resolver(), Timeout: 2 * time.Second})
			url := fmt.Sprintf("http://good.example.com:%d/", r.Port)
			require.True(t, post(t, c, url).Success())
			dns.FailBut(map[string]dnsAnswer{"good.example.com": both}, fails)
			requireOurs(t, c, "http://six.example.net/")
			require.Equal(t, AccessFailed, c.OutboundAccess(t.Context()).DNS)
			if both.silent {
				c.Close()
				requireOurs(t, c, url)
			} else {
				require.True(t, post(t, c, url).Success())
			}
			dns.FailBut(map[string]dnsAnswer{"six.example.net": fails}, dnsAnswer{code: dnsmessage.RCodeNameError})
			require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).DNS == AccessOK }, time.Minute, 10*time.Millisecond)
			require.Eventually(t, func() bool {
				got, err := c.Post(t.Context(), "http://six.example.net/", nil, nil)
				return err == nil && got.Class() == "dns"
			}, time.Minute, 10*time.Millisecond, "others are answered for, so that it is the receiver's")
		})
	}
}

// A resolver that knows of no name at all, as one that allows only some, is ours.
func TestAResolverThatKnowsOfNothingIsOurFailing(t *testing.T) {
	t.Parallel()
	nothing := dnsAnswer{code: dnsmessage.RCodeNameError}
	dns := startDNS(t, nil)
	c := newClient(t, Options{Resolver: dns.Resolver()})
	requireOurs(t, c, "http://nobody.example.net/")
	require.Equal(t, AccessFailed, c.OutboundAccess(t.Context()).DNS)
	dns.FailBut(map[string]dnsAnswer{"iana.org": here}, nothing)
	require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).DNS == AccessOK }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		got, err := c.Post(t.Context(), "http://nobody.example.net/", nil, nil)
		return err == nil && got.Error == noSuchHost
	}, time.Minute, 10*time.Millisecond, "what began before the outage's end is ours too")

	// One that resolved lately speaks for the resolver, also where the check hosts do not exist.
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns = startDNS(t, map[string]dnsAnswer{"good.example.net": here})
	c = newClient(t, Options{Resolver: dns.Resolver()})
	require.True(t, post(t, c, fmt.Sprintf("http://good.example.net:%d/", r.Port)).Success())
	require.Equal(t, noSuchHost, post(t, c, "http://nobody.example.net/").Error)
}

// A router that has lost the internet may have all names lead to itself.
func TestAResolverThatLeadsAstrayIsOurFailing(t *testing.T) {
	t.Parallel()
	astray := dnsAnswer{a: [][]string{{"10.0.0.1"}}}
	dns := startDNS(t, nil)
	dns.FailBut(nil, astray)
	c := newClient(t, Options{Resolver: dns.Resolver()})
	requireOurs(t, c, "http://healthy.example.net/")
	require.Equal(t, AccessFailed, c.OutboundAccess(t.Context()).DNS)
	dns.FailBut(map[string]dnsAnswer{"iana.org": here}, astray)
	require.Eventually(t, func() bool { return c.OutboundAccess(t.Context()).DNS == AccessOK }, time.Minute, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		got, err := c.Post(t.Context(), "http://inward.example.net/", nil, nil)
		return err == nil && got.Error == "blocked: address not allowed"
	}, time.Minute, 10*time.Millisecond)
}

// A resolver that has lost its way may still answer for one of the two address families, as "none" is in its cache.
func TestHalfAnAnswerInAnOutageIsOurs(t *testing.T) {
	t.Parallel()
	noIPv4 := dnsAnswer{code: dnsmessage.RCodeServerFailure, only: dnsmessage.TypeA, delay: 50 * time.Millisecond}
	dns := startDNS(t, nil)
	dns.FailBut(map[string]dnsAnswer{"half.example.net": noIPv4}, servfail)
	requireOurs(t, newClient(t, Options{Resolver: dns.Resolver()}), "http://half.example.net/")
	proxy, err := ParseProxy("http://127.0.0.1:1")
	require.NoError(t, err)
	requireOurs(t, newClient(t, Options{Resolver: dns.Resolver(), Proxy: proxy}), "http://half.example.net/")
}
