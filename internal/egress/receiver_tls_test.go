package egress

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFewCertificatesOfANameAreTried: with 40 others of its signer's name before it, each delivery took a hundred times as long to verify.
func TestFewCertificatesOfANameAreTried(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	between := &authority{key: newKey(t)}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), Subject: pkix.Name{CommonName: name},
		}
	}
	between.certificate = trusted.sign(t, template("between"), between.key, trusted.certificate)
	leaf := between.issue(t, nil)
	chain := func(impostors int) tls.Certificate {
		c := tls.Certificate{Certificate: [][]byte{leaf.Certificate[0]}, PrivateKey: leaf.PrivateKey}
		for range impostors {
			c.Certificate = append(c.Certificate, trusted.sign(t, template("between"), newKey(t), trusted.certificate).Raw)
		}
		c.Certificate = append(c.Certificate, trusted.sign(t, template("another"), newKey(t), trusted.certificate).Raw, between.certificate.Raw)
		return c
	}
	for impostors, want := range map[int]string{0: "", 1: "", 2: tlsUnknownAuthority, 40: tlsUnknownAuthority} {
		r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{chain(impostors)}}, answerTLS)
		require.Equal(t, want, post(t, newClient(t, Options{RootCAs: trusted.pool()}), r.URL).Error, impostors)
	}
}

// TestASessionEndsWithItsCertificate: a receiver that has renewed its certificate is not blamed for the one before.
func TestASessionEndsWithItsCertificate(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	soon := time.Now().Add(10 * time.Minute)
	short, renewed := trusted.issue(t, func(c *x509.Certificate) { c.NotAfter = soon }), trusted.issue(t, nil)
	var hasExpired atomic.Bool
	now := func() time.Time {
		if hasExpired.Load() {
			return soon.Add(time.Minute)
		}
		return time.Now()
	}
	resumed := make(chan bool, 3)
	r := listenTLS(t, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hasExpired.Load() {
			return &renewed, nil
		}
		return &short, nil
	}}, func(conn *tls.Conn) {
		resumed <- conn.ConnectionState().DidResume
		answerTLS(conn)
	})
	client := newClient(t, Options{RootCAs: trusted.pool(), Now: now})
	for _, want := range []bool{false, true, false} {
		got := post(t, client, r.URL)
		require.True(t, got.Success(), got.Error)
		require.Equal(t, want, <-resumed)
		client.Close()
		hasExpired.Store(want)
	}
}
