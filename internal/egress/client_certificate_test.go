package egress

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil"
)

// clientFiles are the files of a client certificate.
type clientFiles struct{ certificate, key string }

// write makes a certificate of the name and writes it.
func (f clientFiles) write(t testing.TB, a *authority, name string, change func(*x509.Certificate)) {
	t.Helper()
	issued := a.issue(t, func(c *x509.Certificate) {
		c.Subject, c.ExtKeyUsage, c.IPAddresses, c.DNSNames = pkix.Name{CommonName: name}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil, nil
		if change != nil {
			change(c)
		}
	})
	key, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	require.NoError(t, os.WriteFile(f.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issued.Certificate[0]}), 0o600))
}

func newClientFiles(t testing.TB) clientFiles {
	dir := t.TempDir()
	return clientFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")}
}

func (f clientFiles) load(t testing.TB, clock *testutil.Clock, log *testutil.Buffer) *ClientCertificate {
	t.Helper()
	c, err := LoadClientCertificate(f.certificate, f.key, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	c.now = clock.Now
	c.lookedAt = clock.Now()
	return c
}

// seen answers, closes the connection, and says whose certificate it was given: "" for none.
func seen(names chan<- string) func(*tls.Conn) {
	return func(conn *tls.Conn) {
		name := ""
		if given := conn.ConnectionState().PeerCertificates; len(given) > 0 {
			name = given[0].Subject.CommonName
		}
		names <- name
		answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")(conn)
	}
}

// Receivers that ask get it; others do not.
func TestClientCertificateForWhoAsks(t *testing.T) {
	t.Parallel()
	trusted, ours := newAuthority(t), newAuthorityNamed(t, "our authority")
	files := newClientFiles(t)
	files.write(t, ours, "mathub", nil)
	own := files.load(t, testutil.NewClock(), &testutil.Buffer{})
	require.Equal(t, "CN=mathub", own.Subject())
	require.WithinDuration(t, time.Now().Add(time.Hour), own.NotAfter(), time.Minute)
	server := []tls.Certificate{trusted.issue(t, nil)}
	for name, c := range map[string]struct {
		config *tls.Config
		given  string
	}{
		"asks for none":           {&tls.Config{}, ""},
		"requires one":            {&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()}, "mathub"},
		"requires one, TLS 1.2":   {&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool(), MaxVersion: tls.VersionTLS12}, "mathub"},
		"takes any":               {&tls.Config{ClientAuth: tls.RequestClientCert}, "mathub"},
		"takes one of another":    {&tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: trusted.pool()}, ""},
		"requires one of another": {&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted.pool()}, tlsWantsClient},
		"refuses what it asks for": {&tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
			return &tls.CertificateVerificationError{Err: os.ErrPermission}
		}}, tlsRefusesClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names := make(chan string, 1)
			c.config.Certificates = server
			r := listenTLS(t, c.config, seen(names))
			got := post(t, newClient(t, Options{RootCAs: trusted.pool(), ClientCertificate: own}), r.URL)
			if got.Success() {
				require.Equal(t, c.given, <-names)
				return
			}
			require.Equal(t, c.given, got.Error)
		})
	}
}

// A new certificate is taken without a restart, on every connection that is made from then on; a broken one is not.
func TestClientCertificateRotation(t *testing.T) {
	t.Parallel()
	trusted, ours := newAuthority(t), newAuthority(t)
	files, clock, log := newClientFiles(t), testutil.NewClock(), &testutil.Buffer{}
	files.write(t, ours, "first", nil)
	own := files.load(t, clock, log)
	names := make(chan string, 1)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{trusted.issue(t, nil)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()}, seen(names))
	c := newClient(t, Options{RootCAs: trusted.pool(), ClientCertificate: own})
	requireGiven := func(want string) {
		t.Helper()
		for range 2 { // the second could resume the first one's session
			got := post(t, c, r.URL)
			require.True(t, got.Success(), got.Error)
			require.Equal(t, want, <-names)
		}
	}
	requireGiven("first")
	files.write(t, ours, "second", nil)
	requireGiven("first")
	clock.Advance(certificateFresh)
	requireGiven("second")
	require.Contains(t, log.Take(), "read a new client certificate")

	good, err := os.ReadFile(files.key)
	require.NoError(t, err)
	for name, spoil := range map[string]func() error{
		"another key": func() error {
			clientFiles{filepath.Join(t.TempDir(), "x"), files.key}.write(t, ours, "other", nil)
			return nil
		},
		"no key": func() error { return os.Remove(files.key) },
		"no PEM": func() error { return os.WriteFile(files.key, []byte("-----BEGIN"), 0o600) },
	} {
		require.NoError(t, spoil(), name)
		clock.Advance(certificateFresh)
		requireGiven("second")
		require.Contains(t, log.Take(), "the last one stays in use", name)
		clock.Advance(certificateFresh)
		requireGiven("second")
		require.Empty(t, log.Take(), "it is said once")
	}
	require.NoError(t, os.WriteFile(files.key, good, 0o600))
	clock.Advance(certificateFresh)
	requireGiven("second")

	// As Kubernetes does: the files are links, and their target changes.
	link, next := newClientFiles(t), newClientFiles(t)
	files.write(t, ours, "third", nil)
	next.write(t, ours, "fourth", nil)
	require.NoError(t, os.Symlink(files.certificate, link.certificate))
	require.NoError(t, os.Symlink(files.key, link.key))
	c = newClient(t, Options{RootCAs: trusted.pool(), ClientCertificate: link.load(t, clock, log)})
	requireGiven("third")
	require.NoError(t, os.Remove(link.certificate))
	require.NoError(t, os.Symlink(next.certificate, link.certificate))
	clock.Advance(certificateFresh)
	requireGiven("third") // the key is still the old one
	require.NoError(t, os.Remove(link.key))
	require.NoError(t, os.Symlink(next.key, link.key))
	clock.Advance(certificateFresh)
	requireGiven("fourth")
}

// A receiver that refuses a certificate that has expired is not to blame.
func TestAnExpiredClientCertificateIsOurFailing(t *testing.T) {
	t.Parallel()
	trusted, ours := newAuthority(t), newAuthority(t)
	files := newClientFiles(t)
	files.write(t, ours, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	c := newClient(t, Options{RootCAs: trusted.pool(), ClientCertificate: files.load(t, testutil.NewClock(), &testutil.Buffer{})})
	server := []tls.Certificate{trusted.issue(t, nil)}
	asks := listenTLS(t, &tls.Config{Certificates: server, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool()}, answerTLS)
	_, err := c.Post(t.Context(), asks.URL, nil, nil)
	require.ErrorIs(t, err, errClientCertificate)
	other := listenTLS(t, &tls.Config{Certificates: server}, answerTLS)
	require.True(t, post(t, c, other.URL).Success())
}

// Whether it has expired, the clock says that receivers' certificates are held against: this machine's may be wrong.
func TestAClientCertificateExpiresByTheClientsClock(t *testing.T) {
	t.Parallel()
	trusted, ours := newAuthority(t), newAuthority(t)
	server := []tls.Certificate{trusted.issue(t, nil)}
	asks := listenTLS(t, &tls.Config{Certificates: server, ClientAuth: tls.RequestClientCert}, func(conn *tls.Conn) {
		serve("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")(conn)
	})
	for name, ahead := range map[string]time.Duration{"expired": 2 * time.Minute, "valid": -2 * time.Minute} {
		files := newClientFiles(t)
		files.write(t, ours, name, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(ahead / 2) }) // by this machine's clock, the contrary
		c := newClient(t, Options{
			RootCAs: trusted.pool(), ClientCertificate: files.load(t, testutil.NewClock(), &testutil.Buffer{}), Now: func() time.Time { return time.Now().Add(ahead) },
		})
		r, err := c.Post(t.Context(), asks.URL, nil, nil)
		if name == "expired" {
			require.ErrorIs(t, err, errClientCertificate)
		} else {
			require.NoError(t, err)
			require.Equal(t, 403, r.StatusCode)
		}
	}
}

func TestLoadClientCertificate(t *testing.T) {
	t.Parallel()
	a, files := newAuthority(t), newClientFiles(t)
	files.write(t, a, "x", nil)
	certificate, err := os.ReadFile(files.certificate)
	require.NoError(t, err)
	key, err := os.ReadFile(files.key)
	require.NoError(t, err)
	both := filepath.Join(t.TempDir(), "both.pem")
	require.NoError(t, os.WriteFile(both, append(key, certificate...), 0o600))
	c, err := LoadClientCertificate(both, "", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, "CN=x", c.Subject())

	for name, of := range map[string][2]string{"no file": {both + "x", ""}, "no key": {files.certificate, ""}, "no certificate": {files.key, files.key}, "no key file": {files.certificate, both + "x"}} {
		_, err := LoadClientCertificate(of[0], of[1], slog.New(slog.DiscardHandler))
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "PRIVATE KEY", name)
		require.Contains(t, err.Error(), os.TempDir(), name, "it names a file")
	}
}

// nginx, and what reads the certificate behind a proxy, refuse one over HTTP: on a new connection, a kept one and a resumed session.
func TestAnExpiredClientCertificateThatHTTPRefuses(t *testing.T) {
	t.Parallel()
	trusted, ours := newAuthority(t), newAuthority(t)
	expired, good := newClientFiles(t), newClientFiles(t)
	expired.write(t, ours, "old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	good.write(t, ours, "new", nil)
	var status atomic.Int32
	answer := func(conn *tls.Conn) {
		serve(fmt.Sprintf("HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n", status.Load()))(conn)
	}
	server := []tls.Certificate{trusted.issue(t, nil)}
	asks := listenTLS(t, &tls.Config{Certificates: server, ClientAuth: tls.RequestClientCert}, answer)
	other := listenTLS(t, &tls.Config{Certificates: server}, answer)
	load := func(files clientFiles) *Client {
		return newClient(t, Options{RootCAs: trusted.pool(), ClientCertificate: files.load(t, testutil.NewClock(), &testutil.Buffer{})})
	}
	for _, refusal := range []int32{400, 401, 403, 495, 496} {
		status.Store(refusal)
		c := load(expired)
		for range 2 { // the second on the same connection
			r, err := c.Post(t.Context(), asks.URL, nil, nil)
			require.ErrorIs(t, err, errClientCertificate)
			require.Equal(t, Response{}, r)
		}
		c.Close()
		_, err := c.Post(t.Context(), asks.URL, nil, nil)
		require.ErrorIs(t, err, errClientCertificate, "no session is resumed")
		require.Equal(t, int(refusal), post(t, c, other.URL).StatusCode, "who does not ask is answerable for what it says")
		require.Equal(t, int(refusal), post(t, load(good), asks.URL).StatusCode)
	}
	status.Store(500)
	require.Equal(t, 500, post(t, load(expired), asks.URL).StatusCode)
	status.Store(204)
	require.True(t, post(t, load(expired), asks.URL).Success())
}
