package operators_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/operators"
	"github.com/mathub/webhooks/webhook"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	b.execute("UPDATE webhooks SET is_active = false, disabled_at = now(), disabled_reason = 'failures' WHERE id = $1", hook)
	page := b.page("/ops")
	for _, want := range []string{"Webhooks disabled by failures within 24 hours: 1", `href="/ops/webhooks/` + hook.String(), `href="/ops/webhooks?disabledReason=failures"`, "http://ui.example"} {
		require.Contains(t, page, want)
	}
	require.Contains(t, b.page("/ops/"), "What is wrong now")
	undo := regexp.MustCompile(`href="(/ops/incidents/plan[^"]+)"`).FindStringSubmatch(page)
	require.NotNil(t, undo)
	require.Contains(t, b.page(html.UnescapeString(undo[1])), "Enable and recover 1 webhook<")
}

func TestBots(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	_, key, _ := b.bot("euler")
	b.bot("noether")
	require.NotContains(t, b.page("/ops/bots?search=EUL"), "noether")
	require.Equal(t, http.StatusUnprocessableEntity, b.get("/ops/bots?search="+strings.Repeat("x", 201)).status)

	require.Contains(t, b.page("/ops/bots/euler/suspend"), "Suspend Bot euler?")
	page := b.act("/ops/bots/euler/suspend", url.Values{"suspendedReason": {"It floods <b>us</b>."}})
	require.Contains(t, page, "It floods &lt;b&gt;us&lt;/b&gt;.")
	require.Contains(t, b.page("/ops/bots?state=suspended"), "euler")
	require.NotContains(t, b.page("/ops/bots?state=active"), "euler")
	require.Contains(t, b.get("/ops/bots?state=asleep").body, "must be one of: active, suspended")
	page = b.act("/ops/bots/euler/resume", nil)
	require.Contains(t, page, "The bot is active again.")

	require.Contains(t, b.page("/ops/bots"), `href="/ops/keys"`)
	found := b.do(http.MethodPost, "/ops/keys", url.Values{"key": {" " + key.Prefix + "\t"}}).body
	require.Contains(t, found, `href="/ops/bots/euler/keys/`+key.ID.String()+`/revoke"`)
	require.Contains(t, found, `<a href="/ops/bots/euler">euler</a>`)
	require.Contains(t, b.do(http.MethodPost, "/ops/keys", url.Values{"key": {"bot_none99"}}).body, "No bot has such a key")
	require.Equal(t, http.StatusUnprocessableEntity, b.do(http.MethodPost, "/ops/keys", url.Values{"key": {"bot_" + strings.Repeat("A", 20) + "\n" + strings.Repeat("A", 22)}}).status, "a broken line")
	refused := b.do(http.MethodPost, "/ops/keys", url.Values{"key": {"hunter2"}})
	require.Equal(t, http.StatusUnprocessableEntity, refused.status)
	require.Contains(t, refused.body, "must be a key, or its first")
	require.NotContains(t, refused.body, "hunter2", "a page repeats no key")

	require.Contains(t, b.page("/ops/bots/euler/keys/"+key.ID.String()+"/revoke"), "Revoke the key laptop?")
	page = b.act("/ops/bots/euler/keys/"+key.ID.String()+"/revoke", nil)
	require.NotContains(t, page, key.Prefix)

	wrong := b.do(http.MethodPost, "/ops/bots/euler/delete", url.Values{"confirm": {"noether"}})
	require.Equal(t, http.StatusUnprocessableEntity, wrong.status)
	b.act("/ops/bots/euler/delete", url.Values{"confirm": {"euler"}})
	require.Equal(t, http.StatusNotFound, b.get("/ops/bots/euler").status)
	require.Contains(t, b.page("/ops/audit"), "bot.deleted")
}

func TestWebhooks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	other, _, _ := b.bot("noether")
	b.event("p1", hook)
	path := "/ops/webhooks/" + hook.String()
	b.execute(`UPDATE webhooks SET filter = '{"projectSlug":["a","<b>"]}' WHERE id = $1`, hook)
	require.Contains(t, b.page(path), "<code>projectSlug</code>: <bdi>a</bdi>, <bdi>&lt;b&gt;</bdi>")
	for query, found := range map[string]bool{"state=active": true, "host=euler.example": true, "botId=euler": true, "sort=waiting": true, "state=disabled": false, "errorClass=timeout": false, "host=else.example": false} {
		require.Equal(t, found, strings.Contains(b.page("/ops/webhooks?"+query), path), query)
	}
	require.Equal(t, http.StatusUnprocessableEntity, b.get("/ops/webhooks?state=x").status)
	require.Contains(t, b.page("/ops/late"), path)

	page := b.page(path)
	require.Contains(t, page, "http://ui.example/namespaces/default/workflows/webhook-"+hook.String())
	require.Contains(t, page, "Retry now")
	require.Contains(t, b.act(path+"/retry-now", nil), "What waits is attempted now")
	require.Contains(t, b.page(path+"/disable"), "Disable the webhook at euler.example?")
	require.Contains(t, b.act(path+"/disable", url.Values{"disabledNote": {"It leaks."}}), "It leaks.")
	require.Equal(t, http.StatusConflict, b.do(http.MethodPost, path+"/recover", nil).status, "it is disabled")
	page = b.act(path+"/enable", url.Values{"then": {"recover"}})
	require.Contains(t, page, "it missed ")
	require.Contains(t, b.act(path+"/recover", nil), "Cancel the recovery")
	require.Contains(t, b.act(path+"/recover/cancel", nil), "The recovery was cancelled.")
	require.Equal(t, http.StatusUnprocessableEntity, b.do(http.MethodPost, path+"/delete", url.Values{"confirm": {"noether.example"}}).status)
	b.act(path+"/delete", url.Values{"confirm": {"euler.example"}})
	require.Equal(t, http.StatusNotFound, b.get(path).status)
	require.Contains(t, b.page("/ops/webhooks"), other.String())
}

func TestEvents(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	b.event("p1", hook)
	got := b.get("/ops/events?id=p1")
	require.Equal(t, "/ops/events/p1", got.header.Get("Location"))
	page := b.page("/ops/events/p1")
	for _, want := range []string{"/ops/webhooks/" + hook.String() + "?eventId=p1", "Waiting", "event-p1", "&lt;script&gt;"} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, b.page("/ops/events/p1?outcome=delivered"), hook.String())
	require.Contains(t, b.page("/ops/webhooks/"+hook.String()+"?eventId=p1"), "Last deliveries of <bdi>p1</bdi>")
	require.Equal(t, http.StatusNotFound, b.get("/ops/events/p2").status)
	require.Equal(t, http.StatusUnprocessableEntity, b.get("/ops/events?id=a+b").status)
}

func TestIncidents(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	b.execute("UPDATE webhooks SET is_active = false, disabled_at = now() - interval '1 min', disabled_reason = 'failures' WHERE id = $1", hook)
	span := url.Values{"disabledSince": {time.Now().UTC().Add(-time.Hour).Format("2006-01-02T15:04:05")}}
	page := b.page("/ops/incidents/plan?" + span.Encode())
	require.Contains(t, page, "Enable and recover 1 webhook<")
	require.NotContains(t, page, "errors=", "there is only one error")
	require.Equal(t, http.StatusUnprocessableEntity, b.get("/ops/incidents/plan").status)
	require.Equal(t, http.StatusUnprocessableEntity, b.get("/ops/incidents/plan?disabledSince=x").status)
	list, _, err := b.cfg.Webhooks.Incidents(t.Context(), uuid.Nil)
	require.NoError(t, err)
	require.Empty(t, list, "it was only counted")

	require.Contains(t, b.act("/ops/incidents", span), "Running")
	list, _, err = b.cfg.Webhooks.Incidents(t.Context(), uuid.Nil)
	require.NoError(t, err)
	path := "/ops/incidents/" + list[0].ID.String()
	require.Contains(t, b.page("/ops/incidents"), path)
	require.Contains(t, b.act(path+"/pause", nil), "Paused")
	require.Contains(t, b.act(path+"/resume", nil), "Running")
	require.Contains(t, b.page(path+"/cancel"), "This is final.")
	require.Contains(t, b.act(path+"/cancel", nil), "Cancelled")
	require.Equal(t, http.StatusConflict, b.do(http.MethodPost, path+"/resume", nil).status)
}

// TestAnIncidentOfOneError: of several errors, the plan leads to each alone.
func TestAnIncidentOfOneError(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for bot, cause := range map[string]string{"euler": "HTTP 503", "noether": "dns: no such host"} {
		hook, _, _ := b.bot(bot)
		delivery := webhook.DeliveryID(time.Now(), uuid.New())
		b.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at) VALUES ($1, $2, 'e', 1, false, $3, 1, now())", delivery, hook, cause)
		b.execute("UPDATE webhooks SET is_active = false, disabled_at = now() - interval '1 second', disabled_reason = 'failures', disabled_by = $2 WHERE id = $1", hook, delivery)
	}
	page := b.page("/ops/incidents/plan?disabledSince=2025-03-20T10:00")
	require.Contains(t, page, "Enable and recover 2 webhooks<")
	only := regexp.MustCompile(`href="(/ops/incidents/plan[^"]+errors=dns[^"]+)"`).FindStringSubmatch(page)
	require.NotNil(t, only, page)
	page = b.page(html.UnescapeString(only[1]))
	require.Contains(t, page, "Enable and recover 1 webhook<")
	require.NotContains(t, page, "HTTP 503")
}

func TestPauses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	require.Contains(t, b.page("/ops/pauses?scope=host&value=euler.example"), `value="euler.example"`)
	require.Equal(t, http.StatusUnprocessableEntity, b.do(http.MethodPost, "/ops/pauses", url.Values{"scope": {"host"}, "value": {"euler.example"}}).status, "the reason is missing")
	of := url.Values{"scope": {"host"}, "value": {"euler.example"}, "reason": {"it moves"}}
	require.Contains(t, b.act("/ops/pauses", of), "it moves")
	require.Contains(t, b.page("/ops/webhooks/"+hook.String()), "it moves")
	require.Contains(t, b.act("/ops/pauses/end", of), "Nothing is paused.")

	all := url.Values{"scope": {"all"}, "reason": {"uplink"}}
	asked := b.do(http.MethodPost, "/ops/pauses", all)
	require.Equal(t, http.StatusOK, asked.status)
	require.Contains(t, asked.body, "Pause all deliveries?")
	require.Contains(t, b.page("/ops/pauses"), "Nothing is paused.")
	all.Set("sure", "yes")
	require.Contains(t, b.act("/ops/pauses", all), "uplink")
}

// TestWhoItWas: a trusted proxy names the operator, else the address does.
func TestWhoItWas(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.bot("euler")
	require.Equal(t, http.StatusSeeOther, b.do(http.MethodPost, "/ops/bots/euler/suspend", nil, "X-Forwarded-User", "emmy").status)
	require.Equal(t, http.StatusSeeOther, b.do(http.MethodPost, "/ops/bots/euler/resume", nil).status)
	require.Equal(t, http.StatusSeeOther, b.do(http.MethodPost, "/ops/bots/euler/suspend", nil, "X-Forwarded-User", "no\u009b2Jether\u202e").status)
	page := b.page("/ops/audit?botId=euler")
	require.Contains(t, page, "operator emmy")
	require.Contains(t, page, "operator no\ufffd2Jether\ufffd", "nothing that commands a terminal")
	require.Contains(t, page, "operator 127.0.0.1")
}

// TestEveryRoute: nothing is changed or shown by another site's page, under another name, or in a frame; and no page has a
// secret or a URL that may hold a token.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, key, secret := b.bot("euler")
	b.event("p1", hook)
	notify := "https://notify.example/" + token
	_, err := b.cfg.Bots.Update(t.Context(), "euler", bots.Change{NotifyChange: bots.NotifyChange{SetURL: true, URL: &notify}})
	require.NoError(t, err)
	since := time.Now().Add(-time.Hour)
	incident, err := b.cfg.Webhooks.RecoverIncident(t.Context(), subscriptions.IncidentInput{DisabledSince: &since}, false, &problem.Faults{})
	require.NoError(t, err)
	routes, err := operators.Routes(b.cfg)
	require.NoError(t, err)
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		id := "euler"
		switch {
		case strings.HasPrefix(path, "/ops/webhooks"):
			id = hook.String()
		case strings.HasPrefix(path, "/ops/events"):
			id = "p1"
		case strings.HasPrefix(path, "/ops/incidents"):
			id = incident.ID.String()
		}
		path = strings.NewReplacer("{$}", "", "{id}", id, "{key}", key.ID.String(), "{session}", uuid.NewString(), "{class}", "dns", "{hash}", "0", "{name}", "portal.css").Replace(path)
		require.Equal(t, http.StatusMisdirectedRequest, b.do(method, path, nil, "Host", "evil.example").status, route)
		if method == http.MethodPost {
			require.Equal(t, http.StatusForbidden, b.do(method, path, nil, "Sec-Fetch-Site", "cross-site").status, route)
			require.Equal(t, http.StatusForbidden, b.do(method, path, nil, "Sec-Fetch-Site", "", "Origin", "http://evil.example").status, route)
			continue
		}
		got := b.do(method, path, nil, "Host", "ops.example.org")
		policy := got.header.Get("Content-Security-Policy")
		require.Contains(t, policy, "frame-ancestors 'none'", route)
		require.Contains(t, policy, "require-trusted-types-for 'script'", route)
		for _, hidden := range []string{token, secret, "whsec_", "MfKQ9r8"} {
			require.NotContains(t, got.body, hidden, route)
		}
		if path != "/ops/" || !strings.Contains(route, "{") {
			require.Less(t, got.status, 500, "%s: %s", route, got.body)
		}
	}
	got, err := b.cfg.Bots.Get(t.Context(), "euler")
	require.NoError(t, err)
	require.True(t, got.IsActive, "nothing was changed")
}

// TestTextOfStrangersStaysText: names, errors and notes are neither markup nor do they look like other text.
func TestTextOfStrangersStaysText(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	b.execute(`UPDATE bots SET name = E'<img src=x onerror=alert(1)>gnp\u202eexe'`)
	b.execute(`UPDATE webhooks SET name = E'"><script>alert(1)</script>a\u200bb', is_active = false, disabled_at = now(), disabled_reason = 'operator', disabled_note = E'x\u2066y<b>'`)
	for _, path := range []string{"/ops/bots", "/ops/bots/euler", "/ops/bots/euler/suspend", "/ops/webhooks", "/ops/webhooks/" + hook.String(), "/ops/audit"} {
		page := b.page(path)
		for _, raw := range []string{"<img", "<script>alert", "\u202e", "\u2066"} {
			require.NotContains(t, page, raw, path)
		}
	}
	require.Contains(t, b.page("/ops/bots/euler"), "gnp⟨U+202E⟩exe")
	require.Contains(t, b.page("/ops/webhooks/"+hook.String()), "a⟨U+200B⟩b")
}

func TestTheme(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for back, to := range map[string]string{"/ops/bots?search=x": "/ops/bots?search=x", "https://evil.example/ops": "/ops", "//evil.example/ops/x": "/ops", "/opsx": "/ops", "/ops/\\evil": "/ops", "/ops/../portal/": "/ops", "/ops/bots/": "/ops/bots/", "": "/ops"} {
		got := b.do(http.MethodPost, "/ops/theme", url.Values{"theme": {"dark"}, "back": {back}})
		require.Equal(t, to, got.header.Get("Location"), back)
		require.Contains(t, got.header.Get("Set-Cookie"), "mathub-theme=dark")
	}
	require.Contains(t, b.do(http.MethodGet, "/ops", nil, "Cookie", "mathub-theme=dark").body, `data-theme="dark"`)
	require.Equal(t, http.StatusBadRequest, b.do(http.MethodPost, "/ops/theme", url.Values{"theme": {"pink"}}).status)
}

func TestAnUnreadableURLHidesNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	hook, _, _ := b.bot("euler")
	b.bot("noether")
	b.execute("UPDATE webhooks SET url = decode('0100000000ffff', 'hex') WHERE id = $1", hook)
	b.execute("UPDATE bots SET notify_url = decode('0100000000ffff', 'hex'), notify_secret = '' WHERE id = 'euler'")
	list := b.page("/ops/bots")
	require.Contains(t, list, "noether")
	require.Equal(t, 1, strings.Count(list, "<strong>unreadable</strong>"))
	require.Contains(t, b.page("/ops/bots/euler"), "<strong>unreadable</strong>")
	for _, path := range []string{"/ops", "/ops/webhooks", "/ops/webhooks/" + hook.String(), "/ops/audit", "/ops/bots/euler/suspend"} {
		b.page(path)
	}
	require.Contains(t, b.act("/ops/bots/euler/suspend", nil), "<strong>unreadable</strong>")
}

func TestFuses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.execute("INSERT INTO fuses (class) VALUES ('dns')")
	require.Contains(t, b.page("/ops"), `href="/ops/fuses/dns/reset"`)
	require.Contains(t, b.page("/ops/fuses/dns/reset"), "Reset the fuse of dns?")
	require.Contains(t, b.act("/ops/fuses/dns/reset", nil), "The fuse is reset.")
	require.NotContains(t, b.page("/ops"), "/ops/fuses/")
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		require.Equal(t, http.StatusNotFound, b.do(method, "/ops/fuses/dns/reset", nil).status, "it is not blown")
	}
	require.Contains(t, b.page("/ops/audit"), "fuse.reset")
}

// TestWhatIsNoText is the visitor's mistake, wherever an address has it.
func TestWhatIsNoText(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, path := range []string{"/ops/pauses?after=bot:%00", "/ops/webhooks?host=%00"} {
		require.Equal(t, http.StatusBadRequest, b.do(http.MethodGet, path, nil).status, path)
	}
	for _, class := range []string{"%00", "%ff"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			require.Equal(t, http.StatusBadRequest, b.do(method, "/ops/fuses/"+class+"/reset", nil).status, class)
		}
	}
}
