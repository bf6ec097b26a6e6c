package api_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/audit"
)

const auditPath, serviceAudit = "/api/bot/v1/audit", "/api/internal/v1/audit"

func TestListAudit(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(*api.Config) {})
	bot, key := a.bot()
	_, otherKey := a.bot()
	list := func(path, token string) (entries []mathub.AuditEntry) {
		t.Helper()
		answer := a.do("GET", path, token, nil)
		require.Equal(t, http.StatusOK, answer.status, "%s", answer.body)
		for _, secret := range []string{"t0ken", "s3cret", key} {
			require.NotContains(t, string(answer.body), secret)
		}
		answer.into(t, &entries)
		return entries
	}
	var made mathub.Webhook
	a.do("POST", webhooksPath, key, `{"url":"https://example.org/t0ken","events":["post.created"],"secret":"s3cret"}`).into(t, &made)
	a.do("PATCH", webhooksPath+"/"+made.ID, key, `{"events":["mention"],"url":"https://example.org/t0ken2"}`)
	a.do("PATCH", webhooksPath+"/"+made.ID, key, `{"events":["mention"]}`) // changes nothing
	a.do("PATCH", "/api/internal/v1/webhooks/"+made.ID, serviceToken, `{"isActive":false}`)
	a.do("DELETE", webhooksPath+"/"+made.ID, key, nil)

	entries := list(auditPath, key)
	require.Equal(t, []string{"webhook.deleted", "webhook.disabled", "webhook.updated", "webhook.created"}, actions(entries)[:4], "newest first, and nothing for what changed nothing")
	require.Equal(t, made.ID, *entries[2].Subject)
	require.Equal(t, map[string]any{"events": []any{"post.created"}, "url": "before"}, *entries[2].Before)
	require.Equal(t, map[string]any{"events": []any{"mention"}, "url": "replaced"}, *entries[2].After)
	require.Nil(t, entries[0].After)
	require.Nil(t, entries[3].Before)
	require.Equal(t, []string{"key", "service", "key", "key"}, kinds(entries[:4]))
	require.NotNil(t, entries[0].Actor.ID)
	require.NotNil(t, entries[0].Actor.RequestID)

	for _, e := range list(auditPath, otherKey) {
		require.NotEqual(t, bot, e.BotID, "another bot's")
	}
	require.Empty(t, list(auditPath+"?before="+entries[0].ID, otherKey))
	require.Equal(t, actions(entries[1:]), actions(list(auditPath+"?before="+entries[0].ID, key)))
	require.Equal(t, actions(entries), actions(list(serviceAudit+"?botId="+bot, serviceToken)))
	require.Greater(t, len(list(serviceAudit, serviceToken)), len(entries), "of every bot")
	for _, query := range []string{"?before=x", "?botId=a%20b", "?limit=1"} {
		require.Equal(t, http.StatusUnprocessableEntity, a.do("GET", serviceAudit+query, serviceToken, nil).status, query)
	}
}

// TestOperatorsAreNamedByTrustedProxies, and not to bots.
func TestOperatorsAreNamedByTrustedProxies(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{true, false} { // else by themselves
		a := newAPI(t, nil, func(c *api.Config) {
			if trusted {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		})
		bot, key := a.bot()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, a.url+"/api/internal/v1/bots/"+bot, strings.NewReader(`{"isActive":false}`))
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+serviceToken)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("X-Forwarded-User", "emmy")
		request.Header.Set("X-Mathub-Operator", "noether")
		require.Equal(t, http.StatusOK, a.send(request).status)
		var entries []mathub.AuditEntry
		a.do("GET", serviceAudit+"?botId="+bot, serviceToken, nil).into(t, &entries)
		require.Equal(t, "bot.suspended", entries[0].Action)
		if trusted {
			require.Equal(t, "emmy", *entries[0].Actor.Name)
		} else {
			require.Equal(t, "noether", *entries[0].Actor.Name)
		}
		a.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":true}`)
		a.do("GET", serviceAudit+"?botId="+bot, serviceToken, nil).into(t, &entries)
		require.Nil(t, entries[0].Actor.Name, "nobody is named")
		var seen []mathub.AuditEntry
		a.do("GET", auditPath, key, nil).into(t, &seen)
		require.Equal(t, mathub.Actor{Kind: "service"}, seen[1].Actor)
	}
}

// TestListAudit_Pages: all entries are read once, page by page.
func TestListAudit_Pages(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(*api.Config) {})
	bot, key := a.bot()
	var made mathub.Webhook
	a.do("POST", webhooksPath, key, `{"url":"https://example.org/","events":["post.created"]}`).into(t, &made)
	for i := range 60 {
		a.do("PATCH", webhooksPath+"/"+made.ID, key, map[string]any{"isActive": i%2 == 1})
	}
	var all []string
	for path := auditPath; path != ""; {
		answer := a.do("GET", path, key, nil)
		var entries []mathub.AuditEntry
		answer.into(t, &entries)
		require.LessOrEqual(t, len(entries), 50)
		for _, e := range entries {
			require.Equal(t, bot, e.BotID)
			require.False(t, slices.Contains(all, e.ID))
			all = append(all, e.ID)
		}
		path = ""
		if link := answer.header.Get("Link"); link != "" {
			next, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
			path = next
		}
	}
	require.GreaterOrEqual(t, len(all), 61)
}

// TestABotsOwnEntriesAreBounded: what operators did stays, however many changes a bot makes, as do other bots' entries.
func TestABotsOwnEntriesAreBounded(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	hook := a.hook(key)
	const insert = `INSERT INTO audit_log (id, at, bot_id, action, subject, actor_kind, actor_id, actor_name, client, request)
		SELECT gen_random_uuid(), now() - interval '1 day' - n * interval '1 s', $1, 'webhook.updated', '', $2, '', '', '', '' FROM generate_series(1, $3) AS n`
	a.execute(insert, bot, "key", audit.MaxKept-5)
	a.execute(insert, bot, "system", 20)
	a.execute(insert, bot, "operator", 7)
	a.execute(insert, "another", "key", audit.MaxKept+1)
	require.Equal(t, http.StatusOK, a.do("PATCH", webhooksPath+"/"+hook, key, `{"name":"x"}`).status)
	var own, operators, others int
	require.NoError(t, a.pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE bot_id = $1 AND actor_kind IN ('key', 'portal', 'system')),
		count(*) FILTER (WHERE actor_kind = 'operator'), count(*) FILTER (WHERE bot_id = 'another') FROM audit_log`, bot).Scan(&own, &operators, &others))
	require.Equal(t, []int{audit.MaxKept, 7, audit.MaxKept + 1}, []int{own, operators, others})
	var entries []mathub.AuditEntry
	a.do("GET", auditPath, key, nil).into(t, &entries)
	require.Equal(t, "webhook.updated", entries[0].Action)
	require.Equal(t, "key", entries[0].Actor.Kind)
}

// TestABotReadsNothingOfAnEarlierOne that had its id. An operator reads both.
func TestABotReadsNothingOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(*api.Config) {})
	bot, _ := a.bot()
	a.accepted("for-all", "post.created", `{}`)
	a.accepted("the-earlier-ones", "mention", `{}`, bot)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", "/api/internal/v1/bots/"+bot, serviceToken, nil).status)
	require.Equal(t, http.StatusCreated, a.do("POST", "/api/internal/v1/bots", serviceToken, map[string]any{"id": bot, "name": "again"}).status)
	var key struct{ Key string }
	a.do("POST", "/api/internal/v1/bots/"+bot+"/keys", serviceToken, map[string]any{}).into(t, &key)
	var own, all []mathub.AuditEntry
	a.do("GET", auditPath, key.Key, nil).into(t, &own)
	require.Equal(t, []string{"key.created", "bot.created"}, actions(own))
	a.accepted("its-own", "mention", `{}`, bot)
	require.Equal(t, []string{"for-all", "its-own"}, a.poll(key.Key, "").ids())
	a.do("GET", "/api/internal/v1/audit?botId="+bot, serviceToken, nil).into(t, &all)
	require.Equal(t, []string{"key.created", "bot.created", "bot.deleted", "key.created", "bot.created"}, actions(all))
}

func actions(entries []mathub.AuditEntry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Action)
	}
	return all
}

func kinds(entries []mathub.AuditEntry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Actor.Kind)
	}
	return all
}
