package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func (a *testAPI) event(id, query string) (e mathub.EventDetail) {
	a.t.Helper()
	got := a.do("GET", eventsPath+"/"+id+query, serviceToken, nil)
	require.Equal(a.t, http.StatusOK, got.status, "%s", got.body)
	got.into(a.t, &e)
	return e
}

// pagesOf reads an event's webhooks and all the pages after them, and returns the ids on each.
func (a *testAPI) pagesOf(id, query string) (pages [][]string) {
	a.t.Helper()
	for path := eventsPath + "/" + id + query; path != ""; {
		got := a.do("GET", path, serviceToken, nil)
		require.Equal(a.t, http.StatusOK, got.status, "%s: %s", path, got.body)
		var e mathub.EventDetail
		got.into(a.t, &e)
		page := []string{}
		for _, w := range e.Webhooks {
			page = append(page, w.WebhookID)
		}
		pages = append(pages, page)
		path = ""
		if link := got.header.Get("Link"); link != "" {
			require.Regexp(a.t, `^<[^>]+>; rel="next"$`, link)
			path = link[1:strings.Index(link, ">")]
		}
	}
	return pages
}

// attempted records attempts at an event, one a minute and the last one now: "+" is a success, "-" a 503, "x" one without a
// response.
func (a *testAPI) attempted(id, event, attempts string) {
	a.t.Helper()
	for i, how := range attempts {
		var status *int
		var cause *string
		switch how {
		case '+':
			status = new(int)
			*status = 204
		case '-':
			status, cause = new(int), new(string)
			*status, *cause = 503, "HTTP 503"
		case 'x':
			cause = new(string)
			*cause = "timeout"
		}
		a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, error, duration_ms, attempted_at)
			VALUES (`+dbtest.DeliveryID("now()")+`, $1, $2, $3, $4, $5, $6, 1, now() - $7 * interval '1 minute')`,
			id, event, i+1, cause == nil, status, cause, len(attempts)-1-i)
	}
}

func TestAnEventIsFoundWithWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	data := `{"n":12345678901234567890.10,"html":"<a>"}`
	a.accepted("e", "post.created", data)
	a.accepted("other", "post.created", "{}")
	hook := func(attempts string) string {
		id := a.hook(key)
		a.attempted(id, "e", attempts)
		return id
	}
	plan := func(id, trigger, due string) {
		a.execute("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e', 9, 0, $2::text::delivery_trigger, "+due+")", id, trigger)
	}
	disable := func(id string) { a.execute("UPDATE webhooks SET is_active = false WHERE id = $1", id) }
	const inAnHour = "now() + interval '1 hour'"
	hour, none := time.Hour, time.Duration(-1)

	taken, third, again := hook("+"), hook("-x+"), hook("+-")
	retried, fresh, paused := hook("-"), hook(""), hook("x")
	exhausted, dropped, asked := hook("xx-"), hook("-"), hook("-")
	plan(again, "redeliver", "'epoch'")
	plan(retried, "retry", inAnHour)
	plan(fresh, "event", "'epoch'")
	plan(paused, "retry", "now() - interval '1 hour'")
	a.execute("UPDATE webhooks SET resume_at = now() + interval '1 hour' WHERE id = $1", paused)
	plan(dropped, "retry", inAnHour)
	disable(dropped)
	plan(asked, "redeliver", "'epoch'")
	disable(asked)
	// Not among them: one that has only what its disabling ended, one with another event, one with none, one that is gone.
	unsent, stranger := hook(""), hook("")
	plan(unsent, "event", inAnHour)
	disable(unsent)
	a.attempted(stranger, "other", "+")
	a.plan(stranger, "other", "retry")
	plan("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71", "event", inAnHour)
	a.execute("UPDATE webhooks SET url = 'https://hooks.example.com:8443/secret-token?k=secret-token', origin = 'https://hooks.example.com:8443'")

	body := string(a.do("GET", eventsPath+"/e", serviceToken, nil).body)
	require.NotContains(t, body, "secret-token", "the URL may hold a token")
	sent := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`
	require.Contains(t, body, `"payload":`+sent, "to the digit")
	e := a.event("e", "")
	require.Equal(t, []any{"e", "post.created", "2025-03-20T10:30:00.000Z", len(sent)}, []any{e.ID, e.EventType, webhook.FormatTime(e.Timestamp), e.PayloadBytes})
	require.WithinDuration(t, time.Now(), e.AcceptedAt, time.Minute)
	require.Nil(t, e.BotIDs)
	require.Contains(t, body, `"botIds":null`)
	require.Equal(t, []any{"event-e", "run"}, []any{e.Workflow.ID, e.Workflow.RunID})
	require.Nil(t, e.Workflow.URL)
	require.Equal(t, mathub.EventAudience{Webhooks: 9, Delivered: 3, Failed: 2, Waiting: 4}, e.Audience)

	found := map[string]mathub.EventWebhook{}
	for _, w := range e.Webhooks {
		found[w.WebhookID] = w
	}
	require.Len(t, found, 9)
	for id, c := range map[string]struct {
		outcome  string
		attempts int
		status   int    // 0: null
		cause    string // "": null
		next     time.Duration
		active   bool
	}{
		taken:     {"delivered", 1, 204, "", none, true},
		third:     {"delivered", 3, 204, "", none, true},
		again:     {"delivered", 2, 503, "HTTP 503", 0, true},
		retried:   {"waiting", 1, 503, "HTTP 503", hour, true},
		fresh:     {"waiting", 0, 0, "", 0, true},
		paused:    {"waiting", 1, 0, "timeout", hour, true},
		exhausted: {"failed", 3, 503, "HTTP 503", none, true},
		dropped:   {"failed", 1, 503, "HTTP 503", none, false},
		asked:     {"waiting", 1, 503, "HTTP 503", 0, false},
	} {
		w := found[id]
		require.Equal(t, []any{c.outcome, c.attempts, c.active, bot, "hooks.example.com:8443"}, []any{w.Outcome, w.Attempts, w.IsActive, w.BotID, w.Host})
		require.Equal(t, c.status == 0, w.LastStatusCode == nil)
		if c.status != 0 {
			require.Equal(t, c.status, *w.LastStatusCode)
		}
		require.Equal(t, c.cause == "", w.LastError == nil)
		if c.cause != "" {
			require.Equal(t, c.cause, *w.LastError)
		}
		require.Equal(t, c.attempts == 0, w.LastAttemptAt == nil)
		if c.attempts > 0 {
			require.WithinDuration(t, time.Now(), *w.LastAttemptAt, 50*time.Second, "the last of them")
		}
		require.Equal(t, c.next == none, w.NextAttemptAt == nil, c.outcome)
		if c.next != none {
			require.WithinDuration(t, time.Now().Add(c.next), *w.NextAttemptAt, time.Minute)
		}
	}
	for outcome, want := range map[string][]string{
		"delivered": {taken, third, again}, "failed": {exhausted, dropped}, "waiting": {retried, fresh, paused, asked},
	} {
		slices.Sort(want)
		require.Equal(t, [][]string{want}, a.pagesOf("e", "?outcome="+outcome))
		require.Equal(t, e.Audience, a.event("e", "?outcome="+outcome).Audience, "counts are of all")
	}
}

func TestAnEventsWebhooksArePaged(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	a.accepted("e", "post.created", "{}")
	var all, failed []string
	for i := range 11 {
		id := a.hook(key)
		all = append(all, id)
		if i%2 == 0 {
			a.attempted(id, "e", "+")
		} else {
			failed = append(failed, id)
			a.attempted(id, "e", "--")
		}
	}
	slices.Sort(all)
	slices.Sort(failed)
	chunks := func(ids []string, n int) [][]string { return slices.Collect(slices.Chunk(ids, n)) }
	require.Equal(t, [][]string{all}, a.pagesOf("e", ""))
	require.Equal(t, [][]string{all}, a.pagesOf("e", "?limit=11"), "the last page has no next one")
	require.Equal(t, chunks(all, 1), a.pagesOf("e", "?limit=1"))
	require.Equal(t, chunks(all, 4), a.pagesOf("e", "?limit=4"))
	require.Equal(t, chunks(failed, 2), a.pagesOf("e", "?limit=2&outcome=failed"))
	require.Equal(t, [][]string{all[8:]}, a.pagesOf("e", "?after="+all[7]))
	require.Equal(t, [][]string{{}}, a.pagesOf("e", "?after="+all[10]))
	require.Equal(t, [][]string{{}}, a.pagesOf("e", "?outcome=waiting"))
	require.Equal(t, 11, a.event("e", "?after="+all[7]).Audience.Webhooks)
}

// TestALargeAudienceIsReadInParts: a call reads no more than it may, says so, and leads to the rest.
func TestALargeAudienceIsReadInParts(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, _ := a.bot()
	const more = webhook.MaxDeliveriesRead + 2500
	a.accepted("e", "post.created", "{}")
	a.execute("INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT md5(n::text)::uuid, $1, 'https://example.com', 'https://example.com', '{}' FROM generate_series(1, $2::integer) n", bot, more)
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT ` + dbtest.DeliveryID("now()") + `, id, 'e', 1, true, 1, now() FROM webhooks`)
	var last string
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT id::text FROM webhooks ORDER BY id DESC LIMIT 1").Scan(&last))
	a.execute("UPDATE deliveries SET success = false WHERE webhook_id = $1", last)
	e := a.event("e", "")
	require.Len(t, e.Webhooks, 100)
	require.Equal(t, mathub.EventAudience{Webhooks: webhook.MaxDeliveriesRead - 1, Delivered: webhook.MaxDeliveriesRead - 1, More: true}, e.Audience)
	require.Equal(t, [][]string{{}, {last}}, a.pagesOf("e", "?outcome=failed"))

	// A webhook that was sent the event more often than a page may read holds nothing up.
	a.accepted("often", "post.created", "{}")
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT ` + dbtest.DeliveryID("now()") + `, id, 'often', n, false, 1, now() FROM (SELECT id FROM webhooks ORDER BY id LIMIT 3) AS w, generate_series(1, 3000) n`)
	pages := a.pagesOf("often", "")
	require.Len(t, slices.Concat(pages...), 3)
	require.Equal(t, mathub.EventAudience{Webhooks: 3, Failed: 3}, a.event("often", "").Audience)
}

func TestAnEventLeadsToItsWorkflow(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(c *api.Config) { c.TemporalUI, c.Namespace = "https://temporal.example.com/ui/", "math hub" })
	bot, key := a.bot()
	a.accepted("mine", "mention", "{}", bot, "nobody")
	a.execute("UPDATE events SET workflow_id = 'events-0195b2f0', run_id = 'run-1' WHERE id = 'mine'")
	a.attempted(a.hook(key), "mine", "+")
	e := a.event("mine", "")
	require.Equal(t, []string{bot, "nobody"}, e.BotIDs)
	require.Equal(t, []any{"events-0195b2f0", "run-1"}, []any{e.Workflow.ID, e.Workflow.RunID})
	require.Equal(t, "https://temporal.example.com/ui/namespaces/math%20hub/workflows/events-0195b2f0/run-1", *e.Workflow.URL)
	require.Equal(t, mathub.EventAudience{Webhooks: 1, Delivered: 1}, e.Audience)

	a.accepted("nobodys", "mention", "{}", "nobody")
	e = a.event("nobodys", "")
	require.Equal(t, "event-nobodys", e.Workflow.ID)
	require.Equal(t, mathub.EventAudience{}, e.Audience)
	require.Empty(t, e.Webhooks)
}

func TestAnEventThatIsNotFoundOrAskedForWrongly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	a.accepted("e", "post.created", "{}")
	got := a.do("GET", eventsPath+"/unknown", serviceToken, nil)
	require.Equal(t, http.StatusNotFound, got.status)
	require.Contains(t, got.fault(t).Detail, "does not exist, is no longer kept, or is accepted but not stored yet")
	require.Equal(t, http.StatusUnauthorized, a.do("GET", eventsPath+"/e", key, nil).status, "it is no bot's to ask")
	require.Equal(t, http.StatusUnauthorized, a.do("GET", eventsPath+"/e", "", nil).status)
	for path, fields := range map[string][]string{
		"a.b": {"id"}, strings.Repeat("x", 129): {"id"}, url.PathEscape("é"): {"id"}, "a%20b": {"id"}, "%00": {"id"},
		"e?outcome=lost": {"outcome"}, "e?outcome=": {"outcome"}, "e?outcome=failed&outcome=failed": {"outcome"},
		"e?after=": {"after"}, "e?after=nonsense": {"after"},
		"e?limit=0": {"limit"}, "e?limit=101": {"limit"}, "e?limit=x": {"limit"}, "e?page=2": {"page"},
		"a.b?outcome=x&after=y&limit=z&w=": {"w", "id", "limit", "outcome", "after"},
	} {
		got := a.do("GET", eventsPath+"/"+path, serviceToken, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", path, got.body)
		require.Equal(t, fields, got.fields(t), path)
	}
	require.Equal(t, http.StatusNotFound, a.do("GET", eventsPath+"/"+strings.Repeat("x", 128), serviceToken, nil).status)
}

// TestAnEmittedEventIsFound with the very run that delivered it, and a test event with its own.
func TestAnEmittedEventIsFound(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	bot, key := s.bot()
	id := s.subscribe(key, "")
	r := s.emit(`{"event":"post.created","data":{"n":1}}`)
	require.NoError(t, s.temporal.GetWorkflow(t.Context(), r.WorkflowID, "").Get(t.Context(), nil))
	run, err := s.temporal.DescribeWorkflowExecution(t.Context(), r.WorkflowID, "")
	require.NoError(t, err)
	var e mathub.EventDetail
	require.Eventually(t, func() bool { // successes are recorded together
		e = s.event(r.ID, "")
		return e.Audience.Delivered == 1
	}, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, []any{r.WorkflowID, run.GetWorkflowExecutionInfo().GetExecution().GetRunId()}, []any{e.Workflow.ID, e.Workflow.RunID})
	require.Equal(t, s.requests()[0].body, string(e.Payload))
	require.Len(t, e.Webhooks, 1)
	require.Equal(t, []any{id, bot, "delivered", 1, 200}, []any{e.Webhooks[0].WebhookID, e.Webhooks[0].BotID, e.Webhooks[0].Outcome, e.Webhooks[0].Attempts, *e.Webhooks[0].LastStatusCode})
	require.Equal(t, strings.TrimPrefix(s.receiver, "http://"), e.Webhooks[0].Host)

	test := s.event(s.test(key, id).EventID, "")
	require.Equal(t, "test", test.EventType)
	require.NotEqual(t, fmt.Sprint("event-", test.ID), test.Workflow.ID)
}
