package api_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/testutil"
)

const internalPath = "/api/internal/v1/"

// TestOperatorsListShowSuspendAndDeleteBots, of whom the developers of a suspended one read why.
func TestOperatorsListShowSuspendAndDeleteBots(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	service := func(method, path string, body any) answer { return a.do(method, internalPath+path, serviceToken, body) }
	for _, id := range []string{"euler", "lemma", "noether"} {
		require.Equal(t, http.StatusCreated, service("POST", "bots", `{"id":"`+id+`","name":"Bot `+id+`"}`).status)
	}
	_, key, err := a.bots().CreateKey(t.Context(), "lemma", "laptop")
	require.NoError(t, err)
	a.hook(key)

	list := func(query string) (ids []string, header http.Header) {
		var bots []mathub.BotDetail
		got := service("GET", "bots"+query, nil)
		got.into(t, &bots)
		for _, b := range bots {
			ids = append(ids, b.ID)
		}
		return ids, got.header
	}
	ids, header := list("?limit=2")
	require.Equal(t, []string{"euler", "lemma"}, ids)
	require.Equal(t, `</api/internal/v1/bots?after=lemma&limit=2>; rel="next"`, header.Get("Link"))
	ids, header = list("?after=lemma&limit=2")
	require.Equal(t, []string{"noether"}, ids)
	require.Empty(t, header.Get("Link"))
	ids, _ = list("?search=BOT+LEM")
	require.Equal(t, []string{"lemma"}, ids)

	require.Equal(t, http.StatusOK, service("PATCH", "bots/lemma", `{"isActive":false,"suspendedReason":"Its key has leaked"}`).status)
	ids, _ = list("?state=suspended")
	require.Equal(t, []string{"lemma"}, ids)
	ids, _ = list("?state=active")
	require.Equal(t, []string{"euler", "noether"}, ids)
	refused := a.do("GET", webhooksPath, key, nil)
	require.Equal(t, http.StatusForbidden, refused.status)
	require.Equal(t, "The bot is suspended. Reason: Its key has leaked", refused.fault(t).Detail)
	var bot mathub.BotDetail
	service("GET", "bots/lemma", nil).into(t, &bot)
	require.Equal(t, []any{"Its key has leaked", 1, 1, 0}, []any{*bot.SuspendedReason, bot.Webhooks, bot.ActiveWebhooks, bot.DisabledByFailures})
	require.Contains(t, string(service("PATCH", "bots/lemma", `{"isActive":true}`).body), `"isActive":true`)
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, key, nil).status)

	require.Equal(t, http.StatusNoContent, service("DELETE", "bots/lemma", nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, key, nil).status)
	require.Contains(t, string(service("GET", "audit?botId=lemma", nil).body), `"action":"bot.deleted"`)
	for call, want := range map[[3]string]int{
		{"GET", "bots/lemma"}: http.StatusNotFound, {"DELETE", "bots/lemma"}: http.StatusNotFound, {"DELETE", "bots/a.b"}: http.StatusNotFound,
		{"GET", "bots?state=asleep"}: http.StatusUnprocessableEntity, {"GET", "bots?after=%21"}: http.StatusUnprocessableEntity, {"GET", "bots?limit=0"}: http.StatusUnprocessableEntity,
		{"PATCH", "bots/euler", `{"suspendedReason":"x"}`}:                 http.StatusUnprocessableEntity,
		{"PATCH", "bots/euler", `{"isActive":true,"suspendedReason":"x"}`}: http.StatusUnprocessableEntity,
		{"PATCH", "bots/euler", `{"isActive":false,"suspendedReason":5}`}:  http.StatusUnprocessableEntity,
	} {
		var body any
		if call[2] != "" {
			body = call[2]
		}
		require.Equal(t, want, service(call[0], call[1], body).status, call)
	}
}

// TestALeakedKeysBotIsFound, and what is known of the key stands in no log, answer or error.
func TestALeakedKeysBotIsFound(t *testing.T) {
	t.Parallel()
	var log testutil.Buffer
	a := newAPI(t, nil, func(c *api.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	bot, first := a.bot()
	var made mathub.Key
	a.do("POST", "/api/bot/v1/keys", first, `{"name":"laptop"}`).into(t, &made)
	find := func(text string) (keys []mathub.KeyInfo, got answer) {
		got = a.do("POST", internalPath+"keys/find", serviceToken, map[string]string{"key": text})
		if got.status == http.StatusOK {
			got.into(t, &keys)
		}
		return keys, got
	}
	for _, text := range []string{made.Key, made.Key[:10], made.Key[:20]} {
		keys, got := find(text)
		require.Len(t, keys, 1, text)
		require.Equal(t, []any{made.ID, bot, "laptop", "key"}, []any{keys[0].ID, keys[0].BotID, keys[0].Name, keys[0].CreatedBy.Kind})
		require.NotContains(t, string(got.body), made.Key[:11])
	}
	_, got := find("key " + made.Key[:20])
	require.Equal(t, []string{"key"}, got.fields(t))
	require.NotContains(t, string(got.body), made.Key[:11])
	require.Equal(t, http.StatusNoContent, a.do("DELETE", internalPath+"bots/"+bot+"/keys/"+made.ID, serviceToken, nil).status)
	keys, _ := find(made.Key)
	require.Empty(t, keys)
	require.NotContains(t, log.Take(), made.Key[:11])

	// Who of the operator's side made a key is not for the bot.
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url+internalPath+"bots/"+bot+"/keys", strings.NewReader("{}"))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+serviceToken)
	request.Header.Set("Content-Type", "application/json")
	a.send(request)
	a.execute("UPDATE api_keys SET creator_name = 'ada' WHERE creator_kind = 'service'")
	require.Contains(t, string(a.do("GET", internalPath+"bots/"+bot+"/keys", serviceToken, nil).body), `"createdBy":{"kind":"service","name":"ada"}`)
	own := string(a.do("GET", "/api/bot/v1/keys", first, nil).body)
	require.Contains(t, own, `"createdBy":{"kind":"service","name":null}`)
	require.NotContains(t, own, "ada")
}

// TestOperatorsRecoverAndRetryWebhooksOfAnyBot, and see what is late and what is wrong.
func TestOperatorsRecoverAndRetryWebhooksOfAnyBot(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, []time.Duration{time.Hour})
	_, key := s.bot()
	hook := s.subscribe(key, "")
	service := func(method, path string, body any) answer { return s.do(method, internalPath+path, serviceToken, body) }
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	s.emit(`{"event":"post.created","data":{"n":1}}`)
	require.Eventually(t, func() bool { return len(s.planned(hook)) == 1 }, 3*time.Minute, 10*time.Millisecond)
	var failing []mathub.OperatorWebhook
	service("GET", "webhooks?state=failing&errorClass=http_5xx", nil).into(t, &failing)
	require.Len(t, failing, 1)
	require.Equal(t, []any{hook, "failing", 1, 1, "HTTP 503"}, []any{failing[0].ID, failing[0].State, failing[0].FailureCount, failing[0].Waiting, *failing[0].LastError})

	var overview mathub.Overview
	service("GET", "overview", nil).into(t, &overview)
	require.True(t, overview.IsWrong)
	names := map[string]bool{}
	for _, f := range overview.Findings {
		names[f.Name] = f.IsWrong
	}
	require.True(t, names["failing"])
	require.False(t, names["disabled"])
	require.Contains(t, names, "retention")
	var late mathub.Late
	service("GET", "late", nil).into(t, &late)
	require.Empty(t, late.Queues)
	require.Empty(t, late.Workflows)
	s.execute("UPDATE queue SET due_at = now() - interval '1 h'")
	service("GET", "late?minutes=30", nil).into(t, &late)
	require.LessOrEqual(t, len(late.Queues), 1) // the queue may have been quicker
	require.Equal(t, http.StatusUnprocessableEntity, service("GET", "late?minutes=0", nil).status)

	s.answer(nil)
	require.Equal(t, http.StatusAccepted, service("POST", "webhooks/"+hook+"/retry-now", nil).status)
	require.Eventually(t, func() bool { return s.deliveries(key, hook)[0].Success }, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, http.StatusAccepted, service("POST", "webhooks/"+hook+"/recover", nil).status)
	require.Eventually(t, func() bool {
		return strings.Contains(string(service("GET", "webhooks/"+hook+"/recover", nil).body), `"state":"completed"`)
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, http.StatusNoContent, service("DELETE", "webhooks/"+hook+"/recover", nil).status)
	require.Contains(t, string(service("GET", "audit", nil).body), `"recovery.started"`)
}
