package portal_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"golang.org/x/net/html"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/testutil"
)

const serviceToken = "service-token"

// site is the API with its portal, on a real listener and a real Postgres.
type site struct {
	t    testing.TB
	url  string
	pool *pgxpool.Pool
	bots *bots.Service
}

func newSite(t testing.TB, change func(*api.Config)) *site {
	t.Helper()
	temporal, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	cfg := api.Config{
		Pool: dbtest.New(t), Temporal: temporal, Keyset: keyset, ServiceToken: serviceToken, Version: "test",
		Logger: slog.New(slog.DiscardHandler), Now: testutil.NewClock().Now,
	}
	if change != nil {
		change(&cfg)
	}
	handler, err := api.New(cfg)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &site{t, server.URL, cfg.Pool, &bots.Service{Pool: cfg.Pool, Keyset: keyset}}
}

// bot makes a bot and a key.
func (s *site) bot() (id, key string) {
	s.t.Helper()
	bot, err := s.bots.Create(s.t.Context(), bots.New{Name: "euler"})
	require.NoError(s.t, err)
	_, key, err = s.bots.CreateKey(s.t.Context(), bot.ID, "")
	require.NoError(s.t, err)
	_, err = s.pool.Exec(s.t.Context(), "UPDATE bots SET created_at = now() - interval '1 day' WHERE id = $1", bot.ID) // before the tests' events
	require.NoError(s.t, err)
	return bot.ID, key
}

// browser keeps cookies, and follows no redirect.
type browser struct {
	*site
	client *http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &browser{s, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request as a page of the portal would; headers are pairs.
func (b *browser) do(method, path string, form url.Values, headers ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		}
	}
	resp, err := b.client.Do(req)
	require.NoError(b.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && resp.Header.Get("Content-Encoding") == "" {
		balanced(b.t, string(body))
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// balanced holds a page to tags that are each closed where they were opened: a browser would mend others in its own way.
func balanced(t testing.TB, page string) {
	t.Helper()
	var open []string
	for tokens := html.NewTokenizer(strings.NewReader(page)); ; {
		switch tokens.Next() {
		case html.ErrorToken:
			require.ErrorIs(t, tokens.Err(), io.EOF)
			require.Empty(t, open, "never closed")
			return
		case html.StartTagToken:
			name, _ := tokens.TagName()
			if !slices.Contains([]string{"br", "hr", "input", "link", "meta", "img"}, string(name)) {
				open = append(open, string(name))
			}
		case html.EndTagToken:
			name, _ := tokens.TagName()
			require.NotEmpty(t, open, "</%s> closes nothing", name)
			require.Equal(t, open[len(open)-1], string(name), "what </%s> closes, within %v", name, open)
			open = open[:len(open)-1]
		}
	}
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.do(http.MethodGet, path, nil) }

func (b *browser) post(path string, form url.Values) answer {
	b.t.Helper()
	return b.do(http.MethodPost, path, form)
}

// link makes a link by the API, and returns its code.
func (s *site) link(botID string) string {
	s.t.Helper()
	got := s.browser().do(http.MethodPost, "/api/internal/v1/bots/"+botID+"/portal-links", nil, "Authorization", "Bearer "+serviceToken, "Content-Type", "")
	require.Equal(s.t, http.StatusCreated, got.status, got.body)
	_, code, _ := strings.Cut(got.body, "#")
	return code[:43]
}

// signIn opens the portal by a new link.
func (s *site) signIn(botID string, role bots.Role) *browser {
	s.t.Helper()
	code, _, err := s.bots.CreatePortalLink(s.t.Context(), botID, bots.PortalLink{Role: role})
	require.NoError(s.t, err)
	b := s.browser()
	got := b.post("/portal/session", url.Values{"code": {code}})
	require.Equal(s.t, http.StatusSeeOther, got.status, got.body)
	return b
}

func TestASkeletonOfPages(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	b := s.browser()
	require.Contains(t, b.get("/").body, `href="/portal/"`)
	require.Equal(t, http.StatusUnauthorized, b.get("/portal/webhooks").status)
	got := b.post("/portal/session", url.Values{"key": {key}, "next": {"/portal/settings"}})
	require.Equal(t, http.StatusSeeOther, got.status, got.body)
	require.Equal(t, "/portal/settings?signed-in=1", got.header.Get("Location"))
	require.Contains(t, b.get("/portal/settings").body, "this one")
	viewer := s.signIn(id, bots.View)
	require.Contains(t, viewer.get("/portal/webhooks").body, "view only")
	require.Equal(t, http.StatusForbidden, viewer.post("/portal/settings/sessions/"+id+"/end", nil).status)
	require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, "/portal/sign-out", nil, "Sec-Fetch-Site", "cross-site").status)
	require.Equal(t, http.StatusSeeOther, b.post("/portal/sign-out", nil).status)
	require.Equal(t, http.StatusUnauthorized, b.get("/portal/webhooks").status)
}
