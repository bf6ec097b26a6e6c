package api_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/webhook"
)

const (
	serviceToken = "service-token"
	webhooksPath = "/api/bot/v1/webhooks"
)

// contract is openapi.yaml, which every answer of the suite is held against.
var contract = sync.OnceValues(func() (routers.Router, error) {
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.FileBodyDecoder)
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	if err := document.Validate(context.Background()); err != nil {
		return nil, err
	}
	// What clients are to expect of a later version, this one must not answer with.
	for _, schema := range document.Components.Schemas {
		if s := schema.Value; len(s.Properties) > 0 {
			s.AdditionalProperties.Has = new(bool)
		}
	}
	return gorillamux.NewRouter(document)
})

type testAPI struct {
	t      testing.TB
	url    string
	pool   *pgxpool.Pool
	keyset *db.Keyset
}

// newAPI serves the API on a real listener, a real Postgres, and the given Temporal client; nil is one whose server
// nobody runs.
func newAPI(t testing.TB, temporal client.Client, change func(*api.Config)) *testAPI {
	t.Helper()
	if temporal == nil {
		var err error
		temporal, err = client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
		require.NoError(t, err)
		t.Cleanup(temporal.Close)
	}
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	cfg := api.Config{
		Pool: dbtest.New(t), Temporal: temporal, Keyset: keyset, ServiceToken: serviceToken, Version: "test",
		URLRules: webhook.URLRules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true},
		Logger:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	handler, err := api.New(cfg)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	// So that what is not read stays with the server, rather than in the kernel.
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		_ = conn.(*net.TCPConn).SetWriteBuffer(32 << 10)
		return ctx
	}
	server.Start()
	t.Cleanup(server.Close)
	return &testAPI{t: t, url: server.URL, pool: cfg.Pool, keyset: keyset}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(a.body, v), "%.1000s", a.body)
}

type fault struct {
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Errors []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (a answer) fault(t testing.TB) (f fault) {
	t.Helper()
	require.Equal(t, "application/problem+json", a.header.Get("Content-Type"), "%s", a.body)
	a.into(t, &f)
	require.Equal(t, a.status, f.Status)
	return f
}

func (a answer) fields(t testing.TB) (fields []string) {
	t.Helper()
	for _, e := range a.fault(t).Errors {
		require.NotEmpty(t, e.Message)
		fields = append(fields, e.Field)
	}
	return fields
}

// do sends a request with a token, and a body: nil for none, a string as it is, anything else as JSON.
func (a *testAPI) do(method, path, token string, body any) answer {
	a.t.Helper()
	var content io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		require.NoError(a.t, err)
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, content)
	require.NoError(a.t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return a.send(req)
}

func (a *testAPI) send(req *http.Request) answer {
	a.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(a.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(a.t, err)
	got := answer{resp.StatusCode, resp.Header, body}
	a.holdAgainstContract(req, got)
	return got
}

func (a *testAPI) holdAgainstContract(req *http.Request, got answer) {
	a.t.Helper()
	require.NotEmpty(a.t, got.header.Get("X-Request-Id"))
	require.Equal(a.t, "nosniff", got.header.Get("X-Content-Type-Options"))
	caching := "no-store"
	if strings.HasPrefix(req.URL.Path, pollPath) && got.status < 400 {
		caching = "private, no-cache"
	}
	require.Equal(a.t, caching, got.header.Get("Cache-Control"))
	if req.URL.Path != "/docs" { // the one page there is
		require.Equal(a.t, "default-src 'none'; frame-ancestors 'none'", got.header.Get("Content-Security-Policy"))
	}
	require.Equal(a.t, "no-referrer", got.header.Get("Referrer-Policy"))
	if got.status >= 400 {
		f := got.fault(a.t)
		require.NotEmpty(a.t, f.Detail)
	}
	router, err := contract()
	require.NoError(a.t, err)
	plain := req.Clone(context.Background())
	plain.URL.Scheme, plain.URL.Host, plain.Host = "", "", ""
	route, params, err := router.FindRoute(plain)
	if err != nil {
		require.Contains(a.t, []int{401, 404, 405}, got.status, "not in the contract: %s %s", req.Method, req.URL.Path)
		return
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: params, Route: route},
		Status:                 got.status, Header: got.header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	in.SetBodyBytes(got.body)
	require.NoError(a.t, openapi3filter.ValidateResponse(context.Background(), in), "%s %s answered %d %s", req.Method, req.URL.Path, got.status, got.body)
}

func (a *testAPI) bots() *bots.Service { return &bots.Service{Pool: a.pool, Keyset: a.keyset} }

// bot makes a bot and a key.
func (a *testAPI) bot() (id, key string) {
	a.t.Helper()
	bot, err := a.bots().Create(a.t.Context(), bots.New{Name: "bot"})
	require.NoError(a.t, err)
	_, key, err = a.bots().CreateKey(a.t.Context(), bot.ID)
	require.NoError(a.t, err)
	return bot.ID, key
}

func (a *testAPI) hook(key string) string {
	a.t.Helper()
	got := a.do("POST", webhooksPath, key, map[string]any{"url": "https://example.com/hook", "events": []string{"post.created"}, "secret": "s3cret"})
	require.Equal(a.t, http.StatusCreated, got.status, "%s", got.body)
	var w struct{ ID string }
	got.into(a.t, &w)
	return w.ID
}

func (a *testAPI) execute(sql string, args ...any) {
	a.t.Helper()
	_, err := a.pool.Exec(a.t.Context(), sql, args...)
	require.NoError(a.t, err)
}

func TestTheContractsEventTypesAreTheCatalogs(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var named []string
	for _, v := range document.Components.Schemas["EventType"].Value.Enum {
		named = append(named, fmt.Sprint(v))
	}
	var want []string
	for _, e := range webhook.Subscribable() {
		want = append(want, string(e))
	}
	require.Equal(t, want, named)
}

func TestEveryRouteIsInTheContractAndTheOtherWayRound(t *testing.T) {
	raw, err := os.ReadFile("server_gen.go")
	require.NoError(t, err)
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var paths []string
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			route := method + " " + strings.NewReplacer("{", ":", "}", "").Replace(path)
			paths = append(paths, route)
			require.Contains(t, string(raw), fmt.Sprintf("router.%s(options.BaseURL+%q", method, strings.TrimPrefix(route, method+" ")))
		}
	}
	require.Equal(t, len(paths), strings.Count(string(raw), "(options.BaseURL+\""))
	served := newAPI(t, nil, nil).do("GET", "/openapi.json", "", nil)
	require.Equal(t, http.StatusOK, served.status)
	_, err = openapi3.NewLoader().LoadFromData(served.body)
	require.NoError(t, err)
}

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
	require.Equal(t, map[string]any{"deliveries24h": 0.0, "successRate24h": nil, "p95DurationMs24h": nil}, read["stats"])
	delete(read, "stats")
	require.Equal(t, w, read)
	var list []map[string]any
	second := a.hook(key)
	a.do("GET", webhooksPath, key, nil).into(t, &list)
	require.Len(t, list, 2)
	require.Equal(t, []any{id, second}, []any{list[0]["id"], list[1]["id"]}, "oldest first")

	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES (gen_random_uuid(), $1, 'e', 1, true, 1, now())", id)
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
	a.execute("UPDATE webhooks SET is_active = false, failure_count = 10, disabled_at = now(), disabled_reason = 'failures', disabled_by = $2, resume_at = now() + interval '1 h' WHERE id = $1", id, delivery)
	var w map[string]any
	a.do("GET", webhooksPath+"/"+id, key, nil).into(t, &w)
	require.NotNil(t, w["disabledAt"])
	require.Equal(t, []any{"failures", delivery}, []any{w["disabledReason"], w["disabledBy"]})
	for range 2 {
		a.do("PATCH", webhooksPath+"/"+id, key, `{"isActive":true}`).into(t, &w)
		require.Equal(t, true, w["isActive"])
		require.Equal(t, 0.0, w["failureCount"])
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

// TestAChangeWaitsForRecordings: what disables a webhook, or deletes it, leaves nothing that a recording under way plans.
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
			}, 10*time.Second, 5*time.Millisecond)
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

func TestDeliveriesAreListedAsSent(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	payload := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"n":12345678901234567890.12345678901234567890,"html":"<a>&</a>","line":"` + "\u2028" + `","nul":"\u0000"}}`
	a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ('e', 'post.created', $1, 'run')", []byte(payload))
	for i := range 60 {
		a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, error, duration_ms, attempted_at) VALUES (gen_random_uuid(), $1, 'e', $2, false, 500, $3, 'HTTP 500', 7, '2025-03-20 10:30:00.1234+00')", id, i+1, []byte("bad \xff nul \x00"))
	}
	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at) VALUES (gen_random_uuid(), $1, 'e', 61, false, 'timeout', 5000, now())", id)
	got := a.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil)
	var list []map[string]any
	got.into(t, &list)
	require.Len(t, list, 50)
	require.Equal(t, 61.0, list[0]["attempt"], "newest first")
	require.Nil(t, list[0]["statusCode"])
	require.Nil(t, list[0]["responseBody"])
	require.Equal(t, "timeout", list[0]["error"])
	require.Equal(t, 60.0, list[1]["attempt"])
	require.Equal(t, "bad \uFFFD nul \x00", list[1]["responseBody"])
	require.Equal(t, "2025-03-20T10:30:00.123Z", list[1]["attemptedAt"])
	require.Equal(t, 50, strings.Count(string(got.body), `"payload":`+payload), "byte for byte")
	require.Equal(t, "event", list[0]["trigger"])
	for _, trigger := range []string{"retry", "redeliver", "recover", "test"} {
		a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, duration_ms, attempted_at) VALUES (gen_random_uuid(), $1, 'e', 62, $2::text::delivery_trigger, true, 1, now())", id, trigger)
		a.do("GET", webhooksPath+"/"+id+"/deliveries?limit=1", key, nil).into(t, &list)
		require.Equal(t, trigger, list[0]["trigger"])
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	botID, key := a.bot()
	path := "/api/internal/v1/bots/" + botID + "/keys"
	made := a.do("POST", path, serviceToken, nil)
	require.Equal(t, http.StatusCreated, made.status)
	var second struct{ ID, Key string }
	made.into(t, &second)
	request := func(authorization ...string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+webhooksPath, http.NoBody)
		require.NoError(t, err)
		for _, v := range authorization {
			req.Header.Add("Authorization", v)
		}
		return a.send(req)
	}
	for _, good := range []string{"Bearer " + key, "bearer " + key, "BEARER  " + key, "Bearer " + second.Key} {
		require.Equal(t, http.StatusOK, request(good).status, good)
	}
	for _, bad := range [][]string{nil, {""}, {"Bearer"}, {"Bearer "}, {key}, {"Basic " + key}, {"Bearer " + key + "x"}, {"Bearer " + serviceToken}, {"Bearer " + key, "Bearer " + key}, {"Bearer " + strings.Repeat("x", 10_000)}} {
		got := request(bad...)
		require.Equal(t, http.StatusUnauthorized, got.status, "%.40v", bad)
		require.Contains(t, got.header.Get("WWW-Authenticate"), "Bearer")
	}
	require.Equal(t, http.StatusUnauthorized, a.do("POST", path, key, nil).status, "a bot's key is no service token")
	require.Equal(t, http.StatusUnauthorized, a.do("POST", path, "", nil).status)

	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/"+second.ID, serviceToken, nil).status)
	require.Equal(t, http.StatusUnauthorized, request("Bearer "+second.Key).status, "revoked at once")
	require.Equal(t, http.StatusOK, request("Bearer "+key).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", path+"/"+second.ID, serviceToken, nil).status)

	off := newAPI(t, nil, func(c *api.Config) { c.ServiceToken = "" })
	require.Equal(t, http.StatusNotFound, off.do("POST", "/api/internal/v1/bots", "", `{"name":"x"}`).status)
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

func TestBots(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	const path = "/api/internal/v1/bots"
	got := a.do("POST", path, serviceToken, `{"id":"bot-euler","name":"Euler"}`)
	require.Equal(t, http.StatusCreated, got.status)
	require.Equal(t, http.StatusConflict, a.do("POST", path, serviceToken, `{"id":"bot-euler","name":"Another"}`).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, `{"name":"Euler"}`).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, `{"name":"`+strings.Repeat("é", 200)+`"}`).status, "characters, as in the document")
	for body, field := range map[string]string{
		`{"name":"` + strings.Repeat("é", 201) + `"}`: "name",
		`{}`: "name", `{"name":""}`: "name", `{"name":null}`: "name", `{"name":5}`: "name", `{"name":"x\u0000"}`: "name",
		`{"name":"` + strings.Repeat("x", 201) + `"}`: "name", `{"id":"a.b","name":"x"}`: "id", `{"id":"","name":"x"}`: "id",
	} {
		got := a.do("POST", path, serviceToken, body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, body)
		require.Equal(t, []string{field}, got.fields(t), body)
	}
	for _, method := range []string{"GET", "POST"} {
		require.Equal(t, http.StatusNotFound, a.do(method, path+"/nobody/keys", serviceToken, nil).status)
		require.Equal(t, http.StatusNotFound, a.do(method, path+"/a.b/keys", serviceToken, nil).status)
	}
	require.JSONEq(t, "[]", string(a.do("GET", path+"/bot-euler/keys", serviceToken, nil).body))
	var keys []struct{ ID, Key, CreatedAt string }
	for range 2 {
		var made struct{ ID, Key, CreatedAt string }
		a.do("POST", path+"/bot-euler/keys", serviceToken, nil).into(t, &made)
		require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, made.Key, nil).status)
		keys = append(keys, made)
	}
	listed := a.do("GET", path+"/bot-euler/keys", serviceToken, nil)
	require.JSONEq(t, fmt.Sprintf(`[{"id":%q,"createdAt":%q},{"id":%q,"createdAt":%q}]`, keys[0].ID, keys[0].CreatedAt, keys[1].ID, keys[1].CreatedAt), string(listed.body))
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/bot-euler/keys/"+keys[0].ID, serviceToken, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", webhooksPath, keys[0].Key, nil).status, "at once")
	require.Equal(t, http.StatusOK, a.do("GET", webhooksPath, keys[1].Key, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("DELETE", path+"/bot-euler/keys/"+keys[0].ID, serviceToken, nil).status)
	id, err := a.bots().Find(t.Context(), "bot-euler")
	require.NoError(t, err)
	require.Equal(t, "bot-euler", id)
	_, err = a.bots().Find(t.Context(), "Euler")
	require.ErrorContains(t, err, "give the id")
	_, err = a.bots().Find(t.Context(), "nobody")
	require.ErrorContains(t, err, "no bot")
}

func TestAtMostAHundredKeysHoweverManyAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, _ := a.bot()
	_, err := a.pool.Exec(t.Context(), "INSERT INTO api_keys (id, bot_id, key_hash) SELECT gen_random_uuid(), $1, sha256(n::text::bytea) FROM generate_series(1, 97) n", bot)
	require.NoError(t, err)
	path := "/api/internal/v1/bots/" + bot + "/keys"
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := a.do("POST", path, serviceToken, nil)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
		})
	}
	all.Wait()
	require.Equal(t, map[int]int{http.StatusCreated: 2, http.StatusConflict: 6}, statuses)
	var keys []struct{ ID string }
	a.do("GET", path, serviceToken, nil).into(t, &keys)
	require.Len(t, keys, 100)
	require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/"+keys[0].ID, serviceToken, nil).status)
	require.Equal(t, http.StatusCreated, a.do("POST", path, serviceToken, nil).status)
}

func TestAtMostFiftyWebhooksHoweverManyAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	var mu sync.Mutex
	statuses := map[int]int{}
	var all sync.WaitGroup
	for range 70 {
		all.Go(func() {
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

func TestWhatStandsBehindIsAway(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	for _, c := range []struct{ method, path, token, body string }{
		{"GET", "/readyz", "", ""},
		{"POST", webhooksPath + "/" + id + "/test", key, ""},
	} {
		got := a.do(c.method, c.path, c.token, nil)
		require.Equal(t, http.StatusServiceUnavailable, got.status, c.path)
		require.NotEmpty(t, got.header.Get("Retry-After"))
	}
	began := time.Now()
	got := a.do("POST", "/api/internal/v1/events", serviceToken, `{"event":"post.created","data":{}}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Less(t, time.Since(began), 20*time.Second)
	require.Equal(t, http.StatusOK, a.do("GET", "/healthz", "", nil).status)

	a.pool.Close()
	for _, path := range []string{webhooksPath, webhooksPath + "/" + id} {
		require.GreaterOrEqual(t, a.do("GET", path, key, nil).status, 500)
	}
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/openapi.json": http.StatusOK, "/nowhere": http.StatusNotFound} {
		resp, err := http.Head(a.url + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, path)
		require.Positive(t, resp.ContentLength, path)
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	require.Equal(t, http.StatusNotFound, a.do("GET", "/nothing", "", nil).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", "/api/bot/v1/nothing", key, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", "/api/bot/v1/nothing", "", nil).status)
	got := a.do("PUT", webhooksPath, key, nil)
	require.Equal(t, http.StatusMethodNotAllowed, got.status)
	require.Contains(t, got.header.Get("Allow"), "POST")
}
