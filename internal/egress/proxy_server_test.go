package egress

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// secretive are a user and a password that must stand nowhere.
const secretive = "us%40er:p%3Ass%2Fw0rd"

// testProxy is a proxy of the test's own. It notes what it is asked for.
type testProxy struct {
	*receiver
	scheme string
	// says is what it answers when it is asked for an address: 0, and it connects; else an HTTP status or a SOCKS reply.
	says atomic.Pointer[func(to string) int]

	mu     sync.Mutex
	asked  []string
	logins []string
}

// startTestProxy starts one; TLS with an authority's certificate where the scheme is https.
func startTestProxy(t testing.TB, scheme string, a *authority) *testProxy {
	t.Helper()
	p := &testProxy{scheme: scheme}
	p.Say(func(string) int { return 0 })
	serve := p.serveHTTP
	if scheme == "socks5" {
		serve = p.serveSOCKS
	}
	if scheme == "https" {
		p.receiver = listenTLS(t, &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}}, func(conn *tls.Conn) { serve(conn) })
	} else {
		p.receiver = listen(t, "127.0.0.1:0", serve)
	}
	return p
}

func (p *testProxy) Say(what func(to string) int) { p.says.Store(&what) }

// Asked are the addresses that it was asked for, in order.
func (p *testProxy) Asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// Options is a client's way through it.
func (p *testProxy) Options(t testing.TB, o Options) Options {
	t.Helper()
	var err error
	o.Proxy, err = ParseProxy(p.scheme + "://" + secretive + "@" + p.Addr().String())
	require.NoError(t, err)
	return o
}

func (p *testProxy) answerTo(to, login string) int {
	p.mu.Lock()
	p.asked, p.logins = append(p.asked, to), append(p.logins, login)
	p.mu.Unlock()
	return (*p.says.Load())(to)
}

func (p *testProxy) serveHTTP(conn net.Conn) {
	r := bufio.NewReader(conn)
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	if request.Method != http.MethodConnect || request.Host != request.RequestURI {
		_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	if status := p.answerTo(request.RequestURI, request.Header.Get("Proxy-Authorization")); status != 0 {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d No\r\nContent-Length: 5\r\n\r\nno no", status)
		return
	}
	relay(conn, request.RequestURI, "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.0 200 Connection established\r\nContent-Length: 7\r\n\r\n")
}

func (p *testProxy) serveSOCKS(conn net.Conn) {
	head := make([]byte, 2)
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = io.ReadFull(conn, b)
		return b
	}
	if _, err := io.ReadFull(conn, head); err != nil {
		return
	}
	read(int(head[1]))
	_, _ = conn.Write([]byte{5, 2})
	user := read(int(read(2)[1]))
	password := read(int(read(1)[0]))
	_, _ = conn.Write([]byte{1, 0})
	request := read(4)
	ip, _ := netip.AddrFromSlice(read(map[byte]int{1: 4, 4: 16}[request[3]]))
	to := netip.AddrPortFrom(ip, binary.BigEndian.Uint16(read(2))).String()
	if reply := p.answerTo(to, string(user)+":"+string(password)); reply != 0 {
		_, _ = conn.Write([]byte{5, byte(reply), 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	relay(conn, to, "\x05\x00\x00\x03\x04name\x00\x50")
}

// relay connects, says so, and copies until both ends are closed.
func relay(conn net.Conn, to, established string) {
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close() //nolint:errcheck // a test's
	if _, err := io.WriteString(conn, established); err != nil {
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() {
		_, _ = io.Copy(out, conn)
		_ = out.Close()
	})
	_, _ = io.Copy(conn, out)
	_ = conn.Close()
	copying.Wait()
}
