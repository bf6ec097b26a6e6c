package egress

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func discardLog() { log.SetOutput(io.Discard) }

func mustPrefixes(texts ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, s := range texts {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// authority is a certificate authority of the test's own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority { return newAuthorityNamed(t, "test authority") }

func newAuthorityNamed(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.certificate = a.sign(t, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.key, nil)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func (a *authority) sign(t testing.TB, template *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	require.NoError(t, err)
	template.SerialNumber = serial
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, a.key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// issue makes a server certificate for 127.0.0.1 and hooks.example.com, changed as told.
func (a *authority) issue(t testing.TB, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"hooks.example.com", "xn--bcher-kva.example"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(t, template, key, a.certificate).Raw}, PrivateKey: key}
}

// listenTLS starts a receiver that speaks TLS.
func listenTLS(t testing.TB, config *tls.Config, handle func(*tls.Conn)) *receiver {
	t.Helper()
	r := listen(t, "127.0.0.1:0", func(raw net.Conn) {
		conn := tls.Server(raw, config)
		if conn.Handshake() == nil {
			handle(conn)
		}
	})
	r.URL = "https" + strings.TrimPrefix(r.URL, "http")
	return r
}

func answerTLS(conn *tls.Conn) {
	r := bufio.NewReader(conn)
	for {
		if _, _, ok := readRequest(r); !ok {
			return
		}
		_, _ = io.WriteString(conn, okResponse)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	trusted, stranger := newAuthority(t), newAuthority(t)
	good := trusted.issue(t, nil)
	selfSigned := func() tls.Certificate {
		a := newAuthority(t)
		return a.issue(t, nil)
	}()
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"good", &tls.Config{Certificates: []tls.Certificate{good}}, ""},
		{"good, TLS 1.2", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12}, ""},
		{"expired", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}}, "tls: certificate expired"},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })}}, "tls: certificate not yet valid"},
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, nil)}}, "tls: unknown authority"},
		{"self-signed", &tls.Config{Certificates: []tls.Certificate{selfSigned}}, "tls: unknown authority"},
		{"self-signed, itself the authority", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{stranger.certificate.Raw}, PrivateKey: stranger.key}}}, "tls: unknown authority"},
		{"wrong host", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example.com"} })}}, "tls: wrong host"},
		{"no names at all", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, nil })}}, "tls: wrong host"},
		{"for another use", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}}, "tls: invalid certificate"},
		{"signed by what is no authority", &tls.Config{Certificates: []tls.Certificate{signedByLeaf(t, trusted)}}, "tls: unknown authority"},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "tls: protocol version too old"},
		{"TLS 1.0", &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "tls: protocol version too old"},
		{"wants a client certificate", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, "tls: client certificate wanted"},
		{"wants a client certificate, TLS 1.3", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert}, "tls: client certificate wanted"},
		{"wants a client certificate, HTTP/2", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2"}}, "tls: client certificate wanted"},
		{"wants a client certificate, and an expired one of its own", &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, ClientAuth: tls.RequireAnyClientCert}, "tls: certificate expired"},
		{"would take a client certificate", &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequestClientCert}, ""},
		{"no common cipher suite", &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}}, tlsNoCipher},
		{"no common application protocol", &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"mqtt"}}, "tls: no common application protocol"},
		{"no certificate", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, io.EOF }}, "tls: internal error of the receiver"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := listenTLS(t, c.config, answerTLS)
			got := post(t, newClient(t, Options{RootCAs: trusted.pool()}), r.URL)
			require.Equal(t, c.want, got.Error)
			require.Less(t, len(got.Error), 60)
			require.Equal(t, c.want == "", got.Success())
			if c.want != "" {
				require.Zero(t, got.StatusCode)
				require.Nil(t, got.Body)
			}
			require.Equal(t, 1, r.Accepted(), "nothing is tried again without verification")
		})
	}
}

// signedByLeaf is signed with a certificate that may not sign any.
func signedByLeaf(t testing.TB, trusted *authority) tls.Certificate {
	leaf := trusted.issue(t, nil)
	certificate, err := x509.ParseCertificate(leaf.Certificate[0])
	require.NoError(t, err)
	below := (&authority{certificate: certificate, key: leaf.PrivateKey.(*ecdsa.PrivateKey)}).issue(t, nil)
	below.Certificate = append(below.Certificate, leaf.Certificate[0])
	return below
}

func TestTLSByName(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	names := make(chan string, 1)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}, func(conn *tls.Conn) {
		names <- conn.ConnectionState().ServerName
		answerTLS(conn)
	})
	local := dnsAnswer{a: [][]string{{"127.0.0.1"}}}
	dns := startDNS(t, map[string]dnsAnswer{"hooks.example.com": local, "xn--bcher-kva.example": local, "other.example.com": local})
	c := newClient(t, Options{RootCAs: trusted.pool(), Resolver: dns.Resolver()})
	for _, name := range []string{"hooks.example.com", "xn--bcher-kva.example"} {
		got := post(t, c, strings.Replace(r.URL, "127.0.0.1", name, 1))
		require.True(t, got.Success(), got.Error)
		require.Equal(t, name, <-names)
	}
	require.Equal(t, "tls: wrong host", post(t, c, strings.Replace(r.URL, "127.0.0.1", "other.example.com", 1)).Error)
}

func TestTLSThatIsNone(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	const timeout = 2 * time.Second
	for _, c := range []struct {
		name   string
		handle func(net.Conn)
		want   []string
	}{
		{"plain HTTP", say("HTTP/1.1 400 Bad Request\r\n\r\n"), []string{"tls: the receiver speaks plain HTTP"}},
		{"plain HTTP/0.9", say("<!DOCTYPE HTML><title>Bad request</title>"), []string{"tls: the receiver speaks plain HTTP"}},
		{"an SSH server", say("SSH-2.0-OpenSSH_9.9\r\n"), []string{"tls: the receiver does not speak TLS"}},
		{"a host that is not served", say("\x15\x03\x03\x00\x02\x02\x70"), []string{"tls: host name unknown to the receiver"}},
		{"weak suites only", say("\x15\x03\x03\x00\x02\x02\x47"), []string{tlsNoCipher}},
		{"an alert of another kind", say("\x15\x03\x03\x00\x02\x02\x2f"), []string{"tls: refused by the receiver: illegal parameter"}},
		{"an alert that has no name", say("\x15\x03\x03\x00\x02\x02\xfe"), []string{"tls: refused by the receiver: alert(254)"}},
		{"a ServerHello of TLS 1.0", say("\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01" + strings.Repeat("r", 32) + "\x00\x00\x2f\x00"), []string{"tls: protocol version too old"}},
		{"rubbish", say(strings.Repeat("\x16\x03\x03\x00\x01\x00", 1000)), []string{"tls: handshake failed", "connection reset"}},
		{"closed", func(c net.Conn) { _ = c.Close() }, []string{"connection closed", "connection reset"}},
		{"reset", reset, []string{"connection reset"}},
		{"silent", func(c net.Conn) { waitForClose(c, 10*time.Second) }, []string{"timeout"}},
		{"drip", drip("", "\x16\x03\x03\x00\x7a"+strings.Repeat("\x02", 1000)), []string{"timeout"}},
		{"flood", flood("", "\x16\x03\x03\x40\x00"+strings.Repeat("\x00", 0x4000)), []string{"tls: handshake failed", "connection reset"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cut := make(chan bool, 100)
			r := listen(t, "127.0.0.1:0", func(conn net.Conn) {
				hello := make([]byte, 4096)
				_, _ = conn.Read(hello)
				c.handle(conn)
				cut <- waitForClose(conn, 5*time.Second)
			})
			started := time.Now()
			got := post(t, newClient(t, Options{RootCAs: trusted.pool(), Timeout: timeout}), "https"+strings.TrimPrefix(r.URL, "http"))
			require.Contains(t, c.want, got.Error)
			require.Less(t, time.Since(started), timeout+slack)
			require.True(t, <-cut, "the socket is closed when the exchange ends, not when the receiver likes")
			require.Less(t, time.Since(started), timeout+slack)
		})
	}
}

func TestHTTPOnATLSPort(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}, answerTLS)
	got := post(t, newClient(t, Options{}), "http"+strings.TrimPrefix(r.URL, "https"))
	require.Contains(t, []string{"invalid response", "connection closed", "connection reset"}, got.Error)
}

func TestCertificatesAreHeldAgainstTheTimeThatIsGiven(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}}, answerTLS)
	const years = 10 * 365 * 24 * time.Hour
	for want, ahead := range map[string]time.Duration{"": 0, tlsExpired: years, tlsNotYetValid: -years} {
		c := newClient(t, Options{RootCAs: trusted.pool(), Now: func() time.Time { return time.Now().Add(ahead) }})
		require.Equal(t, want, post(t, c, r.URL).Error)
	}
}
