package egress

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// dnsAnswer is what the test's DNS server says of a name. Of several answers, each lookup of a type takes the next,
// and the last stays.
type dnsAnswer struct {
	a, aaaa [][]string
	code    dnsmessage.RCode
	delay   time.Duration
	silent  bool
	garbage bool
	cname   string
	only    dnsmessage.Type // which type's lookups the code and the silence are for, at once; 0: all, after the delay
}

type dnsServer struct {
	conn    net.PacketConn
	mu      sync.Mutex
	names   map[string]dnsAnswer
	others  *dnsAnswer // of names that it does not know, instead of "no such host"
	lookups map[string]int
	asked   []string
}

// startDNS starts a DNS server that knows these names (without the trailing dot) and no other, and any name of the
// form ip-<hex of the address>.example.com.
func startDNS(t testing.TB, names map[string]dnsAnswer) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &dnsServer{conn: conn, names: names, lookups: map[string]int{}}
	var running sync.WaitGroup
	running.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			reply, delay := s.reply(buffer[:n])
			if reply == nil {
				continue
			}
			if delay == 0 {
				_, _ = conn.WriteTo(reply, from)
				continue
			}
			running.Go(func() {
				time.Sleep(delay) // a resolver that is slow
				_, _ = conn.WriteTo(reply, from)
			})
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		running.Wait()
	})
	return s
}

// Resolver asks this server only, and otherwise does as the one that is used where none is given.
func (s *dnsServer) Resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

// Fail makes it answer so to every name.
func (s *dnsServer) Fail(answer dnsAnswer) {
	s.FailBut(nil, answer)
}

// FailBut makes it answer so to every name but these, as a resolver does that has lost the internet and has them in its
// cache.
func (s *dnsServer) FailBut(names map[string]dnsAnswer, answer dnsAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names, s.others = names, &answer
}

func (s *dnsServer) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func (s *dnsServer) reply(query []byte) ([]byte, time.Duration) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, 0
	}
	question, err := p.Question()
	if err != nil {
		return nil, 0
	}
	name := strings.TrimSuffix(strings.ToLower(question.Name.String()), ".")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, name)
	known, ok := s.names[name]
	if hex, isIP := strings.CutPrefix(strings.TrimSuffix(name, ".example.com"), "ip-"); isIP {
		ip := addrOfName(hex)
		ok = true
		if ip.Is4() {
			known = dnsAnswer{a: [][]string{{ip.String()}}}
		} else {
			known = dnsAnswer{aaaa: [][]string{{ip.String()}}}
		}
	}
	if !ok {
		known.code = dnsmessage.RCodeNameError
		if s.others != nil {
			known = *s.others
		}
	}
	switch known.only {
	case 0:
	case question.Type:
		known.delay = 0
	default:
		known.code, known.silent = dnsmessage.RCodeSuccess, false
	}
	switch {
	case known.silent:
		return nil, 0
	case known.garbage:
		return append(query[:2:2], 0xff, 0xff, 0xff), 0
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{
		ID: header.ID, Response: true, RecursionAvailable: true, RecursionDesired: true, RCode: known.code,
	})
	b.EnableCompression()
	must(b.StartQuestions())
	must(b.Question(question))
	must(b.StartAnswers())
	resource := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 0}
	if known.cname != "" {
		target := dnsmessage.MustNewName(known.cname + ".")
		must(b.CNAMEResource(resource, dnsmessage.CNAMEResource{CNAME: target}))
		resource.Name = target
	}
	answers := known.a
	if question.Type == dnsmessage.TypeAAAA {
		answers = known.aaaa
	}
	if known.code == dnsmessage.RCodeSuccess && len(answers) > 0 {
		key := fmt.Sprint(name, question.Type)
		turn := min(s.lookups[key], len(answers)-1)
		s.lookups[key]++
		for _, text := range answers[turn] {
			if ip := netip.MustParseAddr(text); question.Type == dnsmessage.TypeA {
				must(b.AResource(resource, dnsmessage.AResource{A: ip.As4()}))
			} else {
				must(b.AAAAResource(resource, dnsmessage.AAAAResource{AAAA: ip.As16()}))
			}
		}
	}
	reply, err := b.Finish()
	must(err)
	return reply, known.delay
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// nameOf is a name that resolves to the address.
func nameOf(ip netip.Addr) string { return fmt.Sprintf("ip-%x.example.com", ip.AsSlice()) }

func addrOfName(hex string) netip.Addr {
	b := make([]byte, len(hex)/2)
	_, _ = fmt.Sscanf(hex, "%x", &b)
	ip, _ := netip.AddrFromSlice(b)
	return ip
}

func TestDNSFailures(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, map[string]dnsAnswer{
		"example.com":          {a: [][]string{{"127.0.0.1"}}}, // a check host
		"servfail.example.com": {code: dnsmessage.RCodeServerFailure},
		"refused.example.com":  {code: dnsmessage.RCodeRefused},
		"nodata.example.com":   {},
		"silent.example.com":   {silent: true},
		"slow.example.com":     {a: [][]string{{"127.0.0.1"}}, delay: 6 * time.Second},
		"garbage.example.com":  {garbage: true},
		"loop.example.com":     {cname: "loop.example.com"},
		"half.example.com":     {code: dnsmessage.RCodeServerFailure, only: dnsmessage.TypeA, delay: 50 * time.Millisecond},
		"other.example.com":    {code: dnsmessage.RCodeServerFailure, only: dnsmessage.TypeAAAA, delay: 50 * time.Millisecond},
		"dropped.example.com":  {silent: true, only: dnsmessage.TypeA},
		"moody.example.com":    {a: [][]string{{}, {"127.0.0.1"}, {}}},
	})
	c := newClient(t, Options{Resolver: dns.Resolver(), Timeout: 2 * time.Second})
	for name, want := range map[string]string{
		"nxdomain.example.com": "dns: no such host",
		"nodata.example.com":   "dns: no such host",
		"servfail.example.com": "dns: server failure",
		"refused.example.com":  "dns: server failure",
		"silent.example.com":   "dns: timeout",
		"slow.example.com":     "dns: timeout",
		"garbage.example.com":  "dns: timeout",
		"loop.example.com":     "dns: no such host",
		"half.example.com":     "dns: server failure",
		"other.example.com":    "dns: server failure",
		"dropped.example.com":  "dns: timeout",
		"moody.example.com":    "dns: server failure",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := post(t, c, "https://"+name+"/hook")
			require.Equal(t, want, r.Error)
			require.Zero(t, r.StatusCode)
			require.Nil(t, r.Body)
			require.Less(t, r.Duration, slack)
		})
	}
}

// net/http lets a dial go on after its request; a receiver would see connections of deliveries long given up.
func TestNoConnectionIsMadeAfterTheEnd(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{"slow.example.com": {a: [][]string{{"127.0.0.1"}}, delay: 400 * time.Millisecond}})
	c := newClient(t, Options{Resolver: dns.Resolver(), Timeout: 200 * time.Millisecond})
	require.Equal(t, "dns: timeout", post(t, c, fmt.Sprintf("http://slow.example.com:%d/", r.Port)).Error)
	time.Sleep(500 * time.Millisecond) // for a connection, which must not come
	require.Zero(t, r.Accepted())
}

func TestDNSFailureEndsInFiveSeconds(t *testing.T) {
	t.Parallel()
	dns := startDNS(t, map[string]dnsAnswer{"silent.example.com": {silent: true}})
	for deadline := time.Now().Add(3 * time.Minute); ; {
		c := newClient(t, Options{Resolver: dns.Resolver()}) // one that has asked before may go on with that lookup
		r, err := c.Post(t.Context(), "https://silent.example.com/", nil, nil)
		if errors.Is(err, ErrPaused) && time.Now().Before(deadline) {
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "dns: timeout", r.Error)
		requireFiveSeconds(t, r)
		return
	}
}

func TestDNSSucceeds(t *testing.T) {
	t.Parallel()
	r := listen(t, "127.0.0.1:0", serve(okResponse))
	dns := startDNS(t, map[string]dnsAnswer{
		"a.example.com":     {a: [][]string{{"127.0.0.1"}}},
		"both.example.com":  {a: [][]string{{"127.0.0.1"}}, aaaa: [][]string{{"::1"}}}, // nobody listens on ::1
		"two.example.com":   {a: [][]string{{"127.0.0.3", "127.0.0.1"}}},
		"cname.example.com": {a: [][]string{{"127.0.0.1"}}, cname: "a.example.com"},
		"slow.example.com":  {a: [][]string{{"127.0.0.1"}}, delay: 50 * time.Millisecond},
		"again.example.com": {a: [][]string{{}, {"127.0.0.1"}}}, // none, until it is asked again
		"no6.example.com":   {a: [][]string{{"127.0.0.1"}}, code: dnsmessage.RCodeServerFailure, only: dnsmessage.TypeAAAA},
	})
	c := newClient(t, Options{Resolver: dns.Resolver()})
	for name := range dns.names {
		got := post(t, c, fmt.Sprintf("http://%s:%d/", name, r.Port))
		require.True(t, got.Success(), "%s: %s", name, got.Error)
	}
}

// A search list would turn hooks.example.com into hooks.example.com.cluster.local. The test's own resolver reads the
// machine's, so what is asked for says whether it was used.
func TestNamesAreNotCompletedBySearchLists(t *testing.T) {
	t.Parallel()
	public := &dialer{guard: &guard{}}
	inside := &dialer{guard: &guard{}}
	inside.guard.policy.Allow = loopback
	for address, want := range map[string]string{
		"hooks.example.com:443":  "hooks.example.com.:443",
		"hooks.example.com.:443": "hooks.example.com.:443",
		"8.8.8.8:443":            "8.8.8.8:443",
		"[2606:4700::1111]:443":  "[2606:4700::1111]:443",
		"receiver:443":           "receiver:443",
		"no port":                "no port",
	} {
		require.Equal(t, want, public.absolute(address))
		require.Equal(t, address, inside.absolute(address))
	}
	dns := startDNS(t, nil)
	c := New(Options{Resolver: dns.Resolver()})
	require.Equal(t, "dns: no such host", post(t, c, "https://hooks.example.net/").Error)
	for _, name := range dns.Asked() {
		require.Equal(t, "hooks.example.net", name)
	}
	require.NotEmpty(t, dns.Asked())
}

// An answer over TCP has up to 64 KiB.
func TestLongAnswersAreNotTaken(t *testing.T) {
	t.Parallel()
	addresses := func(n int) dnsAnswer {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("127.0.%d.%d", i/250, i%250+1))
		}
		return dnsAnswer{a: [][]string{all}}
	}
	dns := startDNS(t, map[string]dnsAnswer{"some.example.com": addresses(200), "thousands.example.com": addresses(4000)})
	stream := listen(t, "127.0.0.1:0", func(conn net.Conn) {
		for {
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			query := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, query); err != nil {
				return
			}
			reply, _ := dns.reply(query)
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
				return
			}
		}
	})
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", stream.Addr().String())
	}}
	receiver := listen(t, "127.0.0.1:0", serve(okResponse))
	c := newClient(t, Options{Resolver: resolver, CheckHosts: []string{"some.example.com"}})
	got := post(t, c, fmt.Sprintf("http://some.example.com:%d/", receiver.Port))
	require.True(t, got.Success(), got.Error)
	require.Equal(t, "dns: server failure", post(t, c, fmt.Sprintf("http://thousands.example.com:%d/", receiver.Port)).Error)
}
