package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// proxyPassword must stand in no log.
const proxyPassword = "s3cret-pr0xy"

// TestDeliveriesThroughRealProxies sends deliveries through tinyproxy, kills it and starts it again, and goes on through microsocks: each
// event arrives once, over TLS with our client certificate too, and no receiver is blamed for the proxy.
func TestDeliveriesThroughRealProxies(t *testing.T) {
	t.Parallel()
	authority, ours := newAuthority(t), newAuthority(t)
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	tinyproxy := startTinyproxy(t)
	stack := testkit.Start(t, testkit.Options{
		Env: map[string]string{"MATHUB_EGRESS_CHECK": "", "SSL_CERT_FILE": authority.path("ca.pem"), "MATHUB_EGRESS_PROXY": "http://mathub:" + proxyPassword + "@" + tinyproxy.address},
		Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}, Env: map[string]string{
			"MATHUB_ADMIN_ADDR": admin, "MATHUB_EGRESS_CLIENT_CERT": ours.path("ca.pem"), "MATHUB_EGRESS_CLIENT_KEY": ours.path("key.pem"),
		}}},
	})
	worker, bot, receiver := stack.Apps[1], stack.API().CreateBot(t, "behind"), testkit.NewReceiver(t)
	secure := startMutualTLS(t, authority, ours, receiver)
	plain, mutual := bot.CreateWebhook(t, receiver.URL("/plain"), "", post), bot.CreateWebhook(t, secure+"/mutual", "", post)
	var sent []string
	emit := func() { sent = append(sent, bot.Emit(t, testkit.Event{Type: post}).ID) }
	requireAll := func() {
		t.Helper()
		for _, path := range []string{"/plain", "/mutual"} {
			var got []string
			for _, request := range receiver.Await(t, path, len(sent)) {
				got = append(got, request.EventID())
			}
			require.ElementsMatch(t, sent, got, path)
		}
		for _, hook := range []testkit.Webhook{plain, mutual} {
			for _, delivery := range bot.AwaitDeliveries(t, hook.ID, len(sent)) {
				require.True(t, delivery.Success, "%v", delivery)
			}
			require.Zero(t, bot.Webhook(t, hook.ID).FailureCount)
		}
	}

	emit()
	requireAll()
	require.Contains(t, tinyproxy.stdout.String(), "CONNECT "+strings.TrimPrefix(receiver.URL(""), "http://"))
	require.Contains(t, string(fetch(t, "http://"+admin+"/metrics")), "\nmathub_egress_client_certificate_expiry_timestamp_seconds ")

	tinyproxy.stop()
	for range 3 {
		emit()
	}
	require.Eventually(t, func() bool { return ownFaults(t, admin) >= 3 }, 3*time.Minute, 100*time.Millisecond)
	require.Len(t, bot.Deliveries(t, plain.ID), 1, "what was not made is not recorded")
	tinyproxy.start(t)
	requireAll()

	gone := testkit.NewReceiver(t)
	off := bot.CreateWebhook(t, gone.URL("/"), "", "wiki.edited")
	gone.Refuse()
	require.Equal(t, "host unreachable", *bot.Test(t, off.ID).Error, "others are reached, so it is the receiver's failing")

	worker.Env["MATHUB_EGRESS_PROXY"] = "socks5://mathub:" + proxyPassword + "@" + startMicrosocks(t)
	worker.Stop(t)
	worker.Start(t)
	emit()
	requireAll()
	require.Equal(t, "connection refused", *bot.Test(t, off.ID).Error)

	tm := openTerminal(t, stack, &testkit.Bot{})
	for _, name := range []string{"MATHUB_DATABASE_URL", "MATHUB_KEYSET", "TEMPORAL_ADDRESS", "MATHUB_EGRESS_CHECK", "MATHUB_EGRESS_PROXY", "MATHUB_EGRESS_ALLOW", "MATHUB_EGRESS_ALLOW_HTTP"} {
		tm.env = append(tm.env, name+"="+stack.Env(name))
	}
	tm.env = append(tm.env, "MATHUB_EGRESS_CLIENT_CERT="+ours.path("ca.pem"), "MATHUB_EGRESS_CLIENT_KEY="+ours.path("key.pem"))
	stdout, _, code := tm.run(t, "doctor", "--probe", receiver.URL("/probe"))
	require.Zero(t, code, stdout)
	require.Contains(t, stdout, "deliveries go through http://"+tinyproxy.address+", with a user and password")
	require.Contains(t, stdout, "client certificate: CN=proxies expires at ")
	require.Len(t, receiver.Requests("/probe"), 1)
	logged := string(readAll(t, worker.LogPath())) + string(readAll(t, stack.Apps[0].LogPath())) + stdout
	require.NotContains(t, logged, proxyPassword)

	for name, wrong := range map[string][2]string{
		"MATHUB_EGRESS_PROXY must begin with http://":                       {"MATHUB_EGRESS_PROXY", "ftp://mathub:" + proxyPassword + "@" + tinyproxy.address},
		"MATHUB_EGRESS_CLIENT_KEY is set without MATHUB_EGRESS_CLIENT_CERT": {"MATHUB_EGRESS_CLIENT_CERT", ""},
		"must be PEM files with a certificate and its unencrypted key":      {"MATHUB_EGRESS_CLIENT_CERT", authority.path("ca.pem")},
	} {
		tm := &terminal{env: append(tm.env[:len(tm.env):len(tm.env)], wrong[0]+"="+wrong[1])}
		stdout, stderr, code := tm.run(t, "worker")
		require.NotZero(t, code)
		require.Contains(t, stdout+stderr, name)
		require.NotContains(t, stdout+stderr, proxyPassword)
	}
}

// ownFaults are the attempts that a worker could not make.
func ownFaults(t *testing.T, admin string) (n int) {
	for line := range strings.Lines(string(fetch(t, "http://"+admin+"/metrics"))) {
		if value, ok := strings.CutPrefix(line, "mathub_delivery_errors_total "); ok {
			_, err := fmt.Sscan(value, &n)
			require.NoError(t, err)
		}
	}
	return n
}

// startMutualTLS serves a receiver over TLS to who has a client certificate of ours.
func startMutualTLS(t *testing.T, authority, ours *authority, receiver http.Handler) string {
	server := httptest.NewUnstartedServer(receiver)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of checks that it takes connections
	server.TLS = &tls.Config{Certificates: []tls.Certificate{authority.cert}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: ours.pool}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// tinyproxy is an HTTP proxy of Debian's.
type tinyproxy struct {
	address, file string
	stdout        *lines
	stop          func() int
}

func startTinyproxy(t *testing.T) *tinyproxy {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	p := &tinyproxy{address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), file: filepath.Join(t.TempDir(), "tinyproxy.conf")}
	require.NoError(t, os.WriteFile(p.file, fmt.Appendf(nil, "Listen 127.0.0.1\nPort %d\nAllow 127.0.0.1\nBasicAuth mathub %s\nTimeout 60\n", port, proxyPassword), 0o600))
	p.start(t)
	return p
}

func (p *tinyproxy) start(t *testing.T) {
	t.Helper()
	p.stdout, _, p.stop = (&terminal{env: os.Environ()}).start(t, testkit.Tool(t, "tinyproxy"), "-d", "-c", p.file)
	awaitListener(t, p.address)
}

// startMicrosocks starts a SOCKS5 proxy of Debian's, and returns its address.
func startMicrosocks(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	(&terminal{env: os.Environ()}).start(t, testkit.Tool(t, "microsocks"), "-i", "127.0.0.1", "-p", strconv.Itoa(port), "-u", "mathub", "-P", proxyPassword)
	awaitListener(t, address)
	return address
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	}, 3*time.Minute, 20*time.Millisecond, "nobody listens at %s", address)
}
