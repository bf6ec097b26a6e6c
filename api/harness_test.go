package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/testutil"
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
	clock  *testutil.Clock // of the limits: it stands, so they are exact however slow the machine is
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
	clock := testutil.NewClock()
	cfg := api.Config{
		Pool: dbtest.New(t), Temporal: temporal, Keyset: keyset, ServiceToken: serviceToken, Version: "test",
		URLRules: webhook.URLRules{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true},
		Logger:   slog.New(slog.DiscardHandler), Now: clock.Now,
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
	return &testAPI{t: t, url: server.URL, pool: cfg.Pool, keyset: keyset, clock: clock}
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

func (a answer) fault(t testing.TB) (f mathub.Problem) {
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
	isDocs := strings.HasPrefix(req.URL.Path, "/docs")
	if !isDocs || !strings.HasSuffix(req.URL.Path, ".css") {
		require.Equal(a.t, caching, got.header.Get("Cache-Control"))
	}
	if isPage := req.URL.Path == "/" || req.URL.Path == "/portal" || strings.HasPrefix(req.URL.Path, "/portal/"); isPage {
		return // package portal's
	}
	if !isDocs || got.status >= 400 {
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
	if err != nil && strings.HasPrefix(req.URL.Path, "/docs/") {
		return // a guide
	}
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
	_, key, err = a.bots().CreateKey(a.t.Context(), bot.ID, "")
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
