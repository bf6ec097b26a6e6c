package egress

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLargeSessionsAreNotKept: a receiver is remembered with its certificates, of which it can send as many as it likes.
func TestLargeSessionsAreNotKept(t *testing.T) {
	t.Parallel()
	trusted := newAuthority(t)
	small, large := trusted.issue(t, nil), trusted.issue(t, nil)
	more := trusted.issue(t, func(c *x509.Certificate) {
		for n := range 1000 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("h%d.example.com", n))
		}
	})
	large.Certificate = append(large.Certificate, more.Certificate[0])
	huge := large
	huge.Certificate = slices.Concat(large.Certificate, more.Certificate, more.Certificate, more.Certificate)
	r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{huge}}, answerTLS)
	require.Equal(t, "tls: more than 64 KiB of certificates", post(t, newClient(t, Options{RootCAs: trusted.pool()}), r.URL).Error)
	for name, c := range map[string]struct {
		certificate tls.Certificate
		resumed     bool
	}{"common": {small, true}, "large": {large, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resumed := make(chan bool, 2)
			r := listenTLS(t, &tls.Config{Certificates: []tls.Certificate{c.certificate}}, func(conn *tls.Conn) {
				resumed <- conn.ConnectionState().DidResume
				answerTLS(conn)
			})
			client := newClient(t, Options{RootCAs: trusted.pool()})
			for n := range 2 {
				got := post(t, client, r.URL)
				require.True(t, got.Success(), got.Error)
				require.Equal(t, c.resumed && n > 0, <-resumed)
				client.Close()
			}
		})
	}
}
