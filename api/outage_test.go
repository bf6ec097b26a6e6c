package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/webhook"
)

// proxy forwards to an address until it is cut or stalled.
type proxy struct {
	addr string

	mu      sync.Mutex
	close   []io.Closer
	forward chan struct{} // closed once nothing is forwarded any more
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: listener.Addr().String(), close: []io.Closer{listener}, forward: make(chan struct{})}
	t.Cleanup(p.cut)
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := new(net.Dialer).DialContext(context.Background(), "tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.close = append(p.close, in, out)
			p.mu.Unlock()
			go p.copy(out, in)
			go p.copy(in, out)
		}
	}()
	return p
}

func (p *proxy) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		select {
		case <-p.forward: // swallowed
		default:
			_, _ = to.Write(b[:n])
		}
	}
}

// cut closes everything: connections are reset, new ones refused.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.close {
		_ = c.Close()
	}
}

// stall keeps connections open and lets nothing through.
func (p *proxy) stall() { close(p.forward) }

func TestTemporalGoesAway(t *testing.T) {
	t.Parallel()
	for name, goAway := range map[string]func(*proxy){"cut off": (*proxy).cut, "silent": (*proxy).stall} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, os.Getenv("TEMPORAL_ADDRESS"))
			temporal, err := client.DialContext(t.Context(), client.Options{HostPort: p.addr, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
			require.NoError(t, err)
			t.Cleanup(temporal.Close)
			a := newAPI(t, temporal, nil)
			_, key := a.bot()
			id := a.hook(key)
			a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ('known', 'post.created', '{}', 'run')")
			delivery := webhook.DeliveryID(time.Now(), uuid.New()).String()
			a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ($1, $2, 'known', 1, true, 1, now())", delivery, id)
			goAway(p)

			path := webhooksPath + "/" + id
			var all sync.WaitGroup
			for _, c := range []struct{ method, path, token, body string }{
				{"POST", eventsPath, serviceToken, `{"event":"post.created","data":{}}`},
				{"POST", eventsPath, serviceToken, `{"id":"new","event":"post.created","data":{}}`},
				{"POST", path + "/test", key, ""},
				{"POST", path + "/deliveries/" + delivery + "/redeliver", key, ""},
			} {
				all.Go(func() {
					var body any
					if c.body != "" {
						body = c.body
					}
					began := time.Now()
					got := a.do(c.method, c.path, c.token, body)
					if took := time.Since(began); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || took > patience {
						t.Errorf("%s %s answered %d after %v: %s", c.method, c.path, got.status, took, got.body)
					}
					t.Log(c.method, c.path, time.Since(began), string(got.body))
				})
			}
			all.Wait()

			// What needs no Temporal goes on.
			require.Equal(t, http.StatusAccepted, a.do("POST", eventsPath, serviceToken, `{"id":"known","event":"post.created","data":{}}`).status)
			for _, path := range []string{webhooksPath, path, path + "/deliveries", "/healthz", "/readyz"} {
				require.Equal(t, http.StatusOK, a.do("GET", path, key, nil).status, path)
			}
			require.Equal(t, http.StatusOK, a.do("PATCH", path, key, `{"isActive":true}`).status)
			began := time.Now()
			require.Equal(t, http.StatusAccepted, a.do("POST", path+"/recover", key, nil).status)
			require.Less(t, time.Since(began), patience)
			require.Equal(t, http.StatusOK, a.do("GET", path+"/recover", key, nil).status)
			require.Equal(t, http.StatusNoContent, a.do("DELETE", path+"/recover", key, nil).status)
			require.Equal(t, http.StatusNoContent, a.do("DELETE", path, key, nil).status)
		})
	}
}

// patience is how soon an outage is answered, on a busy machine too. Temporal's client would go on trying for a minute.
const patience = 30 * time.Second

func TestPostgresIsAway(t *testing.T) {
	t.Parallel()
	refused, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	require.NoError(t, err)
	t.Cleanup(refused.Close)
	closed, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	require.NoError(t, err)
	closed.Close()
	id := uuid.NewString()
	path := webhooksPath + "/" + id
	for name, pool := range map[string]*pgxpool.Pool{"refused": refused, "closed": closed} {
		a := newAPI(t, nil, func(c *api.Config) { c.Pool = pool })
		for _, c := range []struct{ method, path, token, body string }{
			{"GET", "/readyz", "", ""},
			{"GET", webhooksPath, otherKey, ""},
			{"POST", webhooksPath, otherKey, `{"url":"https://example.com","events":["mention"]}`},
			{"GET", path, otherKey, ""},
			{"PATCH", path, otherKey, `{"isActive":true}`},
			{"DELETE", path, otherKey, ""},
			{"POST", path + "/test", otherKey, ""},
			{"GET", path + "/deliveries", otherKey, ""},
			{"POST", path + "/deliveries/" + id + "/redeliver", otherKey, ""},
			{"POST", path + "/recover", otherKey, ""},
			{"GET", path + "/recover", otherKey, ""},
			{"DELETE", path + "/recover", otherKey, ""},
			{"GET", path + "/recoveries", otherKey, ""},
			{"POST", "/api/internal/v1/bots", serviceToken, `{"name":"x"}`},
			{"POST", "/api/internal/v1/bots/x/keys", serviceToken, ""},
			{"DELETE", "/api/internal/v1/bots/x/keys/" + id, serviceToken, ""},
			{"POST", eventsPath, serviceToken, `{"id":"x","event":"post.created","data":{}}`},
			{"POST", eventsPath, serviceToken, `{"event":"post.created","data":{}}`},
			{"POST", eventsPath + "/batch", serviceToken, `{"events":[{"id":"x","event":"post.created","data":{}},{"event":"post.created","data":{}}]}`},
		} {
			var body any
			if c.body != "" {
				body = c.body
			}
			got := a.do(c.method, c.path, c.token, body)
			require.Equal(t, http.StatusServiceUnavailable, got.status, "%s: %s %s: %s", name, c.method, c.path, got.body)
			require.NotEmpty(t, got.header.Get("Retry-After"))
			require.NotContains(t, string(got.body), "127.0.0.1", "nothing of the inside is told")
			require.NotContains(t, string(got.body), "engine", "that is not what is away")
			if strings.HasPrefix(c.path, eventsPath) {
				require.Regexp(t, `"eventIds":\["(x|[0-9a-f-]{36})"`, string(got.body), "under which to try again")
			}
		}
		require.Equal(t, http.StatusOK, a.do("GET", "/healthz", "", nil).status)
	}
}

func TestWhatStandsBehindIsAway(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	got := a.do("POST", webhooksPath+"/"+id+"/test", key, nil)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.NotEmpty(t, got.header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, a.do("GET", "/readyz", "", nil).status, "what needs only Postgres can be asked")
	began := time.Now()
	got = a.do("POST", "/api/internal/v1/events", serviceToken, `{"event":"post.created","data":{}}`)
	require.Equal(t, http.StatusServiceUnavailable, got.status)
	require.Less(t, time.Since(began), patience)
	require.Equal(t, http.StatusOK, a.do("GET", "/healthz", "", nil).status)

	a.pool.Close()
	for _, path := range []string{webhooksPath, webhooksPath + "/" + id} {
		require.GreaterOrEqual(t, a.do("GET", path, key, nil).status, 500)
	}
}

// TestNothingWasDoneIsSo, wherever in a request Postgres goes away: also after a change, while its answer is made.
func TestNothingWasDoneIsSo(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	a.outage(1)
	_, key := a.bot()
	hook := a.hook(key)
	cut, left := a.withConnections(nil)
	changes := func() (n int) {
		require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT count(*) FROM audit_log").Scan(&n))
		return n
	}
	for _, call := range []struct{ method, path, token, body string }{
		{http.MethodPatch, webhooksPath + "/" + hook, key, `{"name":"%d"}`},
		{http.MethodPost, webhooksPath + "/" + hook + "/signing-key", key, `{"overlap":"%dh"}`},
		{http.MethodPost, recoveriesPath, serviceToken, `{"disabledSince":"` + ago(time.Hour) + `","errors":["timeout","HTTP 50%d"]}`},
	} {
		late := 0
		for n, status := 0, http.StatusServiceUnavailable; status == http.StatusServiceUnavailable; n++ {
			before := changes()
			left.Store(int64(n))
			got := cut.do(call.method, call.path, call.token, fmt.Sprintf(call.body, n))
			if status = got.status; status == http.StatusServiceUnavailable && changes() > before {
				late++
				require.NotContains(t, string(got.body), "nothing was done", call.path)
			}
		}
		require.Positive(t, late, call.path)
	}
}

// withConnections is the same API with a pool that can make so many connections as are left, one for each use.
func (a *testAPI) withConnections(temporal client.Client) (cut *testAPI, left *atomic.Int64) {
	a.t.Helper()
	left = new(atomic.Int64)
	cfg := a.pool.Config()
	cfg.AfterRelease = func(*pgx.Conn) bool { return false }
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if left.Add(-1) < 0 {
			return nil, errors.New("away")
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	pool, err := pgxpool.NewWithConfig(a.t.Context(), cfg)
	require.NoError(a.t, err)
	a.t.Cleanup(pool.Close)
	return newAPI(a.t, temporal, func(c *api.Config) { c.Pool, c.Keyset = pool, a.keyset }), left
}

// TestNothingWasDoneIsSo_ByWorkers: what a worker has sent was done, though the API cannot read what came of it.
func TestNothingWasDoneIsSo_ByWorkers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	path := webhooksPath + "/" + s.subscribe(key, "")
	cut, left := s.withConnections(s.temporal)
	for _, action := range []string{"/test", "/verify"} {
		late := 0
		for n, status := 0, http.StatusServiceUnavailable; status == http.StatusServiceUnavailable; n++ {
			before := len(s.requests())
			left.Store(int64(n))
			got := cut.do(http.MethodPost, path+action, key, nil)
			if status = got.status; status == http.StatusServiceUnavailable && len(s.requests()) > before {
				late++
				require.NotContains(t, string(got.body), "nothing was done", action)
			}
		}
		require.Positive(t, late, action)
	}
}
