package api_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// TestPortalLinks: both APIs make links; what is wrong with one is named.
func TestPortalLinks(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	id, key := a.bot()
	service, own := "/api/internal/v1/bots/"+id+"/portal-links", "/api/bot/v1/portal-links"
	for path, token := range map[string]string{service: serviceToken, own: key} {
		for _, body := range []any{nil, map[string]any{}, map[string]any{"role": "view", "ttl": "90s", "next": "/portal/deliveries?x=y", "label": "Ada"}} {
			got := a.do("POST", path, token, body)
			require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
			var link mathub.PortalLink
			got.into(t, &link)
			require.Regexp(t, "^"+a.url+"/portal/open#[A-Za-z0-9_-]{43}$", link.URL)
			require.WithinRange(t, link.ExpiresAt, time.Now().Add(time.Minute), time.Now().Add(10*time.Minute+time.Second))
		}
		for field, values := range map[string][]any{
			"role": {"admin", "", 1}, "ttl": {"0s", "11m", "x", 5}, "label": {strings.Repeat("x", 201), "a\x00"},
			"next": {"https://evil.example/", "//evil.example/portal/", "/portalx", "/portal/../docs", "/portal/%2e%2e/docs", "/portal\\evil", "/portal/x#y", "portal/webhooks", "/portal/\n", "/"},
		} {
			for _, value := range values {
				got := a.do("POST", path, token, map[string]any{field: value})
				require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s %v: %s", field, value, got.body)
				require.Equal(t, []string{field}, got.fields(t))
			}
		}
	}
	require.Equal(t, http.StatusNotFound, a.do("POST", "/api/internal/v1/bots/nobody/portal-links", serviceToken, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("POST", service, key, nil).status)
	require.Equal(t, http.StatusOK, a.do("PATCH", "/api/internal/v1/bots/"+id, serviceToken, map[string]any{"isActive": false}).status)
	require.Equal(t, http.StatusConflict, a.do("POST", service, serviceToken, nil).status)
	require.Equal(t, http.StatusForbidden, a.do("POST", own, key, nil).status)
}

// TestPortalLinksHaveThePublicURL: that of the settings, else that of the request as trusted proxies tell it.
func TestPortalLinksHaveThePublicURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trusted        []netip.Prefix
		public, begins string
	}{
		"of the settings":      {nil, "https://webhooks.mathub.example/x/", "https://webhooks.mathub.example/x/portal/open#"},
		"of a trusted proxy":   {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "", "https://hooks.example/y/portal/open#"},
		"of nobody but itself": {nil, "", "http://hooks.example/portal/open#"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, func(cfg *api.Config) { cfg.TrustedProxies, cfg.PublicURL = c.trusted, c.public })
			_, key := a.bot()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+"/api/bot/v1/portal-links", http.NoBody)
			require.NoError(t, err)
			req.Host = "hooks.example"
			req.Header.Set("Authorization", "Bearer "+key)
			req.Header.Set("X-Forwarded-Proto", "https")
			req.Header.Set("X-Forwarded-Prefix", "/y")
			var link mathub.PortalLink
			a.send(req).into(t, &link)
			require.True(t, strings.HasPrefix(link.URL, c.begins), link.URL)
		})
	}
}

// TestABotSeesItself: its name, its keys and the event types, with its own key.
func TestABotSeesItself(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	id, key := a.bot()
	_, others := a.bot()
	var bot mathub.Bot
	a.do("GET", "/api/bot/v1/bot", key, nil).into(t, &bot)
	require.Equal(t, id, bot.ID)

	var made mathub.Key
	got := a.do("POST", "/api/bot/v1/keys", key, map[string]any{"name": "laptop"})
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	got.into(t, &made)
	require.Equal(t, made.Key[:10], made.Prefix)
	require.Equal(t, "laptop", made.Name)
	require.Equal(t, []string{"name"}, a.do("POST", "/api/bot/v1/keys", key, map[string]any{"name": strings.Repeat("x", 201)}).fields(t))
	list := func() (keys []mathub.KeyInfo) {
		a.do("GET", "/api/bot/v1/keys", key, nil).into(t, &keys)
		return keys
	}
	require.Len(t, list(), 2)
	require.Equal(t, "laptop", list()[1].Name)
	require.Nil(t, list()[1].LastUsedAt)
	require.Eventually(t, func() bool { return list()[0].LastUsedAt != nil }, 3*time.Minute, 20*time.Millisecond, "written beside the calls")

	require.Equal(t, http.StatusNotFound, a.do("DELETE", "/api/bot/v1/keys/"+made.ID, others, nil).status)
	require.Equal(t, http.StatusOK, a.do("GET", "/api/bot/v1/bot", made.Key, nil).status)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", "/api/bot/v1/keys/"+made.ID, key, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", "/api/bot/v1/bot", made.Key, nil).status)

	var types []mathub.EventTypeInfo
	a.do("GET", "/api/bot/v1/event-types", key, nil).into(t, &types)
	require.Len(t, types, len(webhook.Subscribable()))
	for i, of := range types {
		spec := webhook.Catalog()[i]
		require.Equal(t, string(spec.Type), of.Type)
		require.JSONEq(t, string(spec.ExampleData()), string(of.Sample))
	}
}

// TestABotSetsWhereItsOwnerIsNotified: by the rules of the operator's call, and no more than that.
func TestABotSetsWhereItsOwnerIsNotified(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	id, key := a.bot()
	got := a.do("PATCH", "/api/bot/v1/bot", key, map[string]any{"notifyUrl": "https://bots.example.org/trouble"})
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	var bot mathub.Bot
	got.into(t, &bot)
	require.NotEmpty(t, bot.NotifySecret)
	require.Equal(t, []string{"notifyUrl"}, a.do("PATCH", "/api/bot/v1/bot", key, map[string]any{"notifyUrl": "http://10.0.0.1/"}).fields(t))
	for _, field := range []string{"isActive", "name", "id"} {
		require.GreaterOrEqual(t, a.do("PATCH", "/api/bot/v1/bot", key, map[string]any{field: false}).status, 400, field)
	}
	a.do("GET", "/api/internal/v1/bots/"+id, serviceToken, nil).into(t, &bot)
	require.True(t, bot.IsActive)
	require.Equal(t, "https://bots.example.org/trouble", *bot.NotifyURL)
	got = a.do("PATCH", "/api/bot/v1/bot", key, map[string]any{"notifyUrl": nil})
	got.into(t, &bot)
	require.Nil(t, bot.NotifyURL)
}

// TestALinkOfAListenerWithoutThePortalNeedsThePublicURL: it would lead nowhere.
func TestALinkOfAListenerWithoutThePortalNeedsThePublicURL(t *testing.T) {
	t.Parallel()
	public, backend := split(t, nil)
	id, key := backend.bot()
	require.Equal(t, http.StatusConflict, backend.do("POST", "/api/internal/v1/bots/"+id+"/portal-links", serviceToken, nil).status)
	require.Equal(t, http.StatusCreated, public.do("POST", "/api/bot/v1/portal-links", key, nil).status)
	_, backend = split(t, func(cfg *api.Config) { cfg.PublicURL = "https://hooks.example" })
	id, _ = backend.bot()
	require.Equal(t, http.StatusCreated, backend.do("POST", "/api/internal/v1/bots/"+id+"/portal-links", serviceToken, nil).status)
}
