package portal_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/webhook"
)

// accept stores an event as a worker does, n seconds ago; no bots: for every bot.
func (s *site) accept(id, eventType, body string, n int, botIDs ...string) {
	s.t.Helper()
	var audience any
	if len(botIDs) > 0 {
		audience = botIDs
	}
	_, err := s.pool.Exec(s.t.Context(), `INSERT INTO events (id, type, payload, bot_ids, run_id, accepted_at)
		VALUES ($1, $2, $3, $4, 'run', now() - $5 * interval '1 second')`, id, eventType, []byte(body), audience, n)
	require.NoError(s.t, err)
}

// attempt records an attempt at an event.
func (s *site) attempt(hook, eventID string, attempt int, success bool) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, error, duration_ms, attempted_at)
		VALUES ($1, $2, $3, $4, $5, CASE WHEN $5 THEN 204 ELSE 503 END, CASE WHEN $5 THEN NULL ELSE 'HTTP 503' END, 12, now())`,
		webhook.DeliveryID(time.Now(), uuid.New()), hook[len(list)+1:], eventID, attempt, success)
	require.NoError(s.t, err)
}

func TestEvents_LogAndOneEvent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	otherID, _ := s.bot()
	b := s.signIn(id, bots.View)
	manager := s.signIn(id, bots.Manage)
	alpha, beta := manager.subscribe(hookForm("name", "Alpha")), manager.subscribe(hookForm("name", "Beta"))
	require.Contains(t, b.get("/portal/events").body, "No events")

	s.accept("e-all", "post.created", `{"event":"post.created","data":{"body":"<script>alert(1)</script> \u0000 \u202e"}}`, 40)
	s.accept("e-mine", "mention", `{"event":"mention","data":{}}`, 30, id)
	s.accept("e-earlier", "mention", `{"event":"mention","data":{}}`, 90_000, id) // of another bot that had the id
	s.accept("e-other", "mention", `{"event":"mention","data":{}}`, 20, otherID)
	s.accept("e-test", "test", `{"event":"post.created","test":true,"data":{}}`, 10)
	s.attempt(alpha, "e-all", 1, false)
	s.attempt(alpha, "e-all", 2, true)
	s.attempt(beta, "e-all", 1, false)
	s.attempt(beta, "e-test", 1, true)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e-all', 2, 2, 'retry', now() + interval '1 hour')", beta[len(list)+1:])
	require.NoError(t, err)

	body := b.get("/portal/events").body
	require.Regexp(t, `(?s)e-mine.*none subscribed.*e-all.*Delivered</span> <span>Alpha.*Waiting</span> <span>Beta`, body)
	require.NotContains(t, body, "e-other")
	require.NotContains(t, body, "e-earlier")
	require.NotContains(t, body, "e-test", "a test is for one webhook")
	require.NotContains(t, b.get("/portal/events?type=mention").body, "e-all")

	one := b.get("/portal/events/e-all").body
	require.Contains(t, one, "&lt;script&gt;alert(1)&lt;/script&gt;")
	require.NotContains(t, one, "<script>alert")
	require.Regexp(t, `(?s)Alpha</a>.*Delivered.*>2<.*204.*Beta</a>.*Waiting.*>1<.*HTTP 503`, one)
	require.Contains(t, one, alpha+"/deliveries?eventId=e-all")
	require.Contains(t, b.get("/portal/events/e-mine").body, "None of your webhooks")
	require.Contains(t, b.get("/portal/events/e-test").body, "Beta", "who got a test sees it")
	for _, hidden := range []string{"e-other", "e-earlier", "no-such", "no%20id", strings.Repeat("e", 129)} {
		require.Equal(t, http.StatusNotFound, b.get("/portal/events/"+hidden).status, hidden)
	}
	other := s.signIn(otherID, bots.Manage)
	require.Equal(t, http.StatusNotFound, other.get("/portal/events/e-test").status)
	require.Equal(t, http.StatusNotFound, other.get("/portal/events/e-mine").status)
	require.NotContains(t, other.get("/portal/events").body, "Alpha")
}

// TestANonceIsShownOnceItWasSent: a bot can have a verification wait, and have whatever it may publish at another's endpoint answer it.
func TestANonceIsShownOnceItWasSent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm("name", "Alpha"))
	s.accept("e-verify", "webhook.verify", `{"event":"webhook.verify","data":{"nonce":"JBSWY3DPEHPK3PXP"}}`, 10, id)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e-verify', 1, 0, 'verify', now())", hook[len(list)+1:])
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, b.get("/portal/events/e-verify").status)
	s.attempt(hook, "e-verify", 1, false)
	require.Contains(t, b.get("/portal/events/e-verify").body, "JBSWY3DPEHPK3PXP")
}

// TestEvents_Pages: each event is on one page, once, also where many were accepted at one moment.
func TestEvents_Pages(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.View)
	for i := range 60 {
		s.accept(fmt.Sprintf("e%02d", i), "wiki.edited", `{"event":"wiki.edited","data":{}}`, 0)
	}
	_, err := s.pool.Exec(t.Context(), "UPDATE events SET accepted_at = '2026-01-01' WHERE id > 'e20'")
	require.NoError(t, err)
	seen, path := map[string]int{}, "/portal/events"
	for pages := 0; path != ""; pages++ {
		require.Less(t, pages, 5)
		body := b.get(path).body
		for _, m := range regexp.MustCompile(`/portal/events/(e\d\d)"`).FindAllStringSubmatch(body, -1) {
			seen[m[1]]++
		}
		path = ""
		if m := regexp.MustCompile(`href="([^"]+)" rel="next"`).FindStringSubmatch(body); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	require.Len(t, seen, 60)
	for event, times := range seen {
		require.Equal(t, 1, times, event)
	}
	for _, odd := range []string{"x", "-1.e", "99999999999999999999.e", "1.", "1.%00", "9223372036854775807.e"} {
		require.Equal(t, http.StatusOK, b.get("/portal/events?before="+odd).status, odd)
	}
}

func TestEvents_Catalog(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	require.NotContains(t, b.get("/portal/events?show=catalog").body, "Test with this", "there is no webhook")
	hook := b.subscribe(hookForm("name", "Alpha"))
	body := b.get("/portal/events?show=catalog").body
	require.Equal(t, len(webhook.Subscribable()), strings.Count(body, "Test with this"))
	for _, spec := range webhook.Catalog() {
		for _, f := range spec.Fields {
			if spec.Audience != webhook.Direct {
				require.Contains(t, body, f.Name)
			}
		}
	}
	require.Equal(t, hook+"/test?type=wiki.edited", b.get("/portal/webhooks/test?type=wiki.edited&webhook="+hook[len(list)+1:]).header.Get("Location"))
	require.Contains(t, b.get(hook+"/test?type=wiki.edited").body, `value="wiki.edited" checked`)
	require.Equal(t, http.StatusNotFound, b.get("/portal/webhooks/test?type=wiki.edited&webhook="+uuid.NewString()).status)
	viewer := s.signIn(id, bots.View)
	require.NotContains(t, viewer.get("/portal/events?show=catalog").body, "Test with this")
}
