package portal_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/portal"
)

// routes are all of the portal's.
func routes(t *testing.T) []portal.Route {
	t.Helper()
	all, err := portal.Routes(portal.Config{})
	require.NoError(t, err)
	require.Greater(t, len(all), 10)
	return all
}

// at is a route's path, with ids.
func at(pattern, webhookID string) string {
	return strings.NewReplacer("{$}", "", "{id}", webhookID, "{deliveryID}", uuid.NewString(), "{eventID}", "e1", "{hash}", "0", "{name}", "portal.css").Replace(pattern)
}

const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// TestEveryAnswerHasThePolicy, also one that refuses.
func TestEveryAnswerHasThePolicy(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	for _, b := range []*browser{s.browser(), s.signIn(id, bots.View), s.signIn(id, bots.Manage)} {
		for _, r := range routes(t) {
			got := b.do(r.Method, at(r.Pattern, uuid.NewString()), nil)
			require.Equal(t, []string{policy}, got.header.Values("Content-Security-Policy"), "%v", r)
			require.Equal(t, "nosniff", got.header.Get("X-Content-Type-Options"))
			require.Equal(t, "no-referrer", got.header.Get("Referrer-Policy"))
			require.Equal(t, "no-store", got.header.Get("Cache-Control"), "%v", r)
			require.Less(t, got.status, 500, "%v: %s", r, got.body)
			if r.Method == http.MethodPost && strings.Contains(r.Pattern, "sign-out") {
				b = s.signIn(id, bots.Manage)
			}
		}
		got := b.do("DELETE", "/portal/webhooks", nil)
		require.Equal(t, policy, got.header.Get("Content-Security-Policy"))
	}
}

// TestAViewerChangesNothing: 403 on every action but to sign out and to choose a theme.
func TestAViewerChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	viewer, manager := s.signIn(id, bots.View), s.signIn(id, bots.Manage)
	hook := strings.TrimPrefix(manager.subscribe(hookForm()), list+"/")
	refused := 0
	for _, r := range routes(t) {
		if r.Method != http.MethodPost || r.Pattern == "/portal/theme" || r.Pattern == "/portal/sign-out" || r.Pattern == "/portal/session" {
			continue
		}
		got := viewer.post(at(r.Pattern, hook), url.Values{"url": {"https://x.example/"}, "events": {"mention"}, "kind": {"generated"}, "name": {"x"}})
		require.Equal(t, http.StatusForbidden, got.status, "%v: %s", r, got.body)
		require.False(t, r.Viewers || r.Anybody, "%v", r)
		refused++
	}
	require.Greater(t, refused, 5)
	require.Equal(t, http.StatusSeeOther, viewer.post("/portal/theme", url.Values{"theme": {"dark"}}).status)
	require.Contains(t, viewer.get("/portal/settings").body, `data-theme="dark"`)
	require.Equal(t, http.StatusSeeOther, viewer.post("/portal/sign-out", nil).status)
}

// TestNothingIsChangedFromElsewhere: an action that another site's page asks for, or that names another origin, is refused
// before anything else.
func TestNothingIsChangedFromElsewhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	b := s.signIn(id, bots.Manage)
	for _, r := range routes(t) {
		if r.Method != http.MethodPost {
			continue
		}
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site"},
			{"Sec-Fetch-Site", "same-site"},
			{"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
			{"Sec-Fetch-Site", "", "Origin", "null"},
			{"Sec-Fetch-Site", "", "Origin", strings.Replace(b.url, "http:", "https:", 1) + ".evil.example"},
		} {
			got := b.do(http.MethodPost, at(r.Pattern, uuid.NewString()), url.Values{"key": {key}}, headers...)
			require.Equal(t, http.StatusForbidden, got.status, "%v %v", r, headers)
			require.Contains(t, got.body, "another site")
			require.Empty(t, got.header.Values("Set-Cookie"))
		}
	}
	require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status)
}

// TestAnotherBotsIDsAreNotFound, exactly as ids that do not exist.
func TestAnotherBotsIDsAreNotFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	other, _ := s.bot()
	owner, stranger := s.signIn(id, bots.Manage), s.signIn(other, bots.Manage)
	hook := strings.TrimPrefix(owner.subscribe(hookForm()), list+"/")
	form := url.Values{"url": {"https://x.example/"}, "events": {"mention"}, "kind": {"generated"}, "host": {"bots.example.org"}, "eventType": {"test"}, "since": {"1"}}
	sessions, err := s.bots.PortalSessions(t.Context(), id)
	require.NoError(t, err)
	keys, err := s.bots.Keys(t.Context(), id)
	require.NoError(t, err)
	seen := 0
	for _, r := range routes(t) {
		if !strings.Contains(r.Pattern, "{id}") {
			continue
		}
		seen++
		theirs := hook
		switch {
		case strings.Contains(r.Pattern, "/keys/"):
			theirs = keys[0].ID.String()
		case strings.Contains(r.Pattern, "/sessions/"):
			theirs = sessions[0].ID.String()
		}
		got := stranger.do(r.Method, at(r.Pattern, theirs), form)
		require.Equal(t, http.StatusNotFound, got.status, "%v: %s", r, got.body)
		none := stranger.do(r.Method, at(r.Pattern, uuid.NewString()), form)
		require.Equal(t, http.StatusNotFound, none.status, "%v", r)
		require.NotContains(t, got.body, "bots.example.org")
	}
	require.Greater(t, seen, 5)
	require.Equal(t, http.StatusOK, owner.get(list+"/"+hook).status, "it is still there")
}

// TestALinkWorksOnce, however many use it at once, and not after its time.
func TestALinkWorksOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	code, _, err := s.bots.CreatePortalLink(t.Context(), id, bots.PortalLink{Role: bots.View, Label: "Ada", Next: "/portal/settings"})
	require.NoError(t, err)
	for range 3 { // looking does not use it up
		require.Equal(t, http.StatusOK, s.browser().get("/portal/open").status)
	}
	var opened atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		b := s.browser()
		all.Go(func() {
			if got := b.post("/portal/session", url.Values{"code": {b.url + "/portal/open#" + code + " "}}); got.status == http.StatusSeeOther {
				opened.Add(1)
				if to := got.header.Get("Location"); to != "/portal/settings?signed-in=1" {
					t.Errorf("it leads to %s", to)
				}
			} else if got.status != http.StatusUnauthorized {
				t.Errorf("%d: %s", got.status, got.body)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, opened.Load())
	var stored int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM portal_links").Scan(&stored))
	require.Zero(t, stored)

	late, _, err := s.bots.CreatePortalLink(t.Context(), id, bots.PortalLink{Role: bots.Manage})
	require.NoError(t, err)
	s.execute("UPDATE portal_links SET expires_at = now()")
	require.Equal(t, http.StatusUnauthorized, s.browser().post("/portal/session", url.Values{"code": {late}}).status)
	require.NoError(t, s.bots.RemoveExpiredPortal(t.Context()))
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM portal_links").Scan(&stored))
	require.Zero(t, stored)
}

// TestASessionEnds with its time, its idleness, its key, its bot and a suspension, and does not come back.
func TestASessionEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	no, yes := false, true
	for name, end := range map[string]func(id string, key bots.Key){
		"twelve hours": func(id string, _ bots.Key) {
			s.execute("UPDATE portal_sessions SET created_at = now() - interval '12 hours' WHERE bot_id = $1", id)
		},
		"two hours idle": func(id string, _ bots.Key) {
			s.execute("UPDATE portal_sessions SET last_used_at = now() - interval '2 hours' WHERE bot_id = $1", id)
		},
		"its key":   func(id string, key bots.Key) { require.NoError(t, s.bots.RevokeKey(t.Context(), id, key.ID)) },
		"its bot":   func(id string, _ bots.Key) { s.execute("DELETE FROM bots WHERE id = $1", id) },
		"all of it": func(id string, _ bots.Key) { require.NoError(t, s.bots.EndPortal(t.Context(), id)) },
		"suspension": func(id string, _ bots.Key) {
			_, err := s.bots.Update(t.Context(), id, bots.Change{IsActive: &no})
			require.NoError(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bot, err := s.bots.Create(t.Context(), bots.New{Name: "euler"})
			require.NoError(t, err)
			key, secret, err := s.bots.CreateKey(t.Context(), bot.ID, "")
			require.NoError(t, err)
			b := s.browser()
			require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"key": {secret}}).status)
			link, _, err := s.bots.CreatePortalLink(t.Context(), bot.ID, bots.PortalLink{Role: bots.Manage, KeyID: key.ID})
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, b.get("/portal/settings").status)
			end(bot.ID, key)
			want := http.StatusUnauthorized
			if name == "suspension" {
				want = http.StatusForbidden
			}
			require.Equal(t, want, b.get("/portal/settings").status)
			require.Equal(t, want, b.post("/portal/settings/keys", nil).status)
			if strings.HasPrefix(name, "its") || name == "all of it" {
				require.Equal(t, http.StatusUnauthorized, s.browser().post("/portal/session", url.Values{"code": {link}}).status, "the links that the key made end as well")
			}
			if name == "suspension" {
				sessions, err := s.bots.PortalSessions(t.Context(), bot.ID)
				require.NoError(t, err)
				require.Empty(t, sessions)
				_, err = s.bots.Update(t.Context(), bot.ID, bots.Change{IsActive: &yes})
				require.NoError(t, err)
				require.Equal(t, http.StatusUnauthorized, b.get("/portal/settings").status)
			}
		})
	}
	require.NoError(t, s.bots.RemoveExpiredPortal(t.Context()))
	var left int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM portal_sessions").Scan(&left))
	require.Zero(t, left)
}

// TestAPageThatIsLiveDoesNotKeepItsSession: its reader does.
func TestAPageThatIsLiveDoesNotKeepItsSession(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	s.execute("UPDATE portal_sessions SET last_used_at = now() - interval '119 minutes'")
	got := b.do(http.MethodGet, "/portal/webhooks", nil, "Mathub-Live", "1")
	require.Equal(t, http.StatusOK, got.status)
	tag := got.header.Get("ETag")
	require.NotEmpty(t, tag)
	require.Equal(t, http.StatusNotModified, b.do(http.MethodGet, "/portal/webhooks", nil, "Mathub-Live", "1", "If-None-Match", tag).status)
	var idle bool
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT last_used_at < now() - interval '1 hour' FROM portal_sessions").Scan(&idle))
	require.True(t, idle)
	require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status)
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT last_used_at < now() - interval '1 hour' FROM portal_sessions").Scan(&idle))
	require.False(t, idle)
}

// TestTheCookie is of this host alone, read by no script, and sent by https alone but on one's own machine.
func TestTheCookie(t *testing.T) {
	t.Parallel()
	proxied := func(cfg *api.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }
	embedded := func(cfg *api.Config) {
		proxied(cfg)
		cfg.Portal.Embed = []string{"https://mathub.example"}
	}
	for name, c := range map[string]struct {
		change func(*api.Config)
		host   string
		https  string
		want   string
	}{
		"loopback":          {nil, "127.0.0.1:8080", "", "mathub-portal=; Path=/; HttpOnly; SameSite=Lax"},
		"localhost":         {nil, "localhost", "", "mathub-portal=; Path=/; HttpOnly; SameSite=Lax"},
		"any other host":    {nil, "hooks.example", "", "__Host-mathub-portal=; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"loopback https":    {proxied, "localhost:8443", "https", "__Host-mathub-portal=; Path=/; HttpOnly; Secure; SameSite=Lax"},
		"nobody's header":   {nil, "localhost", "https", "mathub-portal=; Path=/; HttpOnly; SameSite=Lax"},
		"embedded":          {embedded, "hooks.example", "https", "__Host-mathub-portal=; Path=/; HttpOnly; Secure; SameSite=None; Partitioned"},
		"embedded, by http": {embedded, "localhost", "", "mathub-portal=; Path=/; HttpOnly; SameSite=Lax"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, c.change)
			_, key := s.bot()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/portal/session", strings.NewReader(url.Values{"key": {key}}.Encode()))
			require.NoError(t, err)
			req.Host = c.host
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Sec-Fetch-Site", "same-origin")
			req.Header.Set("X-Forwarded-Proto", c.https)
			resp, err := http.DefaultTransport.RoundTrip(req)
			require.NoError(t, err)
			defer func() { _ = resp.Body.Close() }()
			require.Equal(t, http.StatusSeeOther, resp.StatusCode)
			cookies := resp.Header.Values("Set-Cookie")
			require.Len(t, cookies, 1)
			name, rest, _ := strings.Cut(cookies[0], "=")
			value, attributes, _ := strings.Cut(rest, "; ")
			require.Equal(t, c.want, name+"=; "+attributes)
			require.Len(t, value, 43, "256 bits")
			var known int
			require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM portal_sessions WHERE token_hash = sha256($1::bytea)", []byte(value)).Scan(&known))
			require.Equal(t, 1, known, "only its hash is stored")
			if strings.HasPrefix(c.want, "__Host") && c.change != nil && c.host == "hooks.example" {
				require.Contains(t, resp.Header.Get("Content-Security-Policy"), "frame-ancestors https://mathub.example;")
			}
		})
	}
}

// TestNextLeadsNowhereElse.
func TestNextLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	_, key := s.bot()
	for next, to := range map[string]string{
		"/portal/deliveries?a=b": "/portal/deliveries?a=b&signed-in=1", "": "/portal/webhooks?signed-in=1", "https://evil.example/portal/": "/portal/webhooks?signed-in=1",
		"//evil.example/portal/": "/portal/webhooks?signed-in=1", "/portal/../docs": "/portal/webhooks?signed-in=1", `/portal\..\x`: "/portal/webhooks?signed-in=1",
		"/portalevil": "/portal/webhooks?signed-in=1", "javascript:alert(1)": "/portal/webhooks?signed-in=1", "/portal/\r\nSet-Cookie: a=b": "/portal/webhooks?signed-in=1",
	} {
		got := s.browser().post("/portal/session", url.Values{"key": {key}, "next": {next}})
		require.Equal(t, http.StatusSeeOther, got.status)
		require.Equal(t, to, got.header.Get("Location"), next)
	}
}

// TestStaticFilesAreKept, by what they hold.
func TestStaticFilesAreKept(t *testing.T) {
	t.Parallel()
	b := newSite(t, nil).browser()
	page := b.get("/portal/").body
	for _, name := range []string{"portal.css", "portal.js", "icon.svg"} {
		_, rest, found := strings.Cut(page, `/portal/static/`)
		for found && !strings.HasPrefix(rest[17:], name) {
			_, rest, found = strings.Cut(rest, `/portal/static/`)
		}
		require.True(t, found, name)
		got := b.do(http.MethodGet, "/portal/static/"+rest[:17]+name, nil, "Accept-Encoding", "gzip")
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, "public, max-age=31536000, immutable", got.header.Get("Cache-Control"))
		require.Equal(t, "gzip", got.header.Get("Content-Encoding"))
		require.Equal(t, "no-store", b.get("/portal/static/0000000000000000/"+name).header.Get("Cache-Control"), "of another version")
	}
	require.Equal(t, http.StatusNotFound, b.get("/portal/static/0/secrets").status)
}

// TestThePortalIsOff: the index and the docs stay.
func TestThePortalIsOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(cfg *api.Config) { cfg.Portal.Off = true })
	_, key := s.bot()
	b := s.browser()
	require.NotContains(t, b.get("/").body, `href="/portal/"`)
	require.Equal(t, http.StatusNotFound, b.get("/portal/").status)
	require.NotEqual(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"key": {key}}).status)
	require.Equal(t, http.StatusOK, b.get("/docs").status)
}
