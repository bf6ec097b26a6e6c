package portal_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// hook makes a webhook over the API.
func (s *site) hook(key, name string) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/api/bot/v1/webhooks", strings.NewReader(`{"url":"https://example.com/hook?token=t","events":["post.created","mention"],"name":"`+name+`"}`))
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(s.t, http.StatusCreated, resp.StatusCode)
	var w struct{ ID string }
	require.NoError(s.t, json.NewDecoder(resp.Body).Decode(&w))
	return w.ID
}

func (s *site) execute(sql string, args ...any) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

// deliver adds an event with a delivery that failed, or was taken where errorText is "", and returns the delivery's id.
func (s *site) deliver(hook, event, payload, response, errorText string) string {
	s.t.Helper()
	s.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ($1, 'post.created', $2, 'run', now() - interval '1 minute') ON CONFLICT DO NOTHING", event, []byte(payload))
	var acceptedAt time.Time
	require.NoError(s.t, s.pool.QueryRow(s.t.Context(), "SELECT accepted_at FROM events WHERE id = $1", event).Scan(&acceptedAt))
	id := webhook.DeliveryID(acceptedAt, uuid.New()).String()
	exchange := history.EncodeExchange(
		history.Sent{Header: webhook.Headers(webhook.Delivery{Version: "test", Type: webhook.PostCreated, EventID: event, ID: uuid.MustParse(id), At: time.Now()}), URL: "https://example.com/hook?token=t"},
		egress.Response{Header: http.Header{"Server": {"<b>nginx</b>"}}, Duration: 7 * time.Millisecond, Timings: egress.Timings{DNS: time.Millisecond, Connect: time.Millisecond, TLS: 2 * time.Millisecond, FirstByte: 6 * time.Millisecond}},
	)
	s.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, error, duration_ms, attempted_at, exchange)
		VALUES ($1, $2, $3, (SELECT count(*) + 1 FROM deliveries WHERE event_id = $3), $4::text = '', CASE WHEN $4::text LIKE 'HTTP%' THEN substring($4::text FROM 6)::integer WHEN $4::text = '' THEN 204 END, $5, NULLIF($4::text, ''), 7, now(), $6)`,
		id, hook, event, errorText, []byte(response), exchange)
	return id
}

const post = `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"postId":"p1"}}`

// shown is a page's text, without its tags.
func shown(page string) string {
	text := regexp.MustCompile(`(?s)<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(html.UnescapeString(text)), " ")
}

func TestDeliveries_AreListedFilteredAndPaged(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	one, two := s.hook(key, "First & <b>"), s.hook(key, "Second")
	b := s.signIn(id, bots.Manage)
	require.Contains(t, b.get("/portal/deliveries").body, "No deliveries yet")
	for range 30 {
		s.deliver(one, "e1", post, "", "HTTP 503")
		s.deliver(two, "e2", post, "ok", "")
	}
	last := s.deliver(one, "e3", post, "", "timeout")
	all := b.get("/portal/deliveries")
	require.Equal(t, http.StatusOK, all.status)
	require.Contains(t, all.body, "First &amp; &lt;b&gt;")
	require.Equal(t, 50, strings.Count(all.body, "<tr data-id="))
	require.Equal(t, 1, strings.Count(all.body, ">timeout<"))
	older := regexp.MustCompile(`href="(\?[^"]*)" rel="next"`).FindStringSubmatch(all.body)
	require.NotNil(t, older)
	next := b.get("/portal/deliveries" + html.UnescapeString(older[1]))
	require.Equal(t, 11, strings.Count(next.body, "<tr data-id="))
	require.Contains(t, next.body, `rel="first"`)
	require.NotContains(t, next.body, `rel="next"`)

	of := "/portal/webhooks/" + one + "/deliveries"
	for query, n := range map[string]int{
		"": 31, "outcome=failed": 31, "outcome=delivered": 0, "error=timeout": 1, "statusClass=5xx": 30, "statusClass=none": 1, "eventId=e3": 1, "eventId=&error=": 31,
		"eventType=mention": 0, "trigger=event": 31, "trigger=retry": 0, "since=2020-01-01T10:00": 31, "until=2020-01-01T10:00": 0, "since=" + url.QueryEscape(time.Now().Add(-time.Hour).Format(time.RFC3339)): 31,
	} {
		got := b.get(of + "?" + query)
		require.Equal(t, http.StatusOK, got.status, query)
		require.Equal(t, n, strings.Count(got.body, "<tr data-id="), query)
	}
	require.Contains(t, b.get(of+"?statusClass=5xx&eventType=post.created").body, "/portal/webhooks/"+one+"/recover?eventType=post.created&amp;statusClass=5xx")
	require.NotContains(t, s.signIn(id, bots.View).get(of).body, "Redeliver all")
	require.NotContains(t, b.get("/portal/deliveries").body, "Redeliver all", "a recovery is of one webhook")
	for query, field := range map[string]string{"outcome=x": "outcome", "statusClass=9xx": "statusClass", "eventType=x": "eventType", "trigger=x": "trigger", "since=yesterday": "since", "until=x": "until", "eventId=a+b": "eventId", "error=%00": "error"} {
		got := b.get(of + "?" + query)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, query)
		require.Contains(t, got.body, `id="`+field+`-error"`, query)
	}
	got := b.get("/portal/deliveries?webhook=" + one + "&outcome=failed")
	require.Equal(t, []any{http.StatusSeeOther, of + "?outcome=failed"}, []any{got.status, got.header.Get("Location")})
	tag := b.get(of).header.Get("ETag")
	require.Equal(t, http.StatusNotModified, b.do(http.MethodGet, of, nil, "If-None-Match", tag).status)
	s.deliver(one, "e3", post, "", "")
	require.Equal(t, http.StatusOK, b.do(http.MethodGet, of, nil, "If-None-Match", tag).status)
	require.Equal(t, http.StatusOK, b.get(of+"/"+last).status)
}

// unmarked puts back what the marks of invisible characters stand for, as the module does when it copies.
func unmarked(text string) string {
	mark := regexp.MustCompile(`<span class="odd" data-char="(\d+)">[^<]*</span>`)
	return mark.ReplaceAllStringFunc(text, func(m string) string {
		char, _ := strconv.Atoi(mark.FindStringSubmatch(m)[1])
		return string(rune(char))
	})
}

// TestDelivery_ShowsPayloadsAsText: nothing that an emitter or a receiver says becomes part of the page.
func TestDelivery_ShowsPayloadsAsText(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	hook := s.hook(key, "hook")
	b := s.signIn(id, bots.Manage)
	for name, data := range map[string]string{
		"script": `"<script>alert(1)</script>'\"</pre></code><img src=x onerror=alert(1)>"`, "nul": `"a\u0000b"`, "rtl": `"שלום \u202e evil"`,
		"large": `"` + strings.Repeat("x", 256<<10-200) + `"`, "digits": `12345678901234567890.123456789012345678901234567890`, "separators": "\"\u2028\u2029\"",
	} {
		payload := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"x":` + data + `}}`
		response := "<script>alert(2)</script>\x00\xff\u202e</pre>"
		delivery := s.deliver(hook, name, payload, response, "HTTP 500")
		for _, view := range []string{"", "?view=raw"} {
			got := b.get("/portal/webhooks/" + hook + "/deliveries/" + delivery + view)
			require.Equal(t, http.StatusOK, got.status, name)
			require.NotContains(t, got.body, "<script>alert", name)
			require.NotContains(t, got.body, "<img", name)
			require.NotContains(t, got.body, "\x00", name)
			pre := regexp.MustCompile(`(?s)<pre tabindex="0" aria-label="Body of the request"><code>(.*?)</code></pre>`).FindStringSubmatch(got.body)
			require.NotNil(t, pre, name)
			text := html.UnescapeString(unmarked(pre[1]))
			require.Contains(t, text, data, name)
			if view != "" {
				require.Equal(t, payload, text, name)
			} else {
				require.JSONEq(t, payload, text, name)
			}
			answer := regexp.MustCompile(`(?s)<pre tabindex="0" aria-label="Body of the response"><code>(.*?)</code></pre>`).FindStringSubmatch(got.body)
			require.Equal(t, "<script>alert(2)</script>\uFFFD\uFFFD\u202e</pre>", html.UnescapeString(unmarked(answer[1])), name)
			require.NotRegexp(t, "[\u202e\u2028\u2029]", got.body, "what turns or hides text is marked")
		}
	}
}

func TestDelivery_SaysWhatHappenedAndWhatIsNext(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	hook := s.hook(key, "hook")
	b, viewer := s.signIn(id, bots.Manage), s.signIn(id, bots.View)
	first := s.deliver(hook, "e1", post, strings.Repeat("x", 4096), "HTTP 404")
	path := "/portal/webhooks/" + hook + "/deliveries/"
	s.execute("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e1', 2, 2, 'retry', now() + interval '1 hour')", hook)
	got := b.get(path + first)
	text := shown(got.body)
	for _, part := range []string{"the receiver knows no such path for POST (HTTP 404)", "Attempt 2 is planned", "Check the path", "cut at 4 KiB", "Attempt 2 is due", "https://example.com/hook?token=t", "4096 bytes"} {
		require.Contains(t, text, part)
	}
	require.Contains(t, got.body, path+first+"/attempt-now")
	require.Contains(t, html.UnescapeString(got.body), "curl -g -i -X POST 'https://example.com/hook?token=t'")
	require.Contains(t, html.UnescapeString(got.body), "--data-raw '"+post+"'")
	require.NotContains(t, viewer.get(path+first).body, "<button class=\"btn primary\"")
	require.NotContains(t, viewer.get(path+first).body, "attempt-now")

	got = b.post(path+first+"/attempt-now", nil)
	require.Equal(t, []any{http.StatusSeeOther, path + first + "?done=attempt-due"}, []any{got.status, got.header.Get("Location")})
	got = b.get(path + first)
	require.Contains(t, got.body, "is due now")
	require.NotContains(t, got.body, path+first+"/attempt-now", "it is made")
	s.execute("DELETE FROM queue")
	require.Equal(t, path+first+"?done=nothing-waits", b.post(path+first+"/attempt-now", nil).header.Get("Location"))
	require.Contains(t, shown(b.get(path+first).body), "No further attempt of this event is planned.")

	second := s.deliver(hook, "e1", post, "", "")
	text = shown(b.get(path + second).body)
	for _, part := range []string{"Delivered: the receiver answered 204 within 7 ms.", "Attempt 2, this one", "Attempt 1 : HTTP 404"} {
		require.Contains(t, text, part)
	}
	require.Contains(t, shown(b.get(path+s.deliver(hook, "e1", post, "", "timeout")).body), "the receiver did not answer within 5 seconds (timeout)")
	require.Equal(t, http.StatusServiceUnavailable, b.post(path+first+"/redeliver", nil).status, "Temporal is away")
}

// TestDeliveries_AreTheBotsOwn: another's ids are not found, on every route, and who may only look changes nothing.
func TestDeliveries_AreTheBotsOwn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	strangerID, strangerKey := s.bot()
	hook, other := s.hook(key, "mine"), s.hook(strangerKey, "other")
	mine, others := s.deliver(hook, "e1", post, "", "timeout"), s.deliver(other, "e2", post, "", "timeout")
	b, viewer, stranger := s.signIn(id, bots.Manage), s.signIn(id, bots.View), s.signIn(strangerID, bots.Manage)
	require.NotContains(t, b.get("/portal/deliveries").body, others)
	require.Equal(t, http.StatusNotFound, b.get("/portal/deliveries?before="+others).status)
	require.Equal(t, http.StatusNotFound, b.get("/portal/webhooks/"+hook+"/deliveries/"+others).status)
	require.Equal(t, http.StatusNotFound, b.get("/portal/webhooks/nonsense/deliveries").status)
	require.Equal(t, http.StatusNotFound, b.get("/portal/webhooks/"+hook+"/deliveries/nonsense").status)
	for _, path := range []string{"/deliveries", "/deliveries/" + mine, "/recover"} {
		require.Equal(t, http.StatusOK, b.get("/portal/webhooks/"+hook+path).status, path)
		require.Equal(t, http.StatusOK, viewer.get("/portal/webhooks/"+hook+path).status, path)
		require.Equal(t, http.StatusNotFound, stranger.get("/portal/webhooks/"+hook+path).status, path)
		require.Equal(t, http.StatusUnauthorized, s.browser().get("/portal/webhooks/"+hook+path).status, path)
	}
	for _, path := range []string{"/deliveries/" + mine + "/redeliver", "/deliveries/" + mine + "/attempt-now", "/recover", "/recover/cancel"} {
		require.Equal(t, http.StatusNotFound, stranger.post("/portal/webhooks/"+hook+path, nil).status, path)
		require.Equal(t, http.StatusForbidden, viewer.post("/portal/webhooks/"+hook+path, nil).status, path)
		require.Equal(t, http.StatusForbidden, b.do(http.MethodPost, "/portal/webhooks/"+hook+path, nil, "Sec-Fetch-Site", "cross-site").status, path)
		require.Equal(t, http.StatusUnauthorized, s.browser().post("/portal/webhooks/"+hook+path, nil).status, path)
	}
	var n int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM recoveries").Scan(&n))
	require.Zero(t, n)
}

func TestRecover_CountsBeforeItStarts(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	hook := s.hook(key, "hook")
	s.execute("UPDATE webhooks SET created_at = now() - interval '9 days' WHERE id = $1", hook)
	s.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) SELECT 'm' || n, 'mention', '{}', 'run', now() - (n - 0.5) * interval '1 hour' FROM generate_series(1, 48) n")
	s.deliver(hook, "p1", post, "", "HTTP 503")
	b, viewer := s.signIn(id, bots.Manage), s.signIn(id, bots.View)
	path := "/portal/webhooks/" + hook + "/recover"
	for query, count := range map[string]string{
		"": "25 events", "span=1h": "2 events", "span=7d": "49 events", "span=7d&eventType=mention": "48 events", "statusClass=5xx": "1 event", "error=timeout": "0 events",
		"since=" + time.Now().UTC().Add(-2*time.Hour).Format("2006-01-02T15:04"): "3 events",
	} {
		got := b.get(path + "?" + query)
		require.Equal(t, http.StatusOK, got.status, query)
		require.Contains(t, shown(got.body), count+" missed from", query)
	}
	require.NotContains(t, viewer.get(path).body, "Recover all")
	for query, field := range map[string]string{"since=x": "since", "until=x": "until", "statusClass=x": "statusClass", "eventType=x": "eventType", "since=2025-03-20T10:30&until=2025-03-19T10:30": "since"} {
		got := b.get(path + "?" + query)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, query)
		require.Contains(t, got.body, `id="`+field+`-error"`, query)
		require.NotContains(t, got.body, "Recover all", query)
	}
	// What is confirmed is what was counted.
	form := url.Values{}
	page := b.get(path + "?span=7d&eventType=mention").body
	for _, m := range regexp.MustCompile(`<input type="hidden" name="(since|until|eventType|error|statusClass)" value="([^"]*)">`).FindAllStringSubmatch(page, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	got := b.post(path, form)
	require.Equal(t, []any{http.StatusSeeOther, path + "?done=recovery-started"}, []any{got.status, got.header.Get("Location")}, got.body)
	var eventType, since string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT event_type, to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') FROM recoveries").Scan(&eventType, &since))
	require.Equal(t, []string{"mention", form.Get("since")}, []string{eventType, since})
	got = b.post(path, form)
	require.Equal(t, http.StatusConflict, got.status)
	require.Contains(t, got.body, "A recovery of webhook")
	s.execute("UPDATE recoveries SET found = 40, delivered = 9, failed = 1, last_error = 'HTTP 503 <b>', created_at = now() - interval '10 seconds'")
	text := shown(b.get(path).body)
	require.Contains(t, text, "10 of 40 found so far: 9 delivered, 1 failed")
	require.Contains(t, text, "HTTP 503 <b>")
	require.Contains(t, text, "1.0 a second")
	require.NotContains(t, viewer.get(path).body, "recover/cancel")
	require.Equal(t, path+"?done=recovery-cancelled", b.post(path+"/cancel", nil).header.Get("Location"))
	require.Contains(t, shown(b.get(path).body), "cancelled")
	s.execute("UPDATE webhooks SET is_active = false, disabled_at = now()")
	require.Contains(t, shown(b.get(path).body), "The webhook is disabled.")
	require.Equal(t, http.StatusConflict, b.post(path, form).status)
}

// TestBodiesOfManyBracketsMakeNoLongPage: indented, 4 KiB of them would be 8 MB.
func TestBodiesOfManyBracketsMakeNoLongPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, key := s.bot()
	hook := s.hook(key, "Deep")
	b := s.signIn(id, bots.View)
	answer := strings.Repeat("[", webhook.MaxResponseBody/2) + strings.Repeat("]", webhook.MaxResponseBody/2)
	payload := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"a":` + strings.Repeat("[", 90) + strings.Repeat("1,", 100_000) + "1" + strings.Repeat("]", 90) + "}}"
	delivery := s.deliver(hook, "e1", payload, answer, "HTTP 500")
	got := b.get("/portal/webhooks/" + hook + "/deliveries/" + delivery)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, got.body, answer)
	require.Contains(t, got.body, "cut at 4 KiB, too deep to indent")
	require.Contains(t, got.body, "--data-binary @body.json</code>", "no comment: zsh gives its words to curl, as URLs")
	require.Contains(t, got.body, "Copy the body into the file body.json first.")
	require.Less(t, len(got.body), 1<<20)
	require.Less(t, len(b.get("/portal/events/e1").body), 1<<20)
}
