package portal_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
)

// TestAudit_WhoAndWhat: an entry says which session made a change and what opened that, and what the change is about.
func TestAudit_WhoAndWhat(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, secret := s.bot()
	keys, err := s.bots.Keys(t.Context(), id)
	require.NoError(t, err)
	key := keys[0]
	withKey := s.browser()
	require.Equal(t, http.StatusSeeOther, withKey.post("/portal/session", url.Values{"key": {secret}}).status)
	byLink := func(link bots.PortalLink) *browser {
		link.Role = bots.Manage
		code, _, err := s.bots.CreatePortalLink(t.Context(), id, link)
		require.NoError(t, err)
		b := s.browser()
		require.Equal(t, http.StatusSeeOther, b.post("/portal/session", url.Values{"code": {code}}).status)
		return b
	}
	last := func() audit.Entry {
		t.Helper()
		entries, _, err := (&audit.Reader{Pool: s.pool}).List(t.Context(), id, uuid.Nil)
		require.NoError(t, err)
		return entries[0]
	}
	for name, c := range map[string]struct {
		sign        func() *browser
		who, opened string
		key, link   bool
	}{
		"a key":                   {func() *browser { return withKey }, "key " + key.Prefix + "…", "by key", true, false},
		"a link":                  {func() *browser { return byLink(bots.PortalLink{}) }, "a link from Mathub", "by link", false, true},
		"a link for somebody":     {func() *browser { return byLink(bots.PortalLink{Label: "Ada"}) }, "Ada", "by link", false, true},
		"a key's link":            {func() *browser { return byLink(bots.PortalLink{KeyID: key.ID}) }, "a link of key " + key.Prefix + "…", "by link", true, true},
		"a key's link for others": {func() *browser { return byLink(bots.PortalLink{KeyID: key.ID, Label: "Emmy"}) }, "Emmy", "by link", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.sign()
			b.post("/portal/settings/keys", url.Values{"name": {"for " + name}})
			e := last()
			require.Equal(t, audit.KeyCreated, e.Action)
			require.Equal(t, audit.Portal, e.By.Kind)
			require.Equal(t, c.who, e.By.Name)
			require.Equal(t, "127.0.0.1", e.By.Client, "as of the API's calls")
			sessions, err := s.bots.PortalSessions(t.Context(), id)
			require.NoError(t, err)
			made := sessions[0]
			for _, one := range sessions {
				if one.ID.String() == e.By.ID {
					made = one
				}
			}
			require.Equal(t, made.ID.String(), e.By.ID)
			require.Equal(t, c.key, e.By.KeyID == key.ID)
			require.Equal(t, c.link, e.By.LinkID != uuid.Nil)
			require.Equal(t, made.LinkID, e.By.LinkID)
			page := plain(b.get("/portal/settings/audit").body)
			require.Contains(t, page, c.who+" session …"+e.By.ID[28:]+" "+c.opened, "by whom")
			require.Contains(t, page, "key for "+name+" …"+e.Subject[28:], "of what")
			require.Contains(t, plain(b.get("/portal/settings").body), c.who+" …"+e.By.ID[28:])
		})
	}
	viewer := byLink(bots.PortalLink{Label: "Carl"})
	started := last()
	require.Equal(t, started.Subject, started.By.ID, "a session begins itself")
	require.Equal(t, "Carl", started.By.Name)
	require.Contains(t, plain(viewer.get("/portal/settings/audit").body), "portal session Carl …"+started.Subject[28:])
	require.Contains(t, plain(viewer.get("/portal/settings/audit").body), "portal link Carl …"+started.By.LinkID.String()[28:], "the link that it was, by the same id")
	viewer.post("/portal/sign-out", nil)
	require.Equal(t, audit.Fields{"role": "manage", "label": "Carl", "linkId": started.By.LinkID.String()}, last().Before)

	withKey.post("/portal/settings/keys/"+key.ID.String()+"/revoke", nil)
	require.Equal(t, audit.Fields{"name": "", "prefix": key.Prefix}, last().Before)
	b := s.signIn(id, bots.View)
	require.Contains(t, plain(b.get("/portal/settings/audit").body), "key "+key.Prefix+" …"+key.ID.String()[28:])
	require.NoError(t, s.bots.EndPortal(t.Context(), id))
	require.Contains(t, plain(s.signIn(id, bots.View).get("/portal/settings/audit").body), "all of the bot's sessions and links")
	require.NotContains(t, b.get("/portal/settings/audit").body, `data-label="Of"></td>`)
}

// plain is the text of a page.
func plain(body string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "&#39;", "'")
}

// TestASuspendedBotsLinkIsKept, and works once the suspension is over. Its sessions can sign out.
func TestASuspendedBotsLinkIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.View)
	code, _, err := s.bots.CreatePortalLink(t.Context(), id, bots.PortalLink{Role: bots.Manage})
	require.NoError(t, err)
	suspend := func(suspended bool) {
		active, reason := !suspended, "leaked its key"
		change := bots.Change{IsActive: &active}
		if suspended {
			change.SuspendedReason = &reason
		}
		_, err := s.bots.Update(t.Context(), id, change)
		require.NoError(t, err)
	}
	suspend(true)
	for range 2 {
		got := s.browser().post("/portal/session", url.Values{"code": {code}})
		require.Equal(t, http.StatusForbidden, got.status)
		require.Empty(t, got.header.Values("Set-Cookie"))
	}
	refused := b.get("/portal/webhooks")
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Contains(t, refused.body, "Sign out")
	require.Contains(t, refused.body, "leaked its key")
	require.Equal(t, "/portal/?done=signed-out", b.post("/portal/sign-out", nil).header.Get("Location"))
	require.Equal(t, http.StatusUnauthorized, b.get("/portal/webhooks").status)
	suspend(false)
	require.Equal(t, http.StatusSeeOther, s.browser().post("/portal/session", url.Values{"code": {code}}).status)
	require.Equal(t, http.StatusUnauthorized, s.browser().post("/portal/session", url.Values{"code": {code}}).status, "once")
}

// TestTheLastLinksAreKept, however long each lasts.
func TestTheLastLinksAreKept(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	link := func(o bots.PortalLink) string {
		o.Role = bots.Manage
		code, _, err := s.bots.CreatePortalLink(t.Context(), id, o)
		require.NoError(t, err)
		return code
	}
	first := link(bots.PortalLink{})
	for range 99 {
		link(bots.PortalLink{})
	}
	short := link(bots.PortalLink{Lasts: bots.PortalLinkTime / 2})
	require.Equal(t, http.StatusSeeOther, s.browser().post("/portal/session", url.Values{"code": {short}}).status)
	require.Equal(t, http.StatusUnauthorized, s.browser().post("/portal/session", url.Values{"code": {first}}).status, "the oldest gave way")
}

// TestAnUnknownPathKeepsTheNavigation for who is signed in.
func TestAnUnknownPathKeepsTheNavigation(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.View)
	for _, path := range []string{"/portal/nowhere", "/portal/webhooks/" + uuid.NewString(), "/portal/webhooks/new", "/portal/a/b/c"} {
		got := b.get(path)
		require.GreaterOrEqual(t, got.status, 400, path)
		require.Contains(t, got.body, `<nav class="nav"`, path)
		require.Contains(t, got.body, "view only", path)
	}
	stranger := s.browser().get("/portal/nowhere")
	require.Equal(t, http.StatusNotFound, stranger.status)
	require.NotContains(t, stranger.body, `<nav class="nav"`)
}
