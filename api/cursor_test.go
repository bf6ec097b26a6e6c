package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// TestALinkLeadsOn, whatever is removed before it is followed.
func TestALinkLeadsOn(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hooks := []string{a.hook(key), a.hook(key), a.hook(key)}
	a.historyOf(hooks[0], 3)
	var webhooks []mathub.Webhook
	a.execute("DELETE FROM webhooks WHERE id = $1", hooks[1])
	a.do(http.MethodGet, webhooksPath+"?after="+hooks[1], key, nil).into(t, &webhooks)
	require.Len(t, webhooks, 1)
	require.Equal(t, hooks[2], webhooks[0].ID)

	var deliveries []mathub.Delivery
	first := a.do(http.MethodGet, webhooksPath+"/"+hooks[0]+"/deliveries?limit=1", key, nil)
	first.into(t, &deliveries)
	next, _, _ := strings.Cut(strings.TrimPrefix(first.header.Get("Link"), "<"), ">")
	a.execute("DELETE FROM deliveries WHERE id = $1", deliveries[0].ID)
	a.do(http.MethodGet, strings.TrimPrefix(next, a.url), key, nil).into(t, &deliveries)
	require.Equal(t, 2, deliveries[0].Attempt)

	var entries []mathub.AuditEntry
	a.do(http.MethodGet, auditPath, key, nil).into(t, &entries)
	last := entries[len(entries)-1].ID
	a.execute("DELETE FROM audit_log WHERE id = $1", last)
	a.do(http.MethodGet, auditPath+"?before="+last, key, nil).into(t, &entries)
	require.Empty(t, entries)
}

// TestACursorThatIsNoneIsNamed, on every page there is.
func TestACursorThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	_, other := a.bot()
	hook, others := a.hook(key), a.hook(other)
	a.accepted("e1", "post.created", "{}")
	for path, page := range map[string]struct{ token, cursor string }{
		webhooksPath: {key, "after"},
		webhooksPath + "/" + hook + "/deliveries": {key, "before"},
		pollPath:                                 {key, "after"},
		eventsPath + "/e1":                       {serviceToken, "after"},
		"/api/internal/v1/webhooks?botId=" + bot: {serviceToken, "after"},
	} {
		cursors := []string{"", "x", "-1", "\x00", "\xff\xfe", "99999999999999999999", "AYPn-x0=", strings.Repeat("A", 4000), uuid.NewString() + "x"}
		if page.cursor == "before" || path == pollPath || strings.HasPrefix(path, internalPath+"webhooks") { // elsewhere one leads to what comes after it, whatever it was of
			cursors = append(cursors, uuid.NewString(), others)
		}
		for _, cursor := range cursors {
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			got := a.do(http.MethodGet, path+separator+page.cursor+"="+url.QueryEscape(cursor), page.token, nil)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s %q %s", path, cursor, got.body)
			require.Equal(t, []string{page.cursor}, got.fields(t), "%s %q", path, cursor)
		}
	}
}

// TestWhatAnotherKeysetSealedIsUnavailable, to a process that lacks the key, and to nobody else: a cursor is not sealed.
func TestWhatAnotherKeysetSealedIsUnavailable(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hook := a.hook(key)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	fresh := newAPI(t, nil, func(c *api.Config) { c.Pool, c.Keyset = a.pool, keyset })
	for path, token := range map[string]string{webhooksPath + "/" + hook: key, "/api/internal/v1/webhooks/" + hook: serviceToken} {
		got := fresh.do(http.MethodGet, path, token, nil)
		require.Equal(t, http.StatusServiceUnavailable, got.status, path)
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.Contains(t, got.fault(t).Detail, "The URL of webhook "+hook+" cannot be decrypted with this process's keyset")
		require.Equal(t, http.StatusOK, a.do(http.MethodGet, path, token, nil).status, path)
	}
	require.Equal(t, http.StatusOK, fresh.do(http.MethodGet, webhooksPath+"?after="+hook, key, nil).status)
	require.Equal(t, http.StatusOK, fresh.do(http.MethodGet, webhooksPath+"/"+hook+"/deliveries", key, nil).status)
}

// TestWhatDoesNotOpenHidesNothingElse: a webhook's URL or a bot's notification URL whose key is missing is shown as unreadable, in
// lists and in what changes it, beside all others.
func TestWhatDoesNotOpenHidesNothingElse(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	other, _ := a.bot()
	bad, good := a.hook(key), a.hook(key)
	for _, id := range []string{bot, other} {
		a.do(http.MethodPatch, internalPath+"bots/"+id, serviceToken, `{"notifyUrl":"https://example.com/notify"}`)
	}
	a.execute("UPDATE webhooks SET url = decode('0100000000ffff', 'hex') WHERE id = $1", bad)
	a.execute("UPDATE bots SET notify_url = decode('0100000000ffff', 'hex') WHERE id = $1", bot)

	var hooks []mathub.WebhookDetail
	a.do(http.MethodGet, webhooksPath, key, nil).into(t, &hooks)
	require.Equal(t, []any{bad, true, good, false}, []any{hooks[0].ID, hooks[0].Unreadable, hooks[1].ID, hooks[1].Unreadable})
	require.Equal(t, "https://"+webhook.HostOf(hooks[1].URL), hooks[0].URL)
	var changed, healed mathub.Webhook
	a.do(http.MethodPatch, webhooksPath+"/"+bad, key, `{"name":"n"}`).into(t, &changed)
	require.Equal(t, []any{"n", true}, []any{*changed.Name, changed.Unreadable}, "what is done is no error")
	a.do(http.MethodPatch, webhooksPath+"/"+bad, key, `{"url":"`+hooks[1].URL+`/again"}`).into(t, &healed)
	require.False(t, healed.Unreadable)

	var list []mathub.BotDetail
	a.do(http.MethodGet, internalPath+"bots", serviceToken, nil).into(t, &list)
	unreadable := map[string]bool{}
	for _, b := range list {
		unreadable[b.ID] = b.Unreadable
		require.Equal(t, b.Unreadable, b.NotifyURL == nil)
	}
	require.Equal(t, map[string]bool{bot: true, other: false}, unreadable)
	for path, token := range map[string]string{internalPath + "bots/" + bot: serviceToken, "/api/bot/v1/bot": key} {
		got := a.do(http.MethodGet, path, token, nil)
		require.Equal(t, http.StatusOK, got.status, path)
		require.Contains(t, string(got.body), `"unreadable":true`, path)
	}
	require.Contains(t, string(a.do(http.MethodPatch, internalPath+"bots/"+bot, serviceToken, `{"isActive":false}`).body), `"unreadable":true`)

	a.execute("UPDATE bots SET notify_secret = decode('0100000000ffff', 'hex') WHERE id = $1", other)
	got := a.do(http.MethodPatch, internalPath+"bots/"+other, serviceToken, `{"notifyUrl":"https://example.com/other"}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status, "no notice would ever be sent there")
	require.Contains(t, got.fault(t).Detail, "The notify secret of bot "+other)
	require.Equal(t, http.StatusOK, a.do(http.MethodPatch, internalPath+"bots/"+other, serviceToken, `{"notifyUrl":"https://example.com/other","notifySecret":"given"}`).status)
}
