package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// historyOf fills a webhook's history: every third fails, every fourth is a test, all at one instant.
func (a *testAPI) historyOf(id string, n int) {
	a.t.Helper()
	for _, event := range []string{"post.created", "test"} {
		a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ($1, $1, '{}', 'run') ON CONFLICT DO NOTHING", event)
	}
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now()")+`, $1, CASE WHEN n % 4 = 0 THEN 'test' ELSE 'post.created' END, n, n % 3 <> 0, 200, '', n, date_trunc('minute', now())
		FROM generate_series(1, $2::integer) n ORDER BY n`, id, n)
}

// follow reads a list and all the pages after it, and returns the attempts on each.
func (a *testAPI) follow(path, key string) (pages [][]int) {
	a.t.Helper()
	for path != "" {
		got := a.do("GET", path, key, nil)
		require.Equal(a.t, http.StatusOK, got.status, "%s: %s", path, got.body)
		var list []struct{ Attempt int }
		got.into(a.t, &list)
		page := []int{}
		for _, d := range list {
			page = append(page, d.Attempt)
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

func TestTheHistoryIsPagedAndFiltered(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	a.historyOf(id, 100)
	a.historyOf(a.hook(key), 10) // another's, between
	path := webhooksPath + "/" + id + "/deliveries"
	for query, wanted := range map[string]func(n int) bool{
		"":                                     func(int) bool { return true },
		"limit=7":                              func(int) bool { return true },
		"limit=1&success=false&eventType=test": func(n int) bool { return n%12 == 0 },
		"success=true":                         func(n int) bool { return n%3 != 0 },
		"success=false&limit=10":               func(n int) bool { return n%3 == 0 },
		"eventType=test&limit=5":               func(n int) bool { return n%4 == 0 },
		"eventType=mention":                    func(int) bool { return false },
		"success=true&eventType=post.created":  func(n int) bool { return n%3 != 0 && n%4 != 0 },
		"limit=50":                             func(int) bool { return true },
		"success=false&eventType=post.created": func(n int) bool { return n%3 == 0 && n%4 != 0 },
	} {
		var want, got []int
		for n := 100; n > 0; n-- {
			if wanted(n) {
				want = append(want, n)
			}
		}
		values, err := url.ParseQuery(query)
		require.NoError(t, err)
		limit := 50
		if l := values.Get("limit"); l != "" {
			_, err := fmt.Sscan(l, &limit)
			require.NoError(t, err)
		}
		for _, page := range a.follow(path+"?"+query, key) {
			require.LessOrEqual(t, len(page), limit, query)
			got = append(got, page...)
		}
		require.Equal(t, want, got, query)
	}
}

// TestAFilterReadsNoMoreThanItMay: a page may be empty and have a next one.
func TestAFilterReadsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	a.historyOf(id, 1)
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now()")+`, $1, 'test', n, true, 1, now() FROM generate_series(2, $2::integer) n ORDER BY n`, id, 2*webhook.MaxDeliveriesRead+1)
	require.Equal(t, [][]int{{}, {}, {1}}, a.follow(webhooksPath+"/"+id+"/deliveries?eventType=post.created", key))
}

func TestAWrongQueryIsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id, other := a.hook(key), a.hook(key)
	a.historyOf(other, 1)
	var list []struct{ ID string }
	a.do("GET", webhooksPath+"/"+other+"/deliveries", key, nil).into(t, &list)
	path := webhooksPath + "/" + id + "/deliveries?"
	for query, fields := range map[string][]string{
		"limit=0": {"limit"}, "limit=51": {"limit"}, "limit=x": {"limit"}, "limit=": {"limit"}, "limit=1&limit=2": {"limit"}, "limit=1.5": {"limit"}, "limit=99999999999999999999": {"limit"},
		"success=1": {"success"}, "success=": {"success"}, "success=TRUE": {"success"}, "success=true&success=true": {"success"},
		"eventType=nothing": {"eventType"}, "eventType=": {"eventType"}, "eventType=%00%ff": {"eventType"},
		"before=": {"before"}, "before=nonsense": {"before"}, "before=" + uuid.NewString(): {"before"}, "before=" + list[0].ID: {"before"},
		"eventId=": {"eventId"}, "eventId=a%20b": {"eventId"}, "trigger=": {"trigger"}, "trigger=cron": {"trigger"}, "statusClass=": {"statusClass"}, "statusClass=200": {"statusClass"}, "statusClass=1xx": {"statusClass"},
		"error=": {"error"}, "error=%00": {"error"}, "error=" + strings.Repeat("e", 201): {"error"}, "since=": {"since"}, "since=today": {"since"}, "until=2025": {"until"}, "since=a&until=b": {"since", "until"},
		"page=2": {"page"}, "Limit=2": {"Limit"}, "%ff=": {"\uFFFD"}, "limit=0&success=no&x=": {"x", "success", "limit"},
	} {
		got := a.do("GET", path+query, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, query)
		require.Equal(t, fields, got.fields(t), query)
	}
	for _, form := range []string{"%%7B%s%%7D", "urn:uuid:%s"} { // of a listed one, but not as ids are written
		require.Equal(t, []string{"before"}, a.do("GET", webhooksPath+"/"+other+"/deliveries?before="+fmt.Sprintf(form, list[0].ID), key, nil).fields(t), form)
	}
	require.Equal(t, http.StatusBadRequest, a.do("GET", path+"limit=%zz", key, nil).status)
	require.Contains(t, string(a.do("GET", path+"limit=0", key, nil).body), "from 1 to 50")
	require.Contains(t, string(a.do("GET", path+"page=2", key, nil).body), "until, before, limit")
}

type detailView struct {
	mathub.Delivery
	RequestHeaders, ResponseHeaders []struct{ Name, Value string }
	Timings                         *struct {
		DNS, Connect, TLS, FirstByte *float64
		Total                        float64
	}
	NextAttempt   *int
	NextAttemptAt *time.Time
}

func (a *testAPI) detail(key, id, delivery string) (d detailView) {
	a.t.Helper()
	got := a.do("GET", webhooksPath+"/"+id+"/deliveries/"+delivery, key, nil)
	require.Equal(a.t, http.StatusOK, got.status, "%s", got.body)
	require.NotContains(a.t, string(got.body), "s3cret")
	got.into(a.t, &d)
	return d
}

func TestADeliveryShowsWhatWasSentAndCameBack(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	s.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "bad \xff bytes")
		w.Header().Add("X-Two", "one")
		w.Header().Add("X-Two", "two")
	})
	made := s.test(key, id)
	d := s.detail(key, id, made.ID)
	require.Equal(t, made, d.Delivery)
	sent := s.requests()[0].header
	require.Len(t, d.RequestHeaders, 6, "all but the two signatures")
	for _, h := range d.RequestHeaders {
		require.Equal(t, sent.Values(h.Name), []string{h.Value}, h.Name)
	}
	var names []string
	for _, h := range d.ResponseHeaders {
		names = append(names, h.Name)
		if h.Name == "Server" {
			require.Equal(t, "bad \uFFFD bytes", h.Value)
		}
	}
	require.Equal(t, []string{"Content-Length", "Date", "Server", "X-Two", "X-Two"}, names)
	require.NotNil(t, d.Timings)
	require.Nil(t, d.Timings.DNS, "an address needs no look-up")
	require.NotNil(t, d.Timings.Connect)
	require.Nil(t, d.Timings.TLS)
	require.Positive(t, *d.Timings.FirstByte)
	require.GreaterOrEqual(t, d.Timings.Total, *d.Timings.FirstByte)
	require.GreaterOrEqual(t, d.Timings.Total, *d.Timings.Connect)
	require.InDelta(t, float64(d.DurationMS)-0.5, d.Timings.Total, 0.5, "the same, rounded up")
	require.Nil(t, d.NextAttempt)
	require.Nil(t, d.NextAttemptAt)

	again := s.detail(key, id, s.test(key, id).ID)
	require.Nil(t, again.Timings.Connect, "a kept-alive connection")
	require.Positive(t, *again.Timings.FirstByte)
}

// TestADeliveryWithoutItsExchangeIsShown, and none that is not the webhook's.
func TestADeliveryWithoutItsExchangeIsShown(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	a.historyOf(id, 1)
	var list []struct{ ID string }
	a.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil).into(t, &list)
	d := a.detail(key, id, list[0].ID)
	require.Nil(t, d.RequestHeaders)
	require.Nil(t, d.ResponseHeaders)
	require.Nil(t, d.Timings)
	require.Nil(t, d.NextAttempt)
	for _, unknown := range []string{uuid.NewString(), "nonsense"} {
		require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+id+"/deliveries/"+unknown, key, nil).status)
	}
	require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+a.hook(key)+"/deliveries/"+list[0].ID, key, nil).status, "another webhook's")
	raw := a.do("GET", webhooksPath+"/"+id+"/deliveries/"+list[0].ID, key, nil)
	require.True(t, json.Valid(raw.body))
}
