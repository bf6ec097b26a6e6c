package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db/dbtest"
)

const mebibyte = 1 << 20

// pages reads a list and all the pages after it, each within a MiB unless it is a single item, and returns the items.
func (a *testAPI) pages(path, key string) (items []map[string]any, pages int) {
	a.t.Helper()
	for ; path != ""; pages++ {
		require.Less(a.t, pages, 200, "it goes on for ever")
		got := a.do("GET", path, key, nil)
		require.Equal(a.t, http.StatusOK, got.status, "%.500s", got.body)
		var page []map[string]any
		got.into(a.t, &page)
		if len(page) != 1 {
			require.LessOrEqual(a.t, len(got.body), mebibyte)
		}
		items = append(items, page...)
		path = ""
		if link := got.header.Get("Link"); link != "" {
			path = link[1:strings.Index(link, ">")]
		}
	}
	return items, pages
}

// fillHistory gives a webhook n deliveries of an event with a payload and a response of so many bytes.
func (a *testAPI) fillHistory(hook, event string, n, payload int, response string) {
	a.t.Helper()
	a.accepted(event, "post.created", `{"x":"`+strings.Repeat("x", payload)+`"}`)
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("accepted_at")+`, $1, id, n, true, 200, $3, 1, now() FROM events, generate_series(1, $4::integer) n WHERE id = $2 ORDER BY n`, hook, event, []byte(response), n)
}

// TestAPageOfTheHistoryHasAMiB, however large payloads and responses are, and the pages together show all.
func TestAPageOfTheHistoryHasAMiB(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	for name, c := range map[string]struct {
		n, payload int
		response   string
		pages      int
	}{
		"small":                      {120, 100, "ok", 3},
		"large payloads":             {50, 255 << 10, "ok", 13},
		"larger than a page":         {3, mebibyte + 1000, "ok", 3},
		"responses that JSON swells": {50, 100, strings.Repeat("\x01", 4096), 2},
		"not UTF-8":                  {50, 17_000, strings.Repeat("\xff.", 2048), 2},
	} {
		hook := a.hook(key)
		a.fillHistory(hook, uuid.NewString(), c.n, c.payload, c.response)
		items, pages := a.pages(webhooksPath+"/"+hook+"/deliveries", key)
		require.Equal(t, c.pages, pages, name)
		require.Len(t, items, c.n, name)
		for i, item := range items {
			require.Equal(t, float64(c.n-i), item["attempt"], name)
		}
	}
}

// TestTheListOfWebhooksHasAMiB, and the others are found by its link.
func TestTheListOfWebhooksHasAMiB(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	for _, c := range []struct{ n, url, pages int }{{1, 10, 1}, {1199, 10, 2}, {1200, 1800, 5}} {
		ids, urls := make([]uuid.UUID, c.n), make([][]byte, c.n)
		for i := range ids {
			var err error
			ids[i] = uuid.Must(uuid.NewV7())
			urls[i], err = a.keyset.SealURL(ids[i], "https://example.com/"+strings.Repeat("x", c.url))
			require.NoError(t, err)
		}
		a.execute(`INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT unnest($2::uuid[]), $1, unnest($3::bytea[]), 'https://example.com', '{post.created}'`, bot, ids, urls)
		items, pages := a.pages(webhooksPath, key)
		var stored int
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT count(*) FROM webhooks").Scan(&stored))
		require.Len(t, items, stored)
		require.Equal(t, c.pages, pages)
	}
	for _, after := range []string{"", "nonsense"} {
		got := a.do("GET", webhooksPath+"?after="+after, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status)
		require.Equal(t, []string{"after"}, got.fields(t))
	}
}

// TestAPollHasAMiB, with what is around the events.
func TestAPollHasAMiB(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	for i := range 500 {
		a.accepted(fmt.Sprintf("%s-%d", strings.Repeat("e", 120), i), "post.created", `{"x":"`+strings.Repeat("x", 2000)+`"}`)
	}
	a.accepted("large", "post.created", `{"x":"`+strings.Repeat("x", mebibyte)+`"}`)
	seen, cursor := 0, ""
	for pages := 1; ; pages++ {
		query := "?limit=500"
		if cursor != "" {
			query += "&after=" + cursor
		}
		got := a.do("GET", pollPath+query, key, nil)
		var page polled
		got.into(t, &page)
		if len(page.Events) != 1 {
			require.LessOrEqual(t, len(got.body), mebibyte)
		}
		seen, cursor = seen+len(page.Events), page.Cursor
		if !page.HasMore {
			require.Equal(t, 501, seen)
			require.LessOrEqual(t, pages, 4)
			return
		}
	}
}

// slowReader asks, with further headers, and then reads nothing but what tells the status, which it returns.
func (a *testAPI) slowReader(path, key string, headers ...string) (status int) {
	a.t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	conn, err := dialer.DialContext(a.t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", path, key, strings.Join(headers, ""))
	require.NoError(a.t, err)
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	require.NoError(a.t, err)
	_, err = fmt.Sscanf(line, "HTTP/1.1 %d", &status)
	require.NoError(a.t, err)
	return status
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestUnreadAnswersTakeBoundedMemory: neither the pages of one bot nor those of many together. They keep nobody from small
// answers or the contract, Mathub's backend from nothing, and another bot from large ones for moments only.
func TestUnreadAnswersTakeBoundedMemory(t *testing.T) {
	a := newAPI(t, nil, func(c *api.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	pages, keys := make([]string, 41), make([]string, 41)
	for i := range pages {
		_, keys[i] = a.bot()
		hook := a.hook(keys[i])
		a.fillHistory(hook, fmt.Sprint("e", i), 50, 255<<10, "ok")
		pages[i] = webhooksPath + "/" + hook + "/deliveries"
	}
	bystander, bystanders := keys[40], pages[40]
	before := heap()
	var mu sync.Mutex
	answered := map[int]int{}
	leaveUnread := func(bot, calls int) {
		var all sync.WaitGroup
		for range calls {
			all.Go(func() {
				status := a.slowReader(pages[bot], keys[bot])
				mu.Lock()
				defer mu.Unlock()
				answered[status]++
			})
		}
		all.Wait()
	}
	leaveUnread(0, 60)
	require.Equal(t, map[int]int{http.StatusOK: 2, http.StatusTooManyRequests: 58}, answered)
	began := time.Now()
	var bots sync.WaitGroup
	for bot := range 39 {
		bots.Go(func() { leaveUnread(bot+1, 2) })
	}
	bots.Wait()
	grown := (heap() - before) >> 20
	t.Logf("answered %v; the heap has grown by %d MiB", answered, grown)
	if time.Since(began) < 2*time.Second { // later, the first of them give way to the last
		require.Positive(t, answered[http.StatusServiceUnavailable])
	}
	require.Positive(t, grown, "they were not unread, so this test shows nothing")
	require.Less(t, grown, int64(160))
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, bystander, nil).status)
	for _, headers := range [][]string{nil, {"X-Forwarded-Prefix: /hooks\r\n"}} {
		require.Equal(t, http.StatusOK, a.slowReader("/openapi.json", "", headers...))
	}
	event := a.do("GET", "/api/internal/v1/events/e0", serviceToken, nil)
	require.Equal(t, http.StatusOK, event.status, "no bot keeps Mathub's backend from its answers")
	require.Greater(t, len(event.body), 255<<10)
	require.Eventually(t, func() bool {
		got := a.do("GET", bystanders, bystander, nil)
		return got.status == http.StatusOK && len(got.body) > 900<<10
	}, 20*time.Second, 50*time.Millisecond, "what nobody reads gives way")
}

// TestStrangersShareTheContract, whatever the prefix under which it is asked for.
func TestStrangersShareTheContract(t *testing.T) {
	a := newAPI(t, nil, func(c *api.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	for path, prefix := range map[string]string{"/openapi.json": "X-Forwarded-Prefix: /p%d\r\n", "/docs": "X-Unknown: %d\r\n"} {
		require.Equal(t, http.StatusOK, a.do("GET", path, "", nil).status, "it is made when it is first asked for")
		before := heap()
		for i := range 200 {
			require.Equal(t, http.StatusOK, a.slowReader(path, "", fmt.Sprintf(prefix, i)))
		}
		require.Less(t, heap()-before, int64(200*32<<10), path)
	}
}

// TestABotHasTenCallsInProgress, others have theirs, and none takes longer than the database may.
func TestABotHasTenCallsInProgress(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, other := a.bot()
	hook := a.hook(key)
	tx, err := a.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE deliveries, recoveries")
	require.NoError(t, err)

	began := time.Now()
	results := make(chan answer, 11)
	for i := range 11 {
		path := webhooksPath + "/" + hook + []string{"/deliveries", "/recoveries", ""}[i%3]
		go func() { results <- a.do("GET", path, key, nil) }()
	}
	first := <-results
	require.Equal(t, http.StatusTooManyRequests, first.status)
	require.Equal(t, "1", first.header.Get("Retry-After"))
	require.Contains(t, first.fault(t).Detail, "This bot has 10 calls in progress")
	require.Equal(t, http.StatusOK, a.do("GET", "/api/bot/v1/bot", other, nil).status, "another bot's")
	for range 10 {
		got := <-results
		require.Equal(t, http.StatusServiceUnavailable, got.status)
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.Contains(t, got.fault(t).Detail, "did not answer in time")
	}
	require.Less(t, time.Since(began), time.Minute, "the lock is held until the end")
	var busy int
	require.Eventually(t, func() bool {
		err := a.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&busy)
		return err == nil && busy == 0
	}, 3*time.Minute, 20*time.Millisecond, "Postgres goes on with what nobody waits for")
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath+"/"+hook+"/deliveries", key, nil).status, "it is as before")
}

// TestCallsThatWaitDoNotCount among those in progress.
func TestCallsThatWaitDoNotCount(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	polls := make(chan answer, 11)
	for range 11 { // the one that is too many shows that ten wait
		go func() { polls <- a.do("GET", pollPath+"?after=latest&wait=30s", key, nil) }()
	}
	require.Equal(t, http.StatusTooManyRequests, (<-polls).status)
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, key, nil).status)
	a.accepted("e", "post.created", "{}")
	for range 10 {
		require.Equal(t, http.StatusOK, (<-polls).status)
	}
}

// TestTestsAndRedeliveriesInProgressAreFew, of a webhook and of a bot, also of clients that hang up.
func TestTestsAndRedeliveriesInProgressAreFew(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	var now, most atomic.Int32
	release := make(chan struct{})
	s.answer(func(_ http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		select {
		case <-release:
		case <-r.Context().Done(): // on a busy machine, it has timed out
		}
	})
	hooks := make([]string, 8)
	for i := range hooks {
		hooks[i] = s.subscribe(key, fmt.Sprintf("%s/%d", s.receiver, i))
	}
	var all sync.WaitGroup
	test := func(ctx context.Context, hook string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+webhooksPath+"/"+hook+"/test", http.NoBody)
		if err != nil {
			return 0
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	// Two hang up as soon as the receiver has their POSTs.
	hangingUp, hangUp := context.WithCancel(t.Context())
	for range 2 {
		all.Go(func() { test(hangingUp, hooks[0]) })
	}
	require.Eventually(t, func() bool { return now.Load() == 2 }, 3*time.Minute, time.Millisecond)
	hangUp()
	all.Wait()
	refused := s.do("POST", webhooksPath+"/"+hooks[0]+"/test", key, nil)
	require.Equal(t, http.StatusTooManyRequests, refused.status, "what they began is in progress still")
	require.Contains(t, refused.fault(t).Detail, "This webhook has 2 tests and redeliveries in progress")

	// Of the others, two each and ten in all.
	var answered sync.Map
	for _, hook := range hooks[1:] {
		for range 4 {
			all.Go(func() {
				n, _ := answered.LoadOrStore(test(t.Context(), hook), new(atomic.Int32))
				n.(*atomic.Int32).Add(1)
			})
		}
	}
	require.Eventually(t, func() bool { return now.Load() == 10 }, 3*time.Minute, time.Millisecond)
	close(release)
	all.Wait()
	require.Equal(t, int32(10), most.Load())
	n, _ := answered.Load(http.StatusOK)
	require.GreaterOrEqual(t, n.(*atomic.Int32).Load(), int32(8), "those that waited for a place are answered too")
	require.Eventually(t, func() bool { return s.do("POST", webhooksPath+"/"+hooks[0]+"/test", key, nil).status == http.StatusOK }, 3*time.Minute, 10*time.Millisecond)
}

// TestAnEventIsSentToAWebhookAThousandTimes and no more: each call reads all of them.
func TestAnEventIsSentToAWebhookAThousandTimes(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hook := a.hook(key)
	a.fillHistory(hook, "e", 1000, 10, "ok")
	var id string
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT id FROM deliveries WHERE attempt = 1").Scan(&id))
	got := a.do("POST", webhooksPath+"/"+hook+"/deliveries/"+id+"/redeliver", key, nil)
	require.Equal(t, http.StatusConflict, got.status, "%s", got.body)
	require.Contains(t, got.fault(t).Detail, "1000 attempts")
}

// TestACallIsBoundHoweverItsPathIsWritten: an encoded path does not pass for one of the calls that bound themselves.
func TestACallIsBoundHoweverItsPathIsWritten(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hook := a.hook(key)
	tx, err := a.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE webhooks")
	require.NoError(t, err)
	release := time.AfterFunc(20*time.Second, func() { _ = tx.Rollback(context.Background()) })
	defer release.Stop()
	require.Equal(t, http.StatusServiceUnavailable, a.do("GET", webhooksPath+"/"+hook+"/deliveries/x%2Ftest", key, nil).status)
}
