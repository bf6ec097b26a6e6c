package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/db/dbtest"
)

// mixedHistory fills the histories of some webhooks in turn: attempt n is n minutes after begin, at webhook n % len(hooks).
func (a *testAPI) mixedHistory(begin time.Time, n int, hooks ...string) {
	a.t.Helper()
	a.execute("INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, CASE WHEN n % 2 = 0 THEN 'post.created' ELSE 'mention' END, '{}', 'run' FROM generate_series(0, 9) n")
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, status_code, error, response_body, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now()")+`, ($1::uuid[])[1 + n % cardinality($1::uuid[])], 'e' || n % 10, n, (ARRAY['event','retry','recover'])[1 + n % 3]::delivery_trigger, n % 5 = 0,
			CASE n % 5 WHEN 0 THEN 204 WHEN 1 THEN 503 WHEN 2 THEN 404 END, CASE n % 5 WHEN 1 THEN 'HTTP 503' WHEN 2 THEN 'HTTP 404' WHEN 3 THEN 'timeout' WHEN 4 THEN 'tls: unknown authority' END,
			NULL, n, $2::timestamptz + n * interval '1 minute'
		FROM generate_series(1, $3::integer) n ORDER BY n`, hooks, begin, n)
}

func TestDeliveriesOfAllWebhooksAreFiltered(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	hooks := []string{a.hook(key), a.hook(key), a.hook(key), a.hook(key)}
	begin := time.Date(2025, 3, 20, 10, 0, 0, 0, time.UTC)
	const n = 600
	a.mixedHistory(begin, n, append(hooks, a.hook(stranger))...)
	at := func(n int) string {
		return url.QueryEscape(begin.Add(time.Duration(n) * time.Minute).Format(time.RFC3339))
	}
	for query, wanted := range map[string]func(n int) bool{
		"":                                 func(int) bool { return true },
		"limit=7":                          func(int) bool { return true },
		"success=false&limit=20":           func(n int) bool { return n%5 != 0 },
		"eventType=mention":                func(n int) bool { return n%2 == 1 },
		"eventId=e3":                       func(n int) bool { return n%10 == 3 },
		"eventId=e3&trigger=retry&limit=2": func(n int) bool { return n%10 == 3 && n%3 == 1 },
		"eventId=none":                     func(int) bool { return false },
		"trigger=recover&limit=3":          func(n int) bool { return n%3 == 2 },
		"error=timeout":                    func(n int) bool { return n%5 == 3 },
		"error=tls":                        func(n int) bool { return n%5 == 4 },
		"error=tls%3A+unknown+authority":   func(n int) bool { return n%5 == 4 },
		"error=HTTP+503&success=true":      func(int) bool { return false },
		"statusClass=5xx&limit=4":          func(n int) bool { return n%5 == 1 },
		"statusClass=2xx":                  func(n int) bool { return n%5 == 0 },
		"statusClass=none":                 func(n int) bool { return n%5 == 3 || n%5 == 4 },
		"since=" + at(100):                 func(n int) bool { return n >= 100 },
		"until=" + at(100):                 func(n int) bool { return n <= 100 },
		"limit=6&since=" + at(301) + "&until=" + at(333) + "&success=false": func(n int) bool { return n >= 301 && n <= 333 && n%5 != 0 },
		"since=" + at(9000): func(int) bool { return false },
	} {
		path, with := "/api/bot/v1/deliveries?"+query, func(of func(int) bool) []int {
			var list []int
			for i := n; i > 0; i-- {
				if wanted(i) && of(i) {
					list = append(list, i)
				}
			}
			return list
		}
		require.Equal(t, with(func(i int) bool { return i%5 != 4 }), slices.Concat(a.follow(path, key)...), query)
		require.Equal(t, with(func(i int) bool { return i%5 == 1 }), slices.Concat(a.follow(webhooksPath+"/"+hooks[1]+"/deliveries?"+query, key)...), query)
	}
	empty, none := a.bot()
	require.NotEmpty(t, empty)
	require.Equal(t, "[]\n", string(a.do("GET", "/api/bot/v1/deliveries", none, nil).body))
}

// TestTheDeliveriesOfManyWebhooksAreReadWithinTheBound: a rare filter over many webhooks gives pages that lead on, and skips none.
func TestTheDeliveriesOfManyWebhooksAreReadWithinTheBound(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hooks := make([]string, 20)
	for i := range hooks {
		hooks[i] = a.hook(key)
	}
	a.mixedHistory(time.Now().Add(-time.Hour), 40_000, hooks...)
	a.execute("UPDATE deliveries SET trigger = 'redeliver' WHERE attempt IN (17, 20017, 39999)")
	pages := a.follow("/api/bot/v1/deliveries?trigger=redeliver", key)
	require.Equal(t, []int{39999, 20017, 17}, slices.Concat(pages...))
	require.LessOrEqual(t, len(pages), 7)
	require.Greater(t, len(pages), 3)
}

func TestWhatAWebhookMissedIsCounted(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	id := s.subscribe(key, "")
	s.execute("UPDATE webhooks SET created_at = now() - interval '2 days', enabled_at = now() WHERE id = $1", id)
	path := webhooksPath + "/" + id
	missed := func(query string) (m mathub.Missed) {
		got := s.do("GET", path+"/missed?"+query, key, nil)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &m)
		return m
	}
	require.Zero(t, missed("").Count)
	// Of 100 events, every tenth was taken, every tenth failed with a 503 or a timeout, and the rest was never sent.
	s.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) SELECT 'e' || n, 'post.created', '{\"event\":\"post.created\",\"data\":{}}', 'run', now() - n * interval '1 minute' FROM generate_series(1, 100) n")
	s.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('other', 'mention', '{}', 'run', now() - interval '1 minute')")
	for i, c := range []string{"true, 200, NULL", "false, 503, 'HTTP 503'", "false, NULL, 'timeout'"} {
		s.execute(fmt.Sprintf(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, error, duration_ms, attempted_at)
			SELECT %s, $1, id, 1, %s, 1, now() FROM events e, generate_series(1, 100) n WHERE id = 'e' || n AND n %% 10 = $2`, dbtest.DeliveryID("accepted_at"), c), id, i)
	}
	m := missed("")
	require.Equal(t, []any{90, false, 50}, []any{m.Count, m.AtLeast, len(m.Events)})
	require.Equal(t, []any{"e99", "post.created", 0}, []any{m.Events[0].EventID, m.Events[0].EventType, m.Events[0].Attempts}, "oldest first")
	require.Equal(t, 10, missed("statusClass=5xx").Count)
	require.Equal(t, 10, missed("error=timeout").Count)
	require.Equal(t, 1, missed("error=timeout").Events[0].Attempts)
	require.Zero(t, missed("eventType=mention").Count, "not subscribed")
	require.Equal(t, 9, missed("since="+url.QueryEscape(time.Now().Add(-10*time.Minute-30*time.Second).Format(time.RFC3339))).Count)
	for query, field := range map[string]string{"since=x": "since", "statusClass=9": "statusClass", "error=": "error", "eventType=x": "eventType", "limit=5": "limit"} {
		require.Equal(t, []string{field}, s.do("GET", path+"/missed?"+query, key, nil).fields(t))
	}

	// A recovery of the same filter delivers as many, and says what of.
	for _, body := range []any{`{"statusClass":"6xx"}`, `{"error":""}`, `{"eventType":"x"}`} {
		require.Equal(t, http.StatusUnprocessableEntity, s.do("POST", path+"/recover", key, body).status, "%s", body)
	}
	require.Equal(t, http.StatusAccepted, s.do("POST", path+"/recover", key, `{"statusClass":"5xx","eventType":"post.created"}`).status)
	var r mathub.Recovery
	require.Eventually(t, func() bool {
		s.do("GET", path+"/recover", key, nil).into(t, &r)
		return r.State == "completed"
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, []int{10, 10, 0}, []int{r.Found, r.Delivered, r.Failed})
	require.Equal(t, []any{"5xx", "post.created", true}, []any{*r.StatusClass, *r.EventType, r.Error == nil})
	require.Equal(t, 80, missed("").Count)

	// What is beyond the bound is said to be.
	s.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) SELECT 'f' || n, 'mention', '{}', 'run', now() - interval '20 hours' FROM generate_series(1, 6000) n")
	m = missed("")
	require.Equal(t, []any{0, true}, []any{m.Count, m.AtLeast})
}
