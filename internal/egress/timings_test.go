package egress

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimingsSayWhereTheTimeWent(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{a.issue(t, nil)}}
	r := listenTLS(t, config, func(conn *tls.Conn) { serve(okResponse)(conn) })
	c := newClient(t, Options{RootCAs: a.pool()})
	first := post(t, c, r.URL)
	require.True(t, first.Success(), first.Error)
	got := first.Timings
	require.Positive(t, got.Connect)
	require.Positive(t, got.TLS)
	require.GreaterOrEqual(t, got.FirstByte, got.Connect+got.TLS)
	require.LessOrEqual(t, got.FirstByte, first.Duration)
	require.Equal(t, http.Header{"Content-Length": {"2"}}, first.Header)

	kept := post(t, c, r.URL)
	require.Equal(t, Timings{FirstByte: kept.Timings.FirstByte}, kept.Timings, "a kept-alive connection")
	require.Positive(t, kept.Timings.FirstByte)
}

func TestAPhaseThatDidNotEndHasNoTime(t *testing.T) {
	t.Parallel()
	hangs := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 5*time.Second) })
	c := newClient(t, Options{Timeout: 2 * time.Second})
	got := post(t, c, hangs.URL)
	require.Equal(t, "timeout", got.Error)
	require.Positive(t, got.Timings.Connect)
	require.Equal(t, Timings{Connect: got.Timings.Connect}, got.Timings)
	require.Nil(t, got.Header)

	secure := post(t, c, "https"+hangs.URL[len("http"):])
	require.Equal(t, Timings{Connect: secure.Timings.Connect}, secure.Timings, "the handshake hangs")

	blocked := post(t, newClient(t, Options{Deny: nil}), "http://10.0.0.1/")
	require.Equal(t, "blocked: address not allowed", blocked.Error)
	require.Equal(t, Timings{}, blocked.Timings)
	require.Nil(t, blocked.Header)
}
