package portal_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, first := s.bot()
	b := s.browser()
	require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"key": {first}}).status)
	page := b.get("/portal/settings").body
	require.Contains(t, page, first[:10]+"…")
	require.NotContains(t, page, first[:11])
	require.Contains(t, page, "of 100")

	t.Run("AKeyIsShownOnce", func(t *testing.T) {
		got := b.post("/portal/settings/keys", url.Values{"name": {"laptop"}})
		require.Equal(t, http.StatusOK, got.status, got.body)
		require.Equal(t, "no-store", got.header.Get("Cache-Control"))
		key := regexp.MustCompile(`bot_[A-Za-z0-9_-]{43}`).FindString(got.body)
		require.True(t, bots.IsKey(key))
		page := b.get("/portal/settings").body
		require.Contains(t, page, "laptop")
		require.NotContains(t, page, key)

		keys, err := s.bots.Keys(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, http.StatusSeeOther, b.post("/portal/settings/keys/"+keys[1].ID.String()+"/revoke", nil).status)
		require.NotContains(t, b.get("/portal/settings").body, "laptop")
		require.Equal(t, http.StatusUnprocessableEntity, b.post("/portal/settings/keys", url.Values{"name": {strings.Repeat("x", 201)}}).status)
	})
	t.Run("NotifyURL", func(t *testing.T) {
		bad := b.post("/portal/settings/notify", url.Values{"notifyUrl": {"http://10.0.0.1/"}})
		require.Equal(t, http.StatusUnprocessableEntity, bad.status)
		require.Contains(t, bad.body, `id="notifyUrl-error"`)
		require.Contains(t, bad.body, `value="http://10.0.0.1/"`, "what was typed stays")
		require.Equal(t, http.StatusUnprocessableEntity, b.post("/portal/settings/notify-secret", nil).status, "there is no URL yet")
		made := b.post("/portal/settings/notify", url.Values{"notifyUrl": {"https://bots.example.org/trouble"}})
		require.Contains(t, made.body, "whsec_")
		rotated := b.post("/portal/settings/notify-secret", nil)
		require.Contains(t, rotated.body, "whsec_")
		require.NotContains(t, b.get("/portal/settings").body, "whsec_")
		require.Contains(t, b.get("/portal/settings").body, "https://bots.example.org/trouble")
		require.Equal(t, http.StatusSeeOther, b.post("/portal/settings/notify", url.Values{"notifyUrl": {""}}).status)
		bot, err := s.bots.Get(t.Context(), id)
		require.NoError(t, err)
		require.Nil(t, bot.NotifyURL)
	})
	t.Run("WhoChangedWhat", func(t *testing.T) {
		page := b.get("/portal/settings/audit")
		require.Equal(t, http.StatusOK, page.status)
		for _, want := range []string{"key.created", "key.revoked", "laptop", "portal_session.started", "bot.updated"} {
			require.Contains(t, page.body, want)
		}
		require.NotContains(t, page.body, "whsec_")
		require.Equal(t, http.StatusOK, b.get("/portal/settings/audit?before=x").status)
		other, _ := s.bot()
		require.NotContains(t, s.signIn(other, bots.Manage).get("/portal/settings/audit").body, "laptop")
	})
	t.Run("SessionsAreEnded", func(t *testing.T) {
		other := s.signIn(id, bots.View)
		sessions, err := s.bots.PortalSessions(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, sessions, 2)
		require.Equal(t, http.StatusSeeOther, b.post("/portal/settings/sessions/"+sessions[0].ID.String()+"/end", nil).status)
		require.Equal(t, http.StatusUnauthorized, other.get("/portal/settings").status)
	})
	t.Run("ASessionEndsWithItsKey", func(t *testing.T) {
		keys, err := s.bots.Keys(t.Context(), id)
		require.NoError(t, err)
		got := b.post("/portal/settings/keys/"+keys[0].ID.String()+"/revoke", nil)
		require.Equal(t, "/portal/?done=key-revoked", got.header.Get("Location"))
		require.Equal(t, http.StatusUnauthorized, b.get("/portal/settings").status)
	})
}
