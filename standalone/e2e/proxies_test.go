package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// origin is a receiver behind the proxies.
type origin struct {
	name  string
	port  int
	http2 bool // and not HTTP/1.1, without TLS
}

// TestReceiversBehindProxies: what the product sends arrives through real proxies, with TLS and HTTP/2 outside, as it was signed, in each
// handler of the three packages; and what they answer comes back.
func TestReceiversBehindProxies(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"SSL_CERT_FILE": authority.path("ca.pem")}})
	bot := stack.API().CreateBot(t, "behind")
	origins, prints := startOrigins(t, stack, bot)
	proxies := map[string]string{"nginx": startNginx(t, authority, origins), "caddy": startCaddy(t, authority, origins), "edge": startEdge(t, authority, origins)}

	hooks := map[string]testkit.Webhook{}
	for proxy, at := range proxies {
		for _, o := range origins {
			if proxy != "nginx" || !o.http2 { // which it does not speak to those behind it
				hooks[proxy+" to "+o.name] = bot.CreateWebhook(t, at+"/"+o.name+"/", examplesSecret, post)
			}
		}
	}
	text := strings.Repeat("größer ≥ \"<&>\" \u2028 ", 5000) // more than a proxy buffers
	data, err := json.Marshal(map[string]any{"body": text, "n": json.Number("12345678901234567890")})
	require.NoError(t, err)
	sent := bot.Emit(t, testkit.Event{Type: post, Data: data})
	for path, hook := range hooks {
		t.Run(path, func(t *testing.T) {
			delivery := bot.AwaitDeliveries(t, hook.ID, 1)[0]
			require.True(t, delivery.Success, "%v", delivery)
			require.Equal(t, http.StatusNoContent, *delivery.StatusCode)
			asked := bot.Verify(t, hook.ID)
			require.True(t, asked.Success, "its answer comes back: %v", asked.Error)
			require.Equal(t, http.StatusUnauthorized, authority.replay(t, hook.URL), "a replay under another id")
		})
	}
	for _, o := range origins {
		prints.await(t, fmt.Sprintf("%s %s", o.name, sent.ID))
	}
}

// startOrigins starts all receivers.
func startOrigins(t *testing.T, stack *testkit.Stack, bot *testkit.Bot) ([]origin, *printed) {
	var all []origin
	add := func(names ...string) (ports []string) {
		for _, name := range names {
			port, err := freeport.Find()
			require.NoError(t, err)
			all = append(all, origin{name, port, strings.HasSuffix(name, "http2")})
			ports = append(ports, strconv.Itoa(port))
		}
		return ports
	}
	prints := &printed{}
	start := func(tm *terminal, command string, args ...string) {
		stdout, stderr, stop := tm.start(t, command, args...)
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(stderr.String())
			}
			stop()
		})
		prints.of = append(prints.of, stdout.String)
	}
	p := installPackage(t, stack, bot)
	for _, other := range []string{"express", "fastify"} {
		require.NoError(t, os.Symlink(filepath.Join(p.source, "node_modules", other), filepath.Join(p.dir, "node_modules", other)))
	}
	source, err := os.ReadFile(filepath.Join("testdata", "proxies", "receivers.mjs"))
	require.NoError(t, err)
	program := filepath.Join(p.dir, "receivers.mjs")
	require.NoError(t, os.WriteFile(program, source, 0o600))
	start(p.tm, testkit.Tool(t, "node"), append([]string{program, examplesSecret}, add("node", "node-http2", "express", "fastify", "fetch")...)...)

	python := &terminal{env: append(os.Environ(), "PYTHONPATH="+filepath.Join(testkit.Root(t), "clients", "python"), "PYTHONDONTWRITEBYTECODE=1")}
	program = filepath.Join("testdata", "proxies", "receivers.py")
	start(python, testkit.Tool(t, "python3"), append([]string{program, examplesSecret}, add("http.server", "flask", "fastapi", "django")...)...)

	add("go", "go-http2")
	for _, o := range all[len(all)-2:] {
		prints.of = append(prints.of, serveGo(t, o))
	}
	for _, o := range all {
		require.Eventually(t, func() bool {
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)))
			return err == nil && conn.Close() == nil
		}, 3*time.Minute, 20*time.Millisecond, "%s does not listen", o.name)
	}
	return all, prints
}

// printed is what several programs have printed.
type printed struct{ of []func() string }

func (p *printed) await(t *testing.T, line string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, text := range p.of {
			if strings.Contains(text(), line) {
				return true
			}
		}
		return false
	}, 3*time.Minute, 20*time.Millisecond, line)
}

// serveGo serves the Go package's handler, and returns what it has handled.
func serveGo(t *testing.T, o origin) func() string {
	receiver, err := mathub.NewReceiver("old", examplesSecret)
	require.NoError(t, err)
	handled := make(chan string, 100)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!o.http2)
	protocols.SetUnencryptedHTTP2(o.http2)
	server := &http.Server{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)), Protocols: protocols, ReadTimeout: time.Minute, Handler: receiver.Handler(func(_ context.Context, event mathub.Received) error {
		handled <- o.name + " " + event.ID
		return nil
	})}
	go server.ListenAndServe() //nolint:errcheck // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	var seen strings.Builder
	return func() string {
		for len(handled) > 0 {
			seen.WriteString(<-handled + "\n")
		}
		return seen.String()
	}
}

// authority issues the proxies' certificates.
type authority struct {
	dir  string
	pool *x509.CertPool
	cert tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir(), pool: x509.NewCertPool()}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxies"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certificate, secret := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	require.NoError(t, os.WriteFile(a.path("ca.pem"), certificate, 0o600))
	require.NoError(t, os.WriteFile(a.path("key.pem"), secret, 0o600))
	require.True(t, a.pool.AppendCertsFromPEM(certificate))
	a.cert, err = tls.X509KeyPair(certificate, secret)
	require.NoError(t, err)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// replay sends a genuine request under another id, and returns the answer's status.
func (a *authority) replay(t *testing.T, to string) int {
	t.Helper()
	body := []byte(`{"event":"post.created","data":{}}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header = mathub.Sign(body, examplesSecret, "evt_1", time.Now())
	request.Header.Set("webhook-id", "evt_2")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}, DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// startProxy runs a proxy on a configuration, which names its port, the certificates' folder and its own, and returns its URL.
func startProxy(t *testing.T, a *authority, configuration string, command func(file string) []string) string {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "configuration")
	require.NoError(t, os.WriteFile(file, []byte(strings.NewReplacer("PORT", strconv.Itoa(port), "DIR", a.dir, "OWN", filepath.Dir(file)).Replace(configuration)), 0o600))
	args := command(file)
	tm := &terminal{env: append(os.Environ(), "HOME="+filepath.Dir(file), "XDG_DATA_HOME="+filepath.Dir(file), "XDG_CONFIG_HOME="+filepath.Dir(file))}
	_, stderr, stop := tm.start(t, args[0], args[1:]...)
	t.Cleanup(func() { stop() })
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	require.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: a.pool})
		return err == nil && conn.Close() == nil
	}, 3*time.Minute, 20*time.Millisecond, "%s does not listen: %s", args[0], stderr)
	return "https://" + address
}

func startNginx(t *testing.T, a *authority, origins []origin) string {
	var locations strings.Builder
	for i, o := range origins {
		fmt.Fprintf(&locations, "location /%s/ { proxy_pass http://127.0.0.1:%d/; proxy_http_version 1.%d; }\n", o.name, o.port, i%2) // 1.0 is its default
	}
	return startProxy(t, a, `
daemon off; master_process off; pid OWN/pid; error_log stderr;
events {}
http {
	access_log off; gzip on; gzip_proxied any; gzip_min_length 1;
	client_body_buffer_size 8k; client_body_temp_path OWN/body; proxy_temp_path OWN/proxy; fastcgi_temp_path OWN/fastcgi; uwsgi_temp_path OWN/uwsgi; scgi_temp_path OWN/scgi;
	server {
		listen 127.0.0.1:PORT ssl http2; ssl_certificate DIR/ca.pem; ssl_certificate_key DIR/key.pem;
		`+locations.String()+`
	}
}`, func(file string) []string {
		return []string{testkit.Tool(t, "nginx"), "-e", "stderr", "-p", filepath.Dir(file), "-c", file}
	})
}

func startCaddy(t *testing.T, a *authority, origins []origin) string {
	var routes strings.Builder
	for _, o := range origins {
		scheme := "http"
		if o.http2 {
			scheme = "h2c"
		}
		fmt.Fprintf(&routes, "\thandle_path /%s/* {\n\t\treverse_proxy %s://127.0.0.1:%d\n\t}\n", o.name, scheme, o.port)
	}
	return startProxy(t, a, "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers {\n\t\tprotocols h1 h2\n\t}\n}\nhttps://127.0.0.1:PORT {\n\tbind 127.0.0.1\n\ttls DIR/ca.pem DIR/key.pem\n\tencode gzip\n"+routes.String()+"}\n",
		func(file string) []string {
			return []string{testkit.Tool(t, "caddy"), "run", "--adapter", "caddyfile", "--config", file}
		})
}

// startEdge serves a proxy that does to a request what a content delivery network may: other cases and another order of headers, some more of
// them, and a body in chunks of other sizes.
func startEdge(t *testing.T, a *authority, origins []origin) string {
	routes := http.NewServeMux()
	for _, o := range origins {
		target := &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)), Path: "/"}
		var way http.RoundTripper = chunking{}
		if o.http2 {
			protocols := new(http.Protocols)
			protocols.SetUnencryptedHTTP2(true)
			way = &http.Transport{Protocols: protocols}
		}
		proxy := &httputil.ReverseProxy{Transport: way, Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL, r.Out.Host = target, ""
			r.SetXForwarded()
			for name, value := range map[string]string{"Accept-Encoding": "gzip, br", "CDN-Loop": "edge", "CF-Connecting-IP": "203.0.113.7", "Cf-Visitor": `{"scheme":"https"}`} {
				r.Out.Header.Set(name, value)
			}
		}}
		routes.Handle("/"+o.name+"/", proxy)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{a.cert}, NextProtos: []string{"h2", "http/1.1"}})
	require.NoError(t, err)
	server := &http.Server{Handler: routes, ReadTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	return "https://" + listener.Addr().String()
}

// chunking sends a request over a connection of its own: last header first, in capitals or small letters, the body in chunks.
type chunking struct{}

// RoundTrip is that of http.RoundTripper.
func (chunking) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	fmt.Fprintf(&raw, "%s %s HTTP/1.1\r\nHost: %s\r\ntransfer-encoding: chunked\r\nCONNECTION: close\r\n", r.Method, r.URL.Path, r.URL.Host)
	cases := []func(string) string{strings.ToUpper, strings.ToLower}
	for name, values := range r.Header { // in no order
		if name == "Content-Length" {
			continue
		}
		for i, value := range values {
			fmt.Fprintf(&raw, "%s:%s  \r\n", cases[(i+len(name))%2](name), value)
		}
	}
	raw.WriteString("\r\n")
	for size := 1; len(body) > 0; size = 3*size + 1 {
		part := body[:min(size, len(body))]
		fmt.Fprintf(&raw, "%X\r\n%s\r\n", len(part), part)
		body = body[len(part):]
	}
	raw.WriteString("0\r\n\r\n")
	conn, err := new(net.Dialer).DialContext(r.Context(), "tcp", r.URL.Host)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(raw.Bytes()); err != nil {
		_ = conn.Close()
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	response.Body = closing{response.Body, conn}
	return response, nil
}

// closing closes the connection with the body.
type closing struct {
	io.ReadCloser
	conn net.Conn
}

// Close is that of io.Closer.
func (c closing) Close() error {
	_ = c.ReadCloser.Close()
	return c.conn.Close()
}
