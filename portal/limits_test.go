package portal_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
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
