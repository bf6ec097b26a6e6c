package api_test

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func TestWebhookLifecycle(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	botID, key := a.bot()
	got := a.do("POST", webhooksPath, key, `{"url":"https://EXAMPLE.com/hook?token=1","events":["post.created","mention","post.created"],"secret":"s3cret"}`)
	require.Equal(t, http.StatusCreated, got.status, "%s", got.body)
	var w map[string]any
	got.into(t, &w)
	id, _ := w["id"].(string)
	require.Equal(t, webhooksPath+"/"+id, got.header.Get("Location"))
	require.Equal(t, botID, w["botId"])
	require.Equal(t, "https://example.com/hook?token=1", w["url"])
	require.Equal(t, []any{"post.created", "mention"}, w["events"], "repetitions are dropped")
	require.Equal(t, true, w["isActive"])
	require.Equal(t, true, w["hasSecret"])
	require.Equal(t, 0.0, w["failureCount"])
	require.Nil(t, w["disabledAt"])
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, w["createdAt"])
	require.NotContains(t, string(got.body), "s3cret")

	var read map[string]any
	a.do("GET", webhooksPath+"/"+id, key, nil).into(t, &read)
	stats, _ := read["stats"].(map[string]any)
	require.Len(t, stats["hours24h"], 24)
	delete(stats, "hours24h")
	require.Equal(t, map[string]any{"deliveries24h": 0.0, "successRate24h": nil, "p95DurationMs24h": nil}, stats)
	for _, none := range []string{"lastDelivery", "lastError"} {
		require.Contains(t, read, none)
		require.Nil(t, read[none])
		delete(read, none)
	}
	delete(read, "stats")
	require.Equal(t, w, read)
	var list []map[string]any
	second := a.hook(key)
	a.do("GET", webhooksPath, key, nil).into(t, &list)
	require.Len(t, list, 2)
	require.Equal(t, []any{id, second}, []any{list[0]["id"], list[1]["id"]}, "oldest first")

	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ("+dbtest.DeliveryID("now()")+", $1, 'e', 1, true, 1, now())", id)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", webhooksPath+"/"+id, key, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", webhooksPath+"/"+id, key, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", webhooksPath+"/"+id, key, nil).status)
	var left int
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&left))
	require.Zero(t, left, "its history goes with it")
	empty, other := a.bot()
	require.NotEmpty(t, empty)
	require.Equal(t, "[]\n", string(a.do("GET", webhooksPath, other, nil).body))
}

func TestPatchChangesOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	changes := map[string]struct {
		value any
		check func(t *testing.T, w map[string]any)
	}{
		"url":      {"https://example.org/new", func(t *testing.T, w map[string]any) { require.Equal(t, "https://example.org/new", w["url"]) }},
		"events":   {[]string{"mention"}, func(t *testing.T, w map[string]any) { require.Equal(t, []any{"mention"}, w["events"]) }},
		"isActive": {false, func(t *testing.T, w map[string]any) { require.Equal(t, false, w["isActive"]) }},
		"secret":   {nil, func(t *testing.T, w map[string]any) { require.Equal(t, false, w["hasSecret"]) }},
	}
	names := []string{"url", "events", "isActive", "secret"}
	shown := map[string]string{"url": "url", "events": "events", "isActive": "isActive", "secret": "hasSecret"}
	for mask := range 1 << len(names) {
		id := a.hook(key)
		var before, after map[string]any
		a.do("GET", webhooksPath+"/"+id, key, nil).into(t, &before)
		change := map[string]any{}
		for i, name := range names {
			if mask&(1<<i) != 0 {
				change[name] = changes[name].value
			}
		}
		got := a.do("PATCH", webhooksPath+"/"+id, key, change)
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		got.into(t, &after)
		for _, name := range names {
			if _, named := change[name]; named {
				changes[name].check(t, after)
			} else {
				require.Equal(t, before[shown[name]], after[shown[name]], "%s was not named in %v", name, change)
			}
		}
		require.Equal(t, mask == 0, before["updatedAt"] == after["updatedAt"])
		a.do("DELETE", webhooksPath+"/"+id, key, nil)
	}
}

func TestEnablingResets(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	delivery := uuid.NewString()
	a.execute("UPDATE webhooks SET is_active = false, failure_count = 10, disabled_at = now(), disabled_reason = 'failures', disabled_by = $2, resume_at = now() + interval '1 h', failing_since = '2025-03-20T10:30:00Z' WHERE id = $1", id, delivery)
	var w map[string]any
	a.do("GET", webhooksPath+"/"+id, key, nil).into(t, &w)
	require.NotNil(t, w["disabledAt"])
	require.Equal(t, "2025-03-20T10:30:00.000Z", w["failingSince"])
	require.Equal(t, []any{"failures", delivery}, []any{w["disabledReason"], w["disabledBy"]})
	for range 2 {
		a.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":true}`).into(t, &w)
		require.Equal(t, true, w["isActive"])
		require.Equal(t, 0.0, w["failureCount"])
		require.Nil(t, w["failingSince"])
		require.Equal(t, []any{nil, nil, nil}, []any{w["disabledAt"], w["disabledReason"], w["disabledBy"]})
	}
	var waits bool
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT resume_at IS NOT NULL FROM webhooks WHERE id = $1", id).Scan(&waits))
	require.False(t, waits, "it is attempted at once")
	var generation int
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT generation FROM webhooks WHERE id = $1", id).Scan(&generation))
	require.Equal(t, 2, generation)
	a.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`).into(t, &w)
	require.NotNil(t, w["disabledAt"])
	require.Equal(t, []any{"owner", nil}, []any{w["disabledReason"], w["disabledBy"]})
	since := w["disabledAt"]
	a.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":false}`).into(t, &w)
	require.Equal(t, since, w["disabledAt"], "it was disabled already")
}

// TestWhatAWebhookNoLongerGetsIsPlannedNoLonger, and that of another webhook stays.
func TestWhatAWebhookNoLongerGetsIsPlannedNoLonger(t *testing.T) {
	t.Parallel()
	all := []string{"post.created", "mention", "test", "redelivered"}
	for name, c := range map[string]struct {
		method, body string
		left         []string
		recovery     string
	}{
		"enabled":      {"PATCH", `{"isActive":true}`, all, "running"},
		"another URL":  {"PATCH", `{"url":"https://example.org/other"}`, all, "running"},
		"disabled":     {"PATCH", `{"isActive":false}`, []string{"test", "redelivered"}, "stopped"},
		"other events": {"PATCH", `{"events":["post.created","wiki.edited"]}`, []string{"post.created", "test", "redelivered"}, "running"},
		"deleted":      {"DELETE", "", []string{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, nil)
			_, key := a.bot()
			id, other := a.hook(key), a.hook(key)
			for _, event := range all {
				kind := event
				if event == "redelivered" {
					kind = "post.created"
				}
				a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ($1, $2, '{}', 'run')", event, kind)
				for _, w := range []string{id, other} {
					a.plan(w, event, map[string]string{"test": "test", "redelivered": "redeliver"}[event]+map[bool]string{true: "retry"}[event == kind && event != "test"])
				}
			}
			require.Equal(t, http.StatusAccepted, a.do("POST", webhooksPath+"/"+id+"/recover", key, nil).status)
			var body any
			if c.body != "" {
				body = c.body
			}
			got := a.do(c.method, webhooksPath+"/"+id, key, body)
			require.Less(t, got.status, 300, "%s", got.body)
			require.Equal(t, c.left, a.planned(id))
			require.Equal(t, all, a.planned(other))
			var state string
			require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT coalesce((SELECT state FROM recoveries), '')").Scan(&state))
			require.Equal(t, c.recovery, state)
		})
	}
}

// TestAChangeWaitsForRecordings: what disables a webhook, or deletes it, leaves nothing that a recording in progress plans.
func TestAChangeWaitsForRecordings(t *testing.T) {
	t.Parallel()
	for method, body := range map[string]any{"PATCH": `{"isActive":false}`, "DELETE": nil} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, nil)
			_, key := a.bot()
			id := a.hook(key)
			recording, err := a.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = recording.Rollback(t.Context()) }()
			require.NoError(t, db.New().LockWebhooks(t.Context(), recording, db.LockWebhooksParams{Shared: []uuid.UUID{must(t, id)}}))
			changed := make(chan answer)
			go func() { changed <- a.do(method, webhooksPath+"/"+id, key, body) }()
			require.Eventually(t, func() bool {
				var waits bool
				err := a.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))").Scan(&waits)
				return err == nil && waits
			}, 3*time.Minute, 5*time.Millisecond)
			_, err = recording.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, 'e', 2, 2, 'retry', now())", id)
			require.NoError(t, err)
			require.NoError(t, recording.Commit(t.Context()))
			require.Less(t, (<-changed).status, 300)
			require.Empty(t, a.planned(id))
		})
	}
}

func TestSecretsAreSealedAndReplaced(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	for _, secret := range []string{"another", "пароль", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		require.Equal(t, http.StatusOK, a.do("PATCH", webhooksPath+"/"+id, key, map[string]any{"secret": secret}).status)
		var sealed []byte
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT secret FROM webhooks WHERE id = $1", id).Scan(&sealed))
		require.NotContains(t, string(sealed), secret)
		opened, err := a.keyset.Open(must(a.t, id), sealed)
		require.NoError(t, err)
		require.Equal(t, secret, opened)
	}
}

// TestAURLIsStoredSealed, but for its origin, however it got there.
func TestAURLIsStoredSealed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	var made struct{ ID, URL string }
	stored := func(url, origin string) {
		t.Helper()
		require.Equal(t, url, made.URL)
		var row, read string
		var sealed []byte
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT w::text, url, origin FROM webhooks w WHERE id = $1", made.ID).Scan(&row, &sealed, &read))
		require.Equal(t, origin, read)
		for _, token := range []string{"token", hex.EncodeToString([]byte("token"))} {
			require.NotContains(t, row, token)
		}
		opened, err := a.keyset.OpenURL(must(t, made.ID), sealed)
		require.NoError(t, err)
		require.Equal(t, url, opened)
	}
	a.do("POST", webhooksPath, key, `{"url":"https://EXAMPLE.com/token","events":["mention"]}`).into(t, &made)
	stored("https://example.com/token", "https://example.com")
	a.do("PATCH", webhooksPath+"/"+made.ID, key, `{"isActive":true}`).into(t, &made)
	stored("https://example.com/token", "https://example.com")
	a.do("PATCH", webhooksPath+"/"+made.ID, key, `{"url":"https://example.org:8443?token"}`).into(t, &made)
	stored("https://example.org:8443?token", "https://example.org:8443")
	a.do("GET", webhooksPath+"/"+made.ID, key, nil).into(t, &made)
	stored("https://example.org:8443?token", "https://example.org:8443")
}

func TestAnotherBotsWebhookDoesNotExist(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, owner := a.bot()
	_, stranger := a.bot()
	id := a.hook(owner)
	delivery := "01a20893-d904-7c99-b506-306c14735eef"
	for _, route := range []string{"GET ", "PATCH ", "DELETE ", "POST /test", "GET /deliveries", "GET /deliveries/" + delivery, "POST /deliveries/" + delivery + "/redeliver", "POST /recover", "GET /recover", "DELETE /recover"} {
		method, suffix, _ := strings.Cut(route, " ")
		var bodies []string
		for _, tried := range []string{id, "01a20893-d904-7c99-b506-306c14735eef", "nonsense", strings.ToUpper(id), strings.ReplaceAll(id, "-", "")} {
			got := a.do(method, webhooksPath+"/"+tried+suffix, stranger, nil)
			require.Equal(t, http.StatusNotFound, got.status, "%s of %s", route, tried)
			bodies = append(bodies, string(got.body))
		}
		require.Len(t, slices.Compact(bodies), 1, route)
	}
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath+"/"+id, owner, nil).status)
}

func TestAtMostFiftyWebhooksHoweverManyAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	mostAtOnce := make(chan struct{}, 10) // of one bot: more wait, and not for long
	for range 70 {
		all.Go(func() {
			mostAtOnce <- struct{}{}
			defer func() { <-mostAtOnce }()
			got := a.do("POST", webhooksPath, key, `{"url":"https://example.com","events":["mention"]}`)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
			if got.status == http.StatusConflict && !strings.Contains(string(got.body), "50") {
				t.Errorf("the limit is not named: %s", got.body)
			}
		})
	}
	all.Wait()
	require.Equal(t, map[int]int{http.StatusCreated: 50, http.StatusConflict: 20}, statuses)
}

// TestWhatAPersonAskedForIsSent, also where the webhook no longer subscribes to that event type.
func TestWhatAPersonAskedForIsSent(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	for _, trigger := range []string{"retry", "redeliver", "test", "verify", "recover"} {
		a.accepted(trigger, "post.created", `{}`)
		a.plan(id, trigger, trigger)
	}
	require.Equal(t, http.StatusOK, a.do("PATCH", webhooksPath+"/"+id, key, `{"events":["mention"]}`).status)
	require.Equal(t, []string{"redeliver", "test", "verify"}, a.planned(id))
}

// plan puts an event into a webhook's queue, due in an hour.
func (a *testAPI) plan(id, event, trigger string) {
	a.t.Helper()
	a.execute("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 2, 2, $3::text::delivery_trigger, now() + interval '1 hour')", id, event, trigger)
}

// planned are the events in a webhook's queue.
func (a *testAPI) planned(id string) (events []string) {
	a.t.Helper()
	rows, err := a.pool.Query(a.t.Context(), "SELECT event_id FROM queue WHERE webhook_id = $1 ORDER BY seq", id)
	require.NoError(a.t, err)
	events, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(a.t, err)
	return events
}
