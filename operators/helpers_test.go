package operators_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/operators"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// token stands in each webhook's URL, and must stand on no page.
const token = "T0KEN-of-the-url"

// bed is the pages, on a real Postgres and Temporal, behind the rule about hosts of the admin listener.
type bed struct {
	t    testing.TB
	url  string
	cfg  operators.Config
	pool *pgxpool.Pool
}

func newBed(t testing.TB) *bed {
	t.Helper()
	return newBedOn(t, dbtest.New(t), temporaltest.New(t), 0)
}

func newBedOn(t testing.TB, pool *pgxpool.Pool, temporal client.Client, keep time.Duration) *bed {
	t.Helper()
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	log := slog.New(slog.DiscardHandler)
	ofBots := &bots.Service{Pool: pool, Keyset: keyset}
	cfg := operators.Config{
		Ops: &ops.Service{Pool: pool, Temporal: temporal, Bots: ofBots, UI: ops.UI{URL: "http://ui.example", Namespace: "default"}, KeepQueues: keep}, Bots: ofBots,
		Webhooks: &subscriptions.Service{Pool: pool, Temporal: temporal, Keyset: keyset, MaxWebhooksPerBot: 10, Retention: webhook.DefaultRetention, Logger: log},
		History:  &history.Reader{Pool: pool}, Audit: &audit.Reader{Pool: pool}, Logger: log, Version: "test",
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}
	handler, err := operators.New(cfg)
	require.NoError(t, err)
	server := httptest.NewServer(listen.KnownHosts(handler, "ops.example.org"))
	t.Cleanup(server.Close)
	return &bed{t, server.URL, cfg, pool}
}

func (b *bed) ctx() context.Context { return b.t.Context() }

func (b *bed) execute(sql string, args ...any) {
	b.t.Helper()
	_, err := b.pool.Exec(b.ctx(), sql, args...)
	require.NoError(b.t, err)
}

// bot makes a bot with a key and a webhook.
func (b *bed) bot(id string) (hook uuid.UUID, key bots.Key, secret string) {
	b.t.Helper()
	_, err := b.cfg.Bots.Create(b.ctx(), bots.New{ID: id, Name: "Bot " + id})
	require.NoError(b.t, err)
	key, secret, err = b.cfg.Bots.CreateKey(b.ctx(), id, "laptop")
	require.NoError(b.t, err)
	at, signs := "https://"+id+".example/"+token, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	w, _, err := b.cfg.Webhooks.Create(b.ctx(), id, subscriptions.Input{URL: &at, Events: []string{"post.created"}, Secret: &signs, SetSecret: true})
	require.NoError(b.t, err)
	return w.ID, key, secret
}

// event stores one, with an attempt at a webhook that failed.
func (b *bed) event(id string, hook uuid.UUID) {
	b.t.Helper()
	b.execute(`INSERT INTO events (id, type, payload, run_id, workflow_id) VALUES ($1, 'post.created', '{"timestamp":"2025-03-20T10:30:00Z","x":"<script>"}', '', 'event-' || $1)`, id)
	b.execute(`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 1, 'event', now() - interval '1 h')`, hook, id)
}

type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request as a page would; headers are pairs, and Host is the request's.
func (b *bed) do(method, path string, form url.Values, headers ...string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.ctx(), method, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if req.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(b.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func (b *bed) get(path string) answer {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil)
}

// page gets one that is there.
func (b *bed) page(path string) string {
	b.t.Helper()
	got := b.get(path)
	require.Equal(b.t, http.StatusOK, got.status, "%s: %s", path, got.body)
	return got.body
}

// act does what a form does, and returns the page that it leads to.
func (b *bed) act(path string, form url.Values) string {
	b.t.Helper()
	got := b.do(http.MethodPost, path, form)
	require.Equal(b.t, http.StatusSeeOther, got.status, "%s: %s", path, got.body)
	return b.page(got.header.Get("Location"))
}
