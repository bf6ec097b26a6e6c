package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

const pollPath = "/api/bot/v1/events"

type polled struct {
	Events []struct {
		ID        string          `json:"id"`
		Event     string          `json:"event"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	} `json:"events"`
	Cursor  string `json:"cursor"`
	HasMore bool   `json:"hasMore"`
}

func (p polled) ids() (ids []string) {
	for _, e := range p.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

func (a *testAPI) poll(key, query string) polled {
	a.t.Helper()
	got := a.do("GET", pollPath+"?"+query, key, nil)
	require.Equal(a.t, http.StatusOK, got.status, "%s", got.body)
	var p polled
	got.into(a.t, &p)
	return p
}

// accepted stores an event as a worker does; no bots: for all.
func (a *testAPI) accepted(id, eventType, data string, bots ...string) {
	a.t.Helper()
	a.execute("INSERT INTO events (id, type, payload, bot_ids, run_id) VALUES ($1, $2, $3, $4, 'run')", id, eventType,
		[]byte(`{"event":"`+eventType+`","timestamp":"2025-03-20T10:30:00.000Z","data":`+data+`}`), bots)
}

func TestABotPollsItsEvents(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	empty := a.poll(key, "")
	require.Empty(t, empty.Events)
	require.False(t, empty.HasMore)
	data := `{"n":12345678901234567890.12345678901234567890,"html":"<a>&</a>","line":"` + "\u2028" + `","nul":"\u0000"}`
	a.accepted("one", "post.created", data)
	a.accepted("mine", "mention", `{}`, bot, "bot-other")
	a.accepted("theirs", "mention", `{}`, "bot-other")
	a.accepted("test", "test", `{}`)
	a.accepted("two", "wiki.edited", `{}`)
	got := a.do("GET", pollPath, key, nil)
	require.Contains(t, string(got.body), `{"id":"one","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":`+data+`}`, "byte for byte")
	all := a.poll(key, "")
	require.Equal(t, []string{"one", "mine", "two"}, all.ids())
	require.Equal(t, []string{"one", "mine", "two"}, a.poll(key, "after="+empty.Cursor).ids())
	require.Empty(t, a.poll(key, "after="+all.Cursor).Events)
	first := a.poll(key, "limit=1")
	require.True(t, first.HasMore)
	require.Equal(t, []string{"mine", "two"}, a.poll(key, "after="+first.Cursor).ids())
	require.Equal(t, []string{"mine", "two"}, a.poll(key, "types=wiki.edited,mention").ids())
	now := a.poll(key, "after=latest")
	require.Empty(t, now.Events)
	a.accepted("three", "post.created", `{}`)
	require.Equal(t, []string{"three"}, a.poll(key, "after="+now.Cursor).ids())

	a.execute("DELETE FROM events WHERE id IN ('one', 'mine')")
	gone := a.do("GET", pollPath+"?after="+empty.Cursor, key, nil)
	require.Equal(t, http.StatusGone, gone.status)
	require.Contains(t, gone.fault(t).Detail, "were removed")
	require.Equal(t, http.StatusGone, a.do("GET", pollPath+"?after=99999", key, nil).status)
	require.Equal(t, []string{"two", "three"}, a.poll(key, "").ids(), "from the oldest that is kept")
	require.Equal(t, []string{"three"}, a.poll(key, "after="+all.Cursor).ids())
}

// TestACursorOfEventsThatWereLostIsGone: of what the database forgot, in a restore or a failover, and others have taken the
// positions of, a reader would otherwise miss as much. What it had read before is as it was.
func TestACursorOfEventsThatWereLostIsGone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	a.accepted("kept", "post.created", `{}`)
	kept := a.poll(key, "").Cursor
	a.accepted("lost", "post.created", `{}`)
	lost := a.poll(key, "").Cursor

	waits := make(chan answer, 10)
	for i := range cap(waits) {
		query := []string{"after=" + lost, "postId=none&after=" + kept}[i%2]
		go func() {
			got := a.do("GET", pollPath+"?wait=30s&"+query, key, nil)
			for ; got.status == http.StatusTooManyRequests; got = a.do("GET", pollPath+"?wait=30s&"+query, key, nil) {
				time.Sleep(50 * time.Millisecond) // the eleventh below was before it
			}
			waits <- got
		}()
	}
	require.Eventually(t, func() bool {
		return a.do("GET", pollPath+"?wait=100ms&after="+lost, key, nil).status == http.StatusTooManyRequests
	}, time.Minute, 20*time.Millisecond, "all of them wait")
	a.execute("ALTER TABLE events DISABLE TRIGGER events_removed; DELETE FROM events WHERE id = 'lost'; UPDATE event_log SET last = last - 1")
	a.accepted("one", "post.created", `{}`)
	a.accepted("two", "post.created", `{}`)
	for range cap(waits) {
		got := <-waits
		require.Equal(t, http.StatusGone, got.status, "%s", got.body)
	}
	position, _, _ := strings.Cut(kept, "-")
	for _, cursor := range []string{lost, position + "-000000", "99999", "99999-123456"} {
		got := a.do("GET", pollPath+"?after="+cursor, key, nil)
		require.Equal(t, http.StatusGone, got.status, "%s: %s", cursor, got.body)
	}
	require.Equal(t, []string{"one", "two"}, a.poll(key, "after="+kept).ids())
}

func TestPollParametersAreChecked(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	for query, field := range map[string]string{
		"after=": "after", "after=-1": "after", "after=01": "after", "after=now": "after", "after=1.5": "after", "after=1-": "after", "after=1-12345x": "after", "after=9999999999999999999": "after", "after=%00": "after",
		"limit=0": "limit", "limit=501": "limit", "limit=x": "limit", "limit=": "limit", "wait=31s": "wait", "wait=-1s": "wait", "wait=20": "wait", "wait=": "wait",
		"types=": "types[0]", "types=mention,nope": "types[1]", "types=test": "types[0]", "types=" + strings.Repeat("mention,", 200): "types",
		"cursor=1": "cursor", "after=1&after=2": "after", "wait=1s&wait=1s": "wait",
	} {
		got := a.do("GET", pollPath+"?"+query, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", query, got.body)
		require.Equal(t, []string{field}, got.fields(t), query)
		require.Equal(t, http.StatusUnauthorized, a.do("GET", pollPath+"?"+query, "bot_nobody", nil).status, "a stranger learns nothing")
	}
	require.Contains(t, string(a.do("GET", pollPath+"?types=nope", key, nil).body), "review.submitted", "what is allowed")
}

func TestAPollIsNotAnsweredTwiceTheSame(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(c *api.Config) { c.RateLimit = 600 })
	_, key := a.bot()
	ask := func(query, tag string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+pollPath+"?"+query, http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("If-None-Match", tag)
		return a.send(req)
	}
	a.accepted("one", "post.created", `{}`)
	first := ask("", `"other"`)
	require.Equal(t, http.StatusOK, first.status)
	require.NotEmpty(t, first.header.Get("RateLimit-Remaining"))
	tag := first.header.Get("ETag")
	for _, same := range []string{tag, `"a", W/` + tag, "*"} {
		got := ask("", same)
		require.Equal(t, http.StatusNotModified, got.status)
		require.Equal(t, tag, got.header.Get("ETag"))
		require.Empty(t, got.body)
	}
	began := time.Now()
	require.Equal(t, http.StatusNotModified, ask("wait=30s", "*").status, "no answer would differ")
	require.Less(t, time.Since(began), 20*time.Second)
	began = time.Now()
	require.Equal(t, http.StatusNotModified, ask("wait=600ms", tag).status)
	require.GreaterOrEqual(t, time.Since(began), 600*time.Millisecond, "it waited for another answer")
	time.AfterFunc(300*time.Millisecond, func() { a.accepted("two", "post.created", `{}`) })
	changed := ask("wait=20s", tag)
	require.Equal(t, http.StatusOK, changed.status)
	require.NotEqual(t, tag, changed.header.Get("ETag"))
	require.Contains(t, string(changed.body), `"two"`)

	// Who names many tags does not have the page read for each event.
	tag = changed.header.Get("ETag")
	require.Equal(t, http.StatusNotModified, ask("", strings.Repeat(`"a", `, 3)+tag).status)
	require.Equal(t, http.StatusOK, ask("", strings.Repeat(`"a", `, 4)+tag).status)
}

func TestAPollWaitsForWhatConcernsIt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	cursor := a.poll(key, "after=latest").Cursor
	began := time.Now()
	require.Empty(t, a.poll(key, "wait=700ms&after="+cursor).Events)
	require.Greater(t, time.Since(began), 700*time.Millisecond)
	require.Less(t, time.Since(began), 15*time.Second)

	done := make(chan time.Duration, 2)
	for _, types := range []string{"", "&types=mention"} {
		go func() {
			got := a.poll(key, "wait=20s&after="+cursor+types)
			if len(got.Events) != 1 || got.Events[0].ID != "mine" {
				t.Errorf("%+v", got)
			}
			done <- time.Since(began)
		}()
	}
	time.Sleep(400 * time.Millisecond) // until both wait, which nothing shows; if one does not yet, the outcome is the same
	a.accepted("theirs", "mention", `{}`, "bot-other")
	select {
	case <-done:
		t.Fatal("it woke for another's event")
	case <-time.After(time.Second): // the most that it may take
	}
	began = time.Now()
	a.accepted("mine", "mention", `{}`, bot)
	for range 2 {
		<-done
	}
	require.Less(t, time.Since(began), 10*time.Second, "told promptly")
}

// TestWaitingHoldsNoConnection: as many wait as would use up the pool, and all else goes on. What a bot may is bounded.
func TestWaitingHoldsNoConnection(t *testing.T) {
	t.Parallel()
	const bots = 5
	a := newAPI(t, nil, nil)
	var keys []string
	for range bots {
		_, key := a.bot()
		keys = append(keys, key)
	}
	var all sync.WaitGroup
	for i := range bots * 10 {
		all.Go(func() {
			for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) { // before it asks again
				got := a.do("GET", pollPath+"?wait=20s", keys[i%bots], nil)
				if strings.Contains(string(got.body), `"one"`) {
					return
				}
				// The eleventh below was before it, or nothing has come for 20 s.
				if got.status != http.StatusTooManyRequests && got.status != http.StatusOK || time.Now().After(deadline) {
					t.Errorf("%d %s", got.status, got.body)
					return
				}
			}
		})
	}
	require.Eventually(t, func() bool {
		got := a.do("GET", pollPath+"?wait=100ms", keys[0], nil)
		return got.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != ""
	}, 3*time.Minute, 50*time.Millisecond, "an eleventh of one bot does not wait")
	require.Empty(t, a.poll(keys[0], "").Events, "without wait it is answered")
	require.Eventually(t, func() bool { return a.pool.Stat().AcquiredConns() == 0 }, 3*time.Minute, 10*time.Millisecond)
	a.accepted("one", "post.created", `{}`)
	all.Wait()
}

// serve is the API on a server of the test's own, with a short limit on the time of a request, as the product's has one.
func (a *testAPI) serve(t *testing.T, stopping <-chan struct{}) string {
	t.Helper()
	handler, err := api.New(api.Config{Pool: a.pool, Keyset: a.keyset, Version: "test", Stopping: stopping, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ReadTimeout = time.Second
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func TestWaitingEndsWithTheProcessAndWithTheClient(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	stopping := make(chan struct{})
	a.url = a.serve(t, stopping)
	began := time.Now()
	require.Empty(t, a.poll(key, "wait=2500ms").Events)
	require.Greater(t, time.Since(began), 2500*time.Millisecond, "longer than a request may take to come")

	// Twice as many as may wait leave: their places are free again, once the server has noticed that they left.
	for range 2 {
		var left sync.WaitGroup
		for range 10 {
			left.Go(func() {
				for deadline := time.Now().Add(time.Minute); ; {
					status := a.leave(t, key, 300*time.Millisecond)
					if status == 0 {
						return
					}
					if status != http.StatusTooManyRequests || time.Now().After(deadline) {
						t.Errorf("answered %d", status)
						return
					}
				}
			})
		}
		left.Wait()
	}
	require.Eventually(t, func() bool { return a.do("GET", pollPath+"?wait=1ms", key, nil).status == http.StatusOK }, 3*time.Minute, 20*time.Millisecond)
	time.AfterFunc(300*time.Millisecond, func() { close(stopping) })
	began = time.Now()
	require.Empty(t, a.poll(key, "wait=20s").Events)
	require.Less(t, time.Since(began), 10*time.Second)
}

// leave waits for events and leaves. It returns the answer's status, 0 if there was none until then.
func (a *testAPI) leave(t *testing.T, key string, after time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+pollPath+"?wait=20s", http.NoBody)
	if err != nil {
		t.Error(err)
		return 0
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestARevokedKeyReadsNothingMore(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	time.AfterFunc(300*time.Millisecond, func() {
		a.execute("DELETE FROM api_keys WHERE bot_id = $1", bot)
		a.accepted("one", "post.created", `{}`)
	})
	require.Equal(t, http.StatusUnauthorized, a.do("GET", pollPath+"?wait=20s", key, nil).status)
}

// TestAClientThatPagesOnMissesNothing while events are accepted, whatever its pages.
func TestAClientThatPagesOnMissesNothing(t *testing.T) {
	t.Parallel()
	const events = 200
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	var emit sync.WaitGroup
	for w := range 4 {
		emit.Go(func() {
			for i := range events / 4 {
				a.accepted(fmt.Sprintf("%d-%d", w, i), "post.created", `{}`)
			}
		})
	}
	seen := map[string]int{}
	query := url.Values{"wait": {"5s"}, "limit": {"7"}}
	for deadline := time.Now().Add(time.Minute); len(seen) < events && time.Now().Before(deadline); {
		got := a.poll(key, query.Encode())
		for _, id := range got.ids() {
			seen[id]++
		}
		query.Set("after", got.Cursor)
	}
	emit.Wait()
	require.Len(t, seen, events)
	for id, times := range seen {
		require.Equal(t, 1, times, id)
	}
}
