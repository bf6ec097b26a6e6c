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

// TestASuspendedBotIsSentNothingAndItsKeysAreRefused; what came in meanwhile, and what waited, is recovered afterwards.
func TestASuspendedBotIsSentNothingAndItsKeysAreRefused(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, []time.Duration{time.Hour})
	bot, key := s.bot()
	_, other := s.bot()
	hook, bystander := s.subscribe(key, ""), s.subscribe(other, s.receiver+"/bystander")
	paused := s.subscribe(key, s.receiver+"/paused")
	require.Equal(t, http.StatusOK, s.do("PATCH", webhooksPath+"/"+paused, key, `{"isActive":false}`).status)
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	waits := s.emit(`{"event":"post.created","data":{"n":1}}`)
	require.Eventually(t, func() bool { return len(s.planned(hook)) == 1 }, 3*time.Minute, 10*time.Millisecond)
	s.answer(nil)

	patch := func(body string) (got answer) {
		got = s.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, body)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		return got
	}
	before := len(s.requests())
	for range 2 { // said again it changes nothing
		require.Contains(t, string(patch(`{"isActive":false}`).body), `"isActive":false`)
	}
	require.Contains(t, string(s.do("GET", "/api/internal/v1/bots/"+bot, serviceToken, nil).body), `"isActive":false`)
	for _, call := range [][2]string{
		{"GET", webhooksPath}, {"GET", webhooksPath + "/" + hook}, {"POST", webhooksPath + "/" + hook + "/test"}, {"GET", "/api/bot/v1/events"}, {"DELETE", webhooksPath + "/" + hook},
	} {
		got := s.do(call[0], call[1], key, nil)
		require.Equal(t, http.StatusForbidden, got.status, call)
		require.Contains(t, string(got.body), "suspended")
	}
	require.Equal(t, http.StatusUnauthorized, s.do("GET", webhooksPath, "bot_none", nil).status)
	require.Empty(t, s.planned(hook))
	s.emit(`{"event":"post.created","data":{"n":2}}`)
	require.Eventually(t, func() bool { return len(s.deliveries(other, bystander)) == 2 }, 3*time.Minute, 10*time.Millisecond)
	var path []string
	for _, r := range s.requests()[before:] {
		path = append(path, r.header.Get("X-Mathub-Event"))
	}
	require.Len(t, path, 1, "the bystander's")

	patch(`{"isActive":true}`)
	require.Empty(t, s.deliveries(key, hook)[1:], "nothing comes by itself")
	require.False(t, s.webhook(key, paused).IsActive, "what its owner paused stays so")
	require.Equal(t, http.StatusAccepted, s.do("POST", webhooksPath+"/"+hook+"/recover", key, nil).status)
	require.Eventually(t, func() bool { return len(s.deliveries(key, hook)) == 3 }, 3*time.Minute, 50*time.Millisecond)
	delivered := map[string]bool{}
	for _, d := range s.deliveries(key, hook)[:2] {
		delivered[d.EventID] = d.Success
	}
	require.Equal(t, 2, len(delivered))
	require.True(t, delivered[waits.ID], "what waited when it was suspended is not lost")
	require.Equal(t, http.StatusUnprocessableEntity, s.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":"no"}`).status)
}

// TestACallThatWaitsForEventsEndsWithItsBotsSuspension, and with its key.
func TestACallThatWaitsForEventsEndsWithItsBotsSuspension(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(a *testAPI, bot string)
		status int
	}{
		"Suspended": {func(a *testAPI, bot string) {
			a.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":false}`)
		}, http.StatusForbidden},
		"Revoked": {func(a *testAPI, _ string) { a.execute("DELETE FROM api_keys") }, http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, nil)
			bot, key := a.bot()
			answered := make(chan answer, 1)
			go func() { answered <- a.do("GET", "/api/bot/v1/events?after=latest&wait=20s", key, nil) }()
			time.Sleep(500 * time.Millisecond) // that it waits cannot be seen; should it not wait yet, the answer is the same
			c.end(a, bot)
			a.accepted("e1", "post.created", "{}")
			require.Equal(t, c.status, (<-answered).status)
		})
	}
}

func TestOperatorsManageWebhooksOfAnyBot(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	first, second := a.hook(key), a.hook(key)
	const path = "/api/internal/v1/webhooks"
	service := func(method, path string, body any) answer { return a.do(method, path, serviceToken, body) }
	var list []struct{ ID, BotID, Host, State string }
	service("GET", path+"?botId="+bot, nil).into(t, &list)
	require.Equal(t, http.StatusOK, service("GET", path+"?botId="+strings.ToUpper(bot), nil).status, "a UUID in either case")
	require.Len(t, list, 2)
	require.Equal(t, []string{first, second, bot}, []string{list[0].ID, list[1].ID, list[0].BotID})
	require.Equal(t, http.StatusOK, service("GET", path+"/"+first, nil).status)

	got := service("PATCH", path+"/"+first, `{"isActive":false}`)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, string(got.body), `"disabledReason":"operator"`)
	require.NotContains(t, string(got.body), "disabledNote")
	got = service("PATCH", path+"/"+first, `{"isActive":false,"disabledNote":"too many complaints"}`)
	require.Contains(t, string(got.body), `"disabledNote":"too many complaints"`)
	require.Contains(t, string(a.do("GET", webhooksPath+"/"+first, key, nil).body), `"disabledNote":"too many complaints"`, "its owner reads it")
	require.Contains(t, string(service("GET", path+"?disabledReason=operator", nil).body), `"disabledNote":"too many complaints"`)
	got = service("PATCH", path+"/"+first, `{"isActive":true}`)
	require.Contains(t, string(got.body), `"isActive":true`)
	require.NotContains(t, string(got.body), "disabledNote")
	require.Equal(t, http.StatusNoContent, service("DELETE", path+"/"+first, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+first, key, nil).status)
	for want, calls := range map[int][][3]string{
		http.StatusNotFound: {
			{"GET", path + "/" + first}, {"PATCH", path + "/" + first, `{"isActive":true}`}, {"DELETE", path + "/" + first}, {"GET", path + "/none"}, {"POST", path + "/none/recover"}, {"GET", path + "/none/recover"}, {"DELETE", path + "/none/recover"}, {"POST", path + "/none/retry-now"},
		},
		http.StatusUnprocessableEntity: {
			{"GET", path + "?botId="},
			{"GET", path + "?botId=a b"},
			{"GET", path + "?bot=x"},
			{"PATCH", path + "/" + second, `{}`},
			{"PATCH", path + "/" + second, `{"isActive":null}`},
			{"PATCH", path + "/" + second, `{"isActive":1}`},
			{"PATCH", path + "/" + second, `{"isActive":true,"disabledNote":"x"}`},
			{"PATCH", path + "/" + second, `{"isActive":false,"disabledNote":""}`},
			{"GET", path + "?state=broken"},
			{"GET", path + "?sort=size"},
			{"GET", path + "?after=x"},
			{"GET", path + "?limit=101"},
			{"GET", path + "?state=active&disabledReason=owner"},
		},
		http.StatusBadRequest: {{"PATCH", path + "/" + second, `{"url":"https://example.org"}`}, {"PATCH", path + "/" + second, `[]`}},
	} {
		for _, call := range calls {
			var body any
			if call[2] != "" {
				body = call[2]
			}
			require.Equal(t, want, service(call[0], strings.ReplaceAll(call[1], " ", "%20"), body).status, call)
		}
	}
	require.JSONEq(t, "[]", string(service("GET", path+"?botId=nobody", nil).body))
	require.Equal(t, http.StatusUnauthorized, a.do("GET", path+"?botId="+bot, key, nil).status, "a bot's key is none of the service's")
}

// TestEachChangeIsLoggedWithWhoMadeIt, and no secret.
func TestEachChangeIsLoggedWithWhoMadeIt(t *testing.T) {
	t.Parallel()
	var log testutil.Buffer
	a := newAPI(t, nil, func(c *api.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	bot, key := a.bot()
	var keyID string
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT id::text FROM api_keys").Scan(&keyID))
	logged := func(want ...string) {
		t.Helper()
		text := log.Take()
		require.Equal(t, 1, strings.Count(text, "\n"), "one line: %s", text)
		for _, w := range append(want, "bot="+bot, "request=", "client=127.0.0.1") {
			require.Contains(t, text, w)
		}
		for _, secret := range []string{"s3cret", "t0ken", key, serviceToken} {
			require.NotContains(t, text, secret)
		}
	}
	log.Take()
	var made mathub.Webhook
	a.do("POST", webhooksPath, key, `{"url":"https://example.org/t0ken","events":["post.created"],"secret":"s3cret"}`).into(t, &made)
	logged("msg=webhook.created", "subject="+made.ID, "by=key", "actor="+keyID, "https://example.org")
	a.do("PATCH", webhooksPath+"/"+made.ID, key, `{"url":"https://example.org/t0ken2","secret":"s3cret2"}`)
	logged("msg=webhook.updated", "by=key", "actor="+keyID, "url:replaced", "secret:replaced")
	a.do("PATCH", "/api/internal/v1/webhooks/"+made.ID, serviceToken, `{"isActive":false}`)
	logged("msg=webhook.disabled", "by=service", "isActive:false")
	a.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":false,"notifyUrl":"https://example.org/t0ken","notifySecret":"s3cret"}`)
	logged("msg=bot.suspended", "by=service", "isActive:false")
	a.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":true}`)
	log.Take()
	var second struct{ ID, Key string }
	a.do("POST", "/api/internal/v1/bots/"+bot+"/keys", serviceToken, nil).into(t, &second)
	logged("msg=key.created", "subject="+second.ID)
	a.do("DELETE", "/api/internal/v1/bots/"+bot+"/keys/"+second.ID, serviceToken, nil)
	logged("msg=key.revoked", "subject="+second.ID)
	a.do("DELETE", webhooksPath+"/"+made.ID, key, nil)
	logged("msg=webhook.deleted", "subject="+made.ID)
	// What changes nothing is no line.
	a.do("GET", webhooksPath, key, nil)
	a.do("DELETE", webhooksPath+"/"+made.ID, key, nil)
	a.do("PATCH", "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":5}`)
	require.Empty(t, log.Take())
}

// TestReceiptsSayWhatIsWrong: bots that are none, and another event under a known id.
func TestReceiptsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	bot, _ := s.bot()
	type told struct {
		ID            string
		Duplicate     bool
		Conflict      *bool
		UnknownBotIDs []string
	}
	emit := func(body string) (r told) {
		t.Helper()
		got := s.do("POST", eventsPath, serviceToken, body)
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
		got.into(t, &r)
		return r
	}
	yes := true
	mention := func(id, rest, bots string) string {
		return `{"id":"` + id + `","event":"mention","data":{"body":"` + rest + `"},"botIds":[` + bots + `]}`
	}
	require.Equal(t, told{ID: "m1"}, emit(mention("m1", "hi", `"`+bot+`"`)))
	require.Equal(t, told{ID: "m2", UnknownBotIDs: []string{"demo", "typo"}}, emit(mention("m2", "hi", `"demo","`+bot+`","typo"`)))
	stored := func(id string) {
		require.Eventually(t, func() bool {
			var n int
			require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE id = $1", id).Scan(&n))
			return n == 1
		}, 3*time.Minute, 10*time.Millisecond)
	}
	stored("m1")
	stored("m2")
	require.Equal(t, told{ID: "m1", Duplicate: true}, emit(mention("m1", "hi", `"`+bot+`"`)), "without a timestamp it says the same")
	require.Equal(t, told{ID: "m1", Duplicate: true, Conflict: &yes}, emit(mention("m1", "ho", `"`+bot+`"`)))
	require.Equal(t, told{ID: "m1", Duplicate: true, Conflict: &yes, UnknownBotIDs: []string{"typo"}}, emit(mention("m1", "hi", `"typo"`)))
	require.Equal(t, told{ID: "m2", Duplicate: true, UnknownBotIDs: []string{"typo", "demo"}}, emit(mention("m2", "hi", `"typo","`+bot+`","demo"`)))

	got := s.do("POST", eventsPath+"/batch", serviceToken, `{"events":[`+mention("m1", "other", `"`+bot+`"`)+`,`+mention("m3", "x", `"nobody"`)+`,{"id":"m4","event":"post.created","data":{}}]}`)
	var all []told
	got.into(t, &all)
	require.Equal(t, []told{{ID: "m1", Duplicate: true, Conflict: &yes}, {ID: "m3", UnknownBotIDs: []string{"nobody"}}, {ID: "m4"}}, all)
}
