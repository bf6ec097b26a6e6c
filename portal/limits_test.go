package portal_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/testutil"
)

// TestWrongCodesAndKeysAreLimited: by address, and together with those of the API.
func TestWrongCodesAndKeysAreLimited(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	_, key := s.bot()
	code, _, err := s.bots.CreatePortalLink(t.Context(), id, bots.PortalLink{Role: bots.Manage})
	require.NoError(t, err)
	b := s.browser()
	wrong := strings.Repeat("A", 43)
	statuses := map[int]int{}
	for range 70 {
		got := b.post("/portal/session", url.Values{"code": {wrong}})
		statuses[got.status]++
		if got.status == http.StatusTooManyRequests {
			require.NotEmpty(t, got.header.Get("Retry-After"))
		}
	}
	require.Equal(t, map[int]int{http.StatusUnauthorized: 60, http.StatusTooManyRequests: 10}, statuses)
	require.Equal(t, http.StatusTooManyRequests, b.do(http.MethodGet, "/portal/webhooks", nil, "Cookie", "mathub-portal="+wrong).status, "nor are cookies tried")
	for _, code := range []string{code, s.link(id)} {
		require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"code": {code}}).status, "a right one works, however new")
		require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status, "and its session")
	}
	s.execute("DELETE FROM bots WHERE id = $1", id)
	require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"key": {key}}).status, "a valid key still works from an address that others share")
}

// TestMalformedCodesLockNothing: they are never looked up.
func TestMalformedCodesLockNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	b := s.browser()
	for range 70 {
		require.Equal(t, http.StatusUnauthorized, b.post("/portal/session", url.Values{"code": {"junk"}}).status)
		require.Equal(t, http.StatusUnauthorized, b.do(http.MethodGet, "/portal/webhooks", nil, "Cookie", "mathub-portal=junk").status)
	}
	require.Equal(t, http.StatusUnauthorized, b.post("/portal/session", url.Values{"code": {strings.Repeat("A", 43)}}).status)
	for n := range 44 { // base64 skips line breaks
		key := "bot_" + strings.Repeat("A", 43-n) + strings.Repeat("\n", n) + "A"
		require.Equal(t, http.StatusUnauthorized, b.post("/portal/session", url.Values{"key": {key[:46] + "A"}}).status, "%d", n)
	}
}

// TestAKeySignsInSoOften as it may call, and so do its bot's pages.
func TestAKeySignsInSoOften(t *testing.T) {
	t.Parallel()
	const limit = 20
	clock := testutil.NewClock()
	s := newSite(t, func(cfg *api.Config) { cfg.RateLimit, cfg.Now = limit, clock.Now })
	id, key := s.bot()
	otherID, _ := s.bot()
	b, other := s.browser(), s.signIn(otherID, bots.Manage)
	for range limit - 1 {
		require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"key": {key}}).status)
	}
	require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status)
	for _, got := range []answer{b.post("/portal/session", url.Values{"key": {key}}), b.get("/portal/webhooks"), b.post("/portal/settings/keys", nil)} {
		require.Equal(t, http.StatusTooManyRequests, got.status)
		require.Contains(t, got.body, "20 requests to the portal within a minute")
		require.NotEmpty(t, got.header.Get("Retry-After"))
	}
	require.Equal(t, http.StatusOK, other.get("/portal/webhooks").status, "another bot has its own")
	var sessions, keys int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM audit_log WHERE bot_id = $1 AND action = 'portal_session.started'), (SELECT count(*) FROM api_keys WHERE bot_id = $1)", id).Scan(&sessions, &keys))
	require.Equal(t, []int{limit - 1, 1}, []int{sessions, keys})
	clock.Advance(4 * time.Second)
	require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status, "as time gives back")
}

// TestWrongCookiesAreLimited as wrong keys are.
func TestWrongCookiesAreLimited(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b, stranger := s.signIn(id, bots.Manage), s.browser()
	statuses := map[int]int{}
	for range 70 {
		statuses[stranger.do(http.MethodGet, "/portal/webhooks", nil, "Cookie", "mathub-portal="+strings.Repeat("A", 43)).status]++
	}
	require.Equal(t, map[int]int{http.StatusUnauthorized: 60, http.StatusTooManyRequests: 10}, statuses)
	require.Equal(t, http.StatusOK, b.get("/portal/webhooks").status, "a session lasts beside them")
}
