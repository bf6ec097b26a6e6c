package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
)

// raw sends a request line as it is, which Go's client would tidy, and returns the answer's status and body.
func raw(t *testing.T, url, method, target, token string) (int, string) {
	t.Helper()
	addr := strings.TrimPrefix(url, "http://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = io.WriteString(conn, method+" "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

// TestPathsAreTakenAsTheyAreWritten: a proxy that refuses /api/internal/ by what is written must not be got around.
func TestPathsAreTakenAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	const bot = "/api/internal/v1/bots/none"
	status, _ := raw(t, a.url, "GET", bot, serviceToken)
	require.Equal(t, http.StatusNotFound, status, "let in: there is no such bot")
	// Not of the service API as they are written, so that they must not lead there, and not ask for its token either.
	for _, target := range []string{
		"/api/%69nternal/v1/bots/none", "/api/%49nternal/v1/bots/none", "/%61pi/internal/v1/bots/none", "/api%2finternal/v1/bots/none", "/api%2Finternal%2Fv1/bots/none",
		"/api/internal%00/v1/bots/none", "/api/%2569nternal/v1/bots/none", "/api/./internal/v1/bots/none", "/api/%2e/internal/v1/bots/none", "//api/internal/v1/bots/none",
		"/api//internal/v1/bots/none", "/api/internal//v1/bots/none", "/api/internal;x=1/v1/bots/none", "/api;/internal/v1/bots/none", "/api\\internal/v1/bots/none",
		"/api/internal%5cv1/bots/none", "/api/internal%2fv1/bots/none", "/api/internal/%761/bots/none", "/x/../api/internal/v1/bots/none", "/%2e%2e/api/internal/v1/bots/none",
		"/docs/../api/internal/v1/bots/none", "/..;/api/internal/v1/bots/none", "/API/internal/v1/bots/none", "/api/\xc3\xafnternal/v1/bots/none", "/.", "//", "//docs",
		"/./healthz", "/%68ealthz", "/health%7a", "/healthz%2f", "/healthz;", "http://h//api/internal/v1/bots/none", "http://h/api/%69nternal/v1/bots/none",
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "DELETE", "PATCH"} {
			for _, token := range []string{serviceToken, "wrong"} {
				status, body := raw(t, a.url, method, target, token)
				want := http.StatusNotFound
				if strings.HasPrefix(target, "/docs/") && method != http.MethodGet && method != http.MethodHead { // a page that is not there, to be read only
					want = http.StatusMethodNotAllowed
				}
				require.Equal(t, want, status, "%s %s: %s", method, target, body)
			}
		}
	}
	// Of the bot API as they are written.
	for _, target := range []string{"/api/bot/v1/../../internal/v1/bots/none", "/api/bot/v1/%2e%2e/%2e%2e/internal/v1/bots/none", "/api/bot/v1/webhooks/..%2f..%2f..%2finternal%2fv1%2fbots%2fnone"} {
		status, body := raw(t, a.url, "GET", target, serviceToken)
		require.Equal(t, http.StatusUnauthorized, status, "%s: %s", target, body)
	}
	// An id is one whatever it is written like, and never a path.
	id, _ := a.bot()
	for target, want := range map[string]int{
		bot: http.StatusNotFound, "http://h" + bot: http.StatusNotFound, "/api/internal/v1/bots/" + id: http.StatusOK, "/api/internal/v1/bots/%" + fmt.Sprintf("%x", id[0]) + id[1:]: http.StatusOK,
		"/api/internal/v1/bots/x%2f..%2f" + id: http.StatusNotFound, "/api/internal/v1/bots/" + id + "%2fkeys": http.StatusNotFound, "/api/internal/v1/bots/" + id + ";a=b": http.StatusNotFound,
		"/api/internal/v1/bots/" + id + "/": http.StatusNotFound, "/api/internal/v1/bots/x/../" + id: http.StatusNotFound, "/api/internal/v1/bots/%ff": http.StatusNotFound,
		"/healthz": http.StatusOK, "/healthz?a=%2e%2e;//": http.StatusOK, "/openapi.json": http.StatusOK, "/": http.StatusOK,
	} {
		status, body := raw(t, a.url, "GET", target, serviceToken)
		require.Equal(t, want, status, "%s: %s", target, body)
	}
}

// split serves the API in its two parts.
func split(t *testing.T, change func(*api.Config)) (public, backend *testAPI) {
	t.Helper()
	var cfg api.Config
	a := newAPI(t, nil, func(c *api.Config) {
		if change != nil {
			change(c)
		}
		cfg = *c
	})
	strangers, mathub, err := api.NewSplit(cfg)
	require.NoError(t, err)
	of := func(handler http.Handler) *testAPI {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		part := *a
		part.url = server.URL
		return &part
	}
	return of(strangers), of(mathub)
}

// TestTheServiceAPIIsWhereStrangersAreNot: each part has its API alone, and both have health and documents.
func TestTheServiceAPIIsWhereStrangersAreNot(t *testing.T) {
	t.Parallel()
	public, backend := split(t, nil)
	id, key := backend.bot()
	require.Equal(t, http.StatusOK, public.do("GET", webhooksPath, key, nil).status)
	require.Equal(t, http.StatusOK, backend.do("GET", "/api/internal/v1/bots/"+id, serviceToken, nil).status)
	for _, method := range []string{"GET", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"} {
		for _, token := range []string{serviceToken, key, ""} {
			for _, path := range []string{"/api/internal/v1/bots/" + id, "/api/internal/v1/events", "/api/internal/v1/events/batch", "/api/internal/v1/nothing", "/api/internal/v1/"} {
				got := public.do(method, path, token, nil)
				require.Equal(t, http.StatusNotFound, got.status, "%s %s", method, path)
				require.Empty(t, got.header.Get("Allow"))
				require.Empty(t, got.header.Get("WWW-Authenticate"))
			}
			for _, path := range []string{webhooksPath, "/api/bot/v1/events", "/api/bot/v1/nothing"} {
				require.Equal(t, http.StatusNotFound, backend.do(method, path, token, nil).status, "%s %s", method, path)
			}
		}
	}
	for _, part := range []*testAPI{public, backend} {
		for _, path := range []string{"/healthz", "/readyz", "/openapi.json", "/docs"} {
			require.Equal(t, http.StatusOK, part.do("GET", path, "", nil).status, path) // though Temporal is nowhere
		}
	}
}

// TestLinksHaveWhatATrustedProxyCutOff: behind a path prefix, Location, Link and the document lead to where the caller is.
func TestLinksHaveWhatATrustedProxyCutOff(t *testing.T) {
	t.Parallel()
	trusting := func(networks ...string) *testAPI {
		return newAPI(t, nil, func(c *api.Config) {
			for _, network := range networks {
				c.TrustedProxies = append(c.TrustedProxies, netip.MustParsePrefix(network))
			}
		})
	}
	proxied, others, nobody := trusting("127.0.0.0/8"), trusting("10.0.0.0/8"), trusting()
	for name, c := range map[string]struct {
		api    *testAPI
		sent   []string
		prefix string
	}{
		"a prefix":             {proxied, []string{"/hooks"}, "/hooks"},
		"of several names":     {proxied, []string{"/a/b-c/d_e.f~g"}, "/a/b-c/d_e.f~g"},
		"with a slash behind":  {proxied, []string{"/hooks/"}, "/hooks"},
		"none":                 {proxied, nil, ""},
		"empty":                {proxied, []string{""}, ""},
		"the root":             {proxied, []string{"/"}, ""},
		"another host":         {proxied, []string{"//evil.example"}, ""},
		"a URL":                {proxied, []string{"https://evil.example/"}, ""},
		"a backslash":          {proxied, []string{`/\evil.example`}, ""},
		"no slash before":      {proxied, []string{"hooks"}, ""},
		"up":                   {proxied, []string{"/../x"}, ""},
		"here":                 {proxied, []string{"/./x"}, ""},
		"an encoding":          {proxied, []string{"/%2e%2e/x"}, ""},
		"two names for a link": {proxied, []string{`/x>; rel="next", </y`}, ""},
		"a quote":              {proxied, []string{`/x"}], "a": [{"b`}, ""},
		"a query":              {proxied, []string{"/x?y"}, ""},
		"a space":              {proxied, []string{"/x y"}, ""},
		"several":              {proxied, []string{"/a", "/b"}, ""},
		"a list":               {proxied, []string{"/a, /b"}, ""},
		"long":                 {proxied, []string{"/" + strings.Repeat("x", 300)}, ""},
		"nobody is trusted":    {nobody, []string{"/hooks"}, ""},
		"another is trusted":   {others, []string{"/hooks"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.api
			_, key := a.bot()
			send := func(method, path, body string) answer {
				request, err := http.NewRequestWithContext(t.Context(), method, a.url+path, strings.NewReader(body))
				require.NoError(t, err)
				request.Header.Set("Authorization", "Bearer "+key)
				request.Header.Set("Content-Type", "application/json")
				request.Header["X-Forwarded-Prefix"] = c.sent
				return a.send(request)
			}
			created := send("POST", webhooksPath, `{"url": "http://127.0.0.1:9999/", "events": ["post.created"]}`)
			require.Equal(t, http.StatusCreated, created.status, "%s", created.body)
			var hook mathub.Webhook
			created.into(t, &hook)
			require.Equal(t, c.prefix+webhooksPath+"/"+hook.ID, created.header.Get("Location"))

			a.historyOf(hook.ID, 2)
			listed := send("GET", webhooksPath+"/"+hook.ID+"/deliveries?limit=1", "")
			require.Equal(t, http.StatusOK, listed.status)
			require.True(t, strings.HasPrefix(listed.header.Get("Link"), "<"+c.prefix+webhooksPath+"/"+hook.ID+"/deliveries?"), listed.header.Get("Link"))

			document := send("GET", "/openapi.json", "")
			var contract struct{ Servers []struct{ URL string } }
			document.into(t, &contract)
			require.Len(t, contract.Servers, 1)
			if c.prefix == "" {
				require.Equal(t, "/", contract.Servers[0].URL)
			} else {
				require.Equal(t, c.prefix, contract.Servers[0].URL)
			}
			require.True(t, json.Valid(document.body))
		})
	}
}

// TestOneAddressHasItsShare: what it has in progress beyond that is refused at once; others, and Mathub's backend, are not.
// Behind a trusted proxy the address is the client's.
func TestOneAddressHasItsShare(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(c *api.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	id, key := a.bot()
	ask := func(ctx context.Context, client, path, token string) int {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, http.NoBody)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("X-Forwarded-For", client)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return answer.StatusCode
	}
	// Authenticating them needs this table.
	tx, err := a.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	held, letGo := context.WithCancel(t.Context())
	var holding sync.WaitGroup
	for range 500 {
		holding.Go(func() { ask(held, "203.0.113.7", webhooksPath, key) })
	}
	require.Eventually(t, func() bool { return ask(t.Context(), "203.0.113.7", "/healthz", "") == http.StatusTooManyRequests }, 3*time.Minute, 20*time.Millisecond)
	for client, status := range map[string]int{"203.0.113.8": http.StatusOK, "2001:db8::1": http.StatusOK, "203.0.113.7": http.StatusTooManyRequests} {
		require.Equal(t, status, ask(t.Context(), client, "/healthz", serviceToken), client)
	}
	letGo()
	holding.Wait()
	require.NoError(t, tx.Rollback(t.Context()))
	require.Eventually(t, func() bool { return ask(t.Context(), "203.0.113.7", "/healthz", "") == http.StatusOK }, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, http.StatusOK, ask(t.Context(), "203.0.113.7", "/api/internal/v1/bots/"+id, serviceToken))
}
