package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

func filterOf(t *testing.T, got answer, status int) string {
	t.Helper()
	require.Equal(t, status, got.status, "%s", got.body)
	var view struct{ Filter json.RawMessage }
	got.into(t, &view)
	return string(view.Filter)
}

// TestAWebhooksFilter: what passes is delivered, and the rest is neither sent nor missed; a change is for what is accepted
// afterwards.
func TestAWebhooksFilter(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	path := webhooksPath + "/" + s.subscribe(key, "")
	require.Equal(t, `null`, filterOf(t, s.do("GET", path, key, nil), http.StatusOK))
	require.Equal(t, `{"threadId":["t1","t2"]}`, filterOf(t, s.do("PATCH", path, key, `{"filter":{"threadId":["t1","t2","t1"]}}`), http.StatusOK))
	emitted := 0
	emit := func(thread string) {
		s.emit(`{"event":"post.created","data":{"postId":"p","threadId":` + thread + `}}`)
		emitted++
	}
	bodies := func(n int) (threads []string) {
		t.Helper()
		require.Eventually(t, func() bool { // all are accepted, so that a change of the filter comes after them
			var stored int
			require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE type <> 'test'").Scan(&stored))
			return stored == emitted && len(s.requests()) >= n
		}, 3*time.Minute, 10*time.Millisecond)
		require.Len(t, s.requests(), n)
		for _, r := range s.requests() {
			var body struct{ Data struct{ ThreadID string } }
			require.NoError(t, json.Unmarshal([]byte(r.body), &body))
			threads = append(threads, body.Data.ThreadID)
		}
		return threads
	}
	for _, thread := range []string{`"t3"`, `"T1"`, `1`, `null`, `["t1"]`, `"t1"`} {
		emit(thread)
	}
	require.Equal(t, []string{"t1"}, bodies(1))
	require.Equal(t, `{"threadId":["t3"]}`, filterOf(t, s.do("PATCH", path, key, `{"filter":{"threadId":["t3"]}}`), http.StatusOK))
	emit(`"t1"`)
	emit(`"t3"`)
	require.Equal(t, []string{"t1", "t3"}, bodies(2))
	require.Equal(t, `null`, filterOf(t, s.do("PATCH", path, key, `{"filter":{}}`), http.StatusOK))
	emit(`"t4"`)
	require.Equal(t, []string{"t1", "t3", "t4"}, bodies(3))
	require.Eventually(t, func() bool { return len(s.deliveries(key, path[len(webhooksPath)+1:])) == 3 }, 3*time.Minute, 10*time.Millisecond, "once they are recorded")

	require.Equal(t, `{"threadId":["t4"]}`, filterOf(t, s.do("PATCH", path, key, `{"filter":{"threadId":["t4"]}}`), http.StatusOK))
	var missed mathub.Missed
	s.do("GET", path+"/missed", key, nil).into(t, &missed)
	require.Zero(t, missed.Count, "what the filter leaves out was not missed")
	test := s.do("POST", path+"/test", key, `{"eventType":"post.created"}`)
	require.Equal(t, http.StatusOK, test.status, "a test is not filtered: %s", test.body)
	audit := s.do("GET", "/api/bot/v1/audit", key, nil)
	require.Contains(t, string(audit.body), `"after":{"filter":{"threadId":["t3"]}}`)
}

// TestThreeOfAThousandWebhooksMatch: an event is sent to these, and of the others nothing is written.
func TestThreeOfAThousandWebhooksMatch(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	bot, _ := s.bot()
	rows := new(pgx.Batch)
	var want []string
	for n := range 1000 {
		id := uuid.Must(uuid.NewV7())
		sealed, err := s.keyset.SealURL(id, s.receiver)
		require.NoError(t, err)
		filter := fmt.Sprintf(`{"threadId":["t%d"]}`, n)
		if n%400 == 111 {
			filter = fmt.Sprintf(`{"threadId":["t%d","t"],"authorId":["u"]}`, n)
			want = append(want, id.String())
		}
		rows.Queue("INSERT INTO webhooks (id, bot_id, url, origin, events, filter) VALUES ($1, $2, $3, $4, '{post.created}', $5)", id, bot, sealed, s.receiver, []byte(filter))
	}
	require.NoError(t, s.pool.SendBatch(t.Context(), rows).Close())
	emitted := s.emit(`{"event":"post.created","data":{"postId":"p","threadId":"t","authorId":"u"}}`)
	var detail mathub.EventDetail
	require.Eventually(t, func() bool {
		got := s.do("GET", eventsPath+"/"+emitted.ID, serviceToken, nil)
		return got.status == http.StatusOK && json.Unmarshal(got.body, &detail) == nil && detail.Audience.Delivered == 3
	}, 3*time.Minute, 10*time.Millisecond)
	require.Equal(t, mathub.EventAudience{Webhooks: 3, Delivered: 3}, detail.Audience)
	var got []string
	for _, w := range detail.Webhooks {
		got = append(got, w.WebhookID)
	}
	require.ElementsMatch(t, want, got)
	require.Len(t, s.requests(), 3)
	var deliveries, queued int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM queue)").Scan(&deliveries, &queued))
	require.Equal(t, []int{3, 0}, []int{deliveries, queued})
	history := s.temporal.GetWorkflowHistory(t.Context(), emitted.WorkflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		require.NoError(t, err)
		require.Nil(t, e.GetStartChildWorkflowExecutionInitiatedEventAttributes(), "no page")
	}
}

// TestFiltersThatCannotBeAreRefused: each fault names its field; and nothing of the change is done.
func TestFiltersThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	for filter, fields := range map[string][]string{
		`[]`:                               {"filter"},
		`"threadId=t1"`:                    {"filter"},
		`{"threadId":"t1"}`:                {"filter.threadId"},
		`{"threadId":[]}`:                  {"filter.threadId"},
		`{"threadId":["t1",{}],"x":["y"]}`: {"filter.threadId[1]"},
		`{"threadId":["t1",5],"x":["y"]}`:  {"filter.threadId[1]", "filter.x"},
		`{"projectSlug":["a"]}`:            {"filter.projectSlug"},
	} {
		got := a.do("PATCH", path, key, `{"name":"not set","filter":`+filter+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, filter)
		require.Equal(t, fields, got.fields(t), filter)
		got = a.do("POST", webhooksPath, key, `{"url":"https://example.com/","events":["post.created"],"filter":`+filter+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, filter)
		require.Equal(t, fields, got.fields(t), filter)
		got = a.do("POST", "/api/bot/v1/filter-preview", key, `{"events":["post.created"],"filter":`+filter+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, filter)
		require.Equal(t, fields, got.fields(t), filter)
	}
	require.Contains(t, string(a.do("PATCH", path, key, `{"filter":{"projectSlug":["a"]}}`).body), "those are: postId, threadId, body, authorId")
	twice := a.do("PATCH", path, key, `{"filter":{"threadId":["a"],"threadId":["b"]}}`)
	require.Equal(t, http.StatusBadRequest, twice.status)
	require.Contains(t, string(twice.body), "duplicate name")
	require.NotContains(t, string(a.do("GET", path, key, nil).body), "not set")
	all := a.do("POST", webhooksPath, key, `{"url":"ftp://example.com/","events":["post.created"],"name":"","filter":{"x":["y"]}}`)
	require.ElementsMatch(t, []string{"url", "name", "filter.x"}, all.fields(t), "each fault of a request is named")
}

// TestAFilterFitsTheEventTypes, whichever of the two changes.
func TestAFilterFitsTheEventTypes(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	created := a.do("POST", webhooksPath, key, `{"url":"https://example.com/","events":["thread.created","post.created"],"filter":{"projectSlug":["b","a"]}}`)
	require.Equal(t, `{"projectSlug":["b","a"]}`, filterOf(t, created, http.StatusCreated))
	path := created.header.Get("Location")
	refused := a.do("PATCH", path, key, `{"events":["post.created"],"name":"not set"}`)
	require.Equal(t, []string{"filter.projectSlug"}, refused.fields(t), "none of the types has it")
	require.NotContains(t, string(a.do("GET", path, key, nil).body), "not set")
	require.Equal(t, []string{"filter.projectSlug"}, a.do("PATCH", path, key, `{"events":["post.created"],"filter":{"projectSlug":["a"]}}`).fields(t))
	require.Equal(t, `{"projectSlug":["b","a"]}`, filterOf(t, a.do("PATCH", path, key, `{"events":["wiki.edited","mention"]}`), http.StatusOK))
	require.Equal(t, `{"postId":["p"]}`, filterOf(t, a.do("PATCH", path, key, `{"events":["post.created"],"filter":{"postId":["p"]}}`), http.StatusOK))
	require.Equal(t, `null`, filterOf(t, a.do("PATCH", path, key, `{"events":["review.submitted"],"filter":null}`), http.StatusOK))
	require.Equal(t, `null`, filterOf(t, a.do("PATCH", path, key, `{"events":["mention"]}`), http.StatusOK))

	var log []any
	a.do("GET", "/api/bot/v1/audit", key, nil).into(t, &log)
	before := len(log)
	require.Equal(t, `null`, filterOf(t, a.do("PATCH", path, key, `{"filter":null}`), http.StatusOK))
	a.do("GET", "/api/bot/v1/audit", key, nil).into(t, &log)
	require.Len(t, log, before, "no change")
}

// TestADuplicateIsOneThatGetsTheSameEvents.
func TestADuplicateIsOneThatGetsTheSameEvents(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	make := func(filter string) (w mathub.Webhook) {
		t.Helper()
		got := a.do("POST", webhooksPath, key, `{"url":"https://example.com/","events":["thread.created"],"filter":`+filter+`}`)
		require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
		got.into(t, &w)
		return w
	}
	first := make(`{"projectSlug":["a"]}`)
	require.Empty(t, make(`{"projectSlug":["b"]}`).DuplicateOf)
	require.Equal(t, first.ID, make(`{"projectSlug":["c","a"]}`).DuplicateOf)
}

func TestAFilterIsTried(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	try := func(body string) (p mathub.FilterPreview) {
		t.Helper()
		got := a.do("POST", "/api/bot/v1/filter-preview", key, body)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &p)
		return p
	}
	a.accepted("one", "thread.created", `{"projectSlug":"a"}`)
	a.accepted("two", "effort.created", `{"projectSlug":"b"}`)
	a.accepted("mine", "mention", `{"postId":"p"}`, bot)
	a.accepted("theirs", "mention", `{"postId":"p"}`, "bot-other")
	require.Equal(t, mathub.FilterPreview{Events: 2, Matching: 1}, try(`{"events":["thread.created","effort.created"],"filter":{"projectSlug":["a","c"]}}`))
	require.Equal(t, mathub.FilterPreview{Events: 1, Matching: 1}, try(`{"events":["mention"],"filter":{"postId":["p"]}}`), "another bot's are not counted")
	require.Equal(t, mathub.FilterPreview{Events: 2, Matching: 2}, try(`{"events":["thread.created","mention"],"filter":{}}`))
	for body, fields := range map[string][]string{
		`{}`:                               {"events", "filter"},
		`{"events":[],"filter":{}}`:        {"events"},
		`{"events":["nope"],"filter":{}}`:  {"events[0]"},
		`{"events":"mention","filter":{}}`: {"events"},
		`{"events":["mention"]}`:           {"filter"},
	} {
		got := a.do("POST", "/api/bot/v1/filter-preview", key, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, body)
		require.Equal(t, fields, got.fields(t), body)
	}
	require.Equal(t, http.StatusUnauthorized, a.do("POST", "/api/bot/v1/filter-preview", "bot_nobody", `{"events":["mention"],"filter":{}}`).status)
}

// TestPollingIsFiltered: the fields of events are parameters, each of which may be repeated.
func TestPollingIsFiltered(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	a.accepted("a1", "thread.created", `{"projectSlug":"a","title":"x, y"}`)
	a.accepted("b1", "thread.created", `{"projectSlug":"b"}`)
	a.accepted("w", "wiki.edited", `{"projectSlug":"a","pageSlug":"p"}`)
	a.accepted("mine", "mention", `{"postId":"p"}`, bot)
	a.accepted("theirs", "mention", `{"postId":"p"}`, "bot-other")
	for query, want := range map[string][]string{
		"projectSlug=a":                              {"a1", "w"},
		"projectSlug=b&projectSlug=a":                {"a1", "b1", "w"},
		"projectSlug=a&pageSlug=p":                   {"w"},
		"projectSlug=a&types=thread.created,mention": {"a1"},
		"projectSlug=A":                              nil,
		"projectSlug=":                               nil,
		"title=x,%20y":                               {"a1"},
		"postId=p":                                   {"mine"},
		"projectSlug=a&limit=1":                      {"a1"},
	} {
		require.Equal(t, want, a.poll(key, query).ids(), query)
	}
	first := a.poll(key, "projectSlug=a&limit=1")
	require.True(t, first.HasMore)
	rest := a.poll(key, "projectSlug=a&limit=1&after="+first.Cursor)
	require.Equal(t, []string{"w"}, rest.ids())
	require.False(t, rest.HasMore)

	for query, field := range map[string]string{
		"projectslug=a": "projectslug", "pageSlug=p&types=thread.created": "pageSlug", "title=" + strings.Repeat("x", 257): "title[0]",
		"postId=%00": "postId", "authorId=" + strings.Repeat("a&authorId=", 101): "authorId",
	} {
		got := a.do("GET", pollPath+"?"+query, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%.80s: %s", query, got.body)
		require.Equal(t, []string{field}, got.fields(t), "%.80s", query)
	}
	require.Contains(t, string(a.do("GET", pollPath+"?project=a", key, nil).body), "projectSlug", "what is allowed")
	require.Contains(t, string(a.do("GET", pollPath+"?pageSlug=p&types=thread.created", key, nil).body), "those are: threadId, projectSlug, title, authorId")
}

// TestAFilteredPollGoesThroughMany: its pages are bounded, whatever lies between what passes; it waits for what passes.
func TestAFilteredPollGoesThroughMany(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	const events, size = 9000, 2000
	a.execute(`INSERT INTO events (id, type, payload, run_id, accepted_at) SELECT 'e' || n, 'thread.created',
		convert_to('{"event":"thread.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"projectSlug":"p' || n % 4500 || '","title":"' || repeat('x', $2) || '"}}', 'UTF8'), 'run', now() + n * interval '1 ms'
		FROM generate_series(1, $1::int) n`, events, size)
	cursor, pages := "0", 0
	var ids []string
	after := ""
	for more := true; more; pages++ {
		require.Less(t, pages, 20)
		page := a.poll(key, "projectSlug=p4000&limit=2"+after)
		ids, more = append(ids, page.ids()...), page.HasMore
		require.NotEqual(t, cursor, page.Cursor)
		cursor, after = page.Cursor, "&after="+page.Cursor
	}
	require.Equal(t, []string{"e4000", "e8500"}, ids)
	require.Greater(t, pages, 1, "18 MB are more than a page looks through")

	answered := make(chan polled)
	go func() { answered <- a.poll(key, "projectSlug=p&wait=30s&after="+cursor) }()
	for i := range 3 {
		a.accepted(fmt.Sprint("other-", i), "thread.created", `{"projectSlug":"other"}`)
	}
	a.accepted("at-last", "thread.created", `{"projectSlug":"p"}`)
	require.Equal(t, []string{"at-last"}, (<-answered).ids())
}

// TestEveryFieldIsAParameterOfPolling, and no parameter has the name of one.
func TestEveryFieldIsAParameterOfPolling(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var named []string
	for _, p := range document.Paths.Find("/api/bot/v1/events").Get.Parameters {
		named = append(named, p.Value.Name)
	}
	want := []string{"after", "limit", "types", "wait"}
	for _, f := range webhook.FilterFields(webhook.Subscribable()) {
		want = append(want, f.Name)
	}
	require.Equal(t, want, named)
	slices.Sort(want)
	require.Len(t, slices.Compact(want), len(named), "each once")
}
