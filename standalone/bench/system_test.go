package bench_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

const (
	eventsPath = "/api/internal/v1/events"
	batchPath  = eventsPath + "/batch"
)

// system is what is measured: the product, or yardstick D, which takes events at the same paths and whose tables and
// columns have the same names.
type system struct {
	name  string
	stack *testkit.Stack
	api   *testkit.API
	db    *pgxpool.Pool
	// pids are its processes beside Postgres.
	pids map[string]int
	// urlColumn of its webhooks tells whose they are, as each audience has a server of its own.
	urlColumn string
	// listen is where receivers listen; nil: on loopback.
	listen func() (net.Listener, error)
	// insert makes an audience's webhooks.
	insert func(t *testing.T, a *audience)
	// turnedAway counts the calls that were answered with 503 and made again.
	turnedAway atomic.Int64
}

func newProduct(t *testing.T, stack *testkit.Stack) *system {
	t.Helper()
	return &system{
		name: "product", stack: stack, api: stack.API(), db: stack.Database(t), urlColumn: "origin", insert: insertThroughAPI,
		pids: map[string]int{"app": stack.Apps[0].Process().PID(), "Temporal": stack.Servers.Temporal.PID()},
	}
}

// insertThroughAPI makes webhooks, as many with a secret and a bot of their own as one machine makes in a second, and the
// others without.
func insertThroughAPI(t *testing.T, a *audience) {
	var made atomic.Int64
	atOnce(t, min(a.webhooks, 100), func(int) error {
		a.api.CreateBot(t, a.prefix).CreateWebhook(t, a.url, "s3cret", eventType)
		made.Add(1)
		return nil
	})
	for more := a.webhooks - int(made.Load()); more > 0; more -= webhook.MaxWebhooksPerBot {
		a.api.CreateBot(t, a.prefix).CreateWebhooks(t, min(more, webhook.MaxWebhooksPerBot), func(i int) string { return fmt.Sprintf("%s/%d", a.url, i) }, eventType)
	}
}

// riverBest are the settings with which D does best on two cores: more connections, or shorter pauses between fetches,
// cost processor time, and fewer workers or longer pauses bound what it fetches.
var riverBest = riverSettings{Conns: 20, Workers: 200, FetchCooldown: 10 * time.Millisecond}

// newRiver starts yardstick D: a process of its own, with a database of its own in the stack's Postgres.
func newRiver(t *testing.T, stack *testkit.Stack) *system {
	t.Helper()
	const database = "river"
	_, err := stack.Database(t).Exec(t.Context(), "CREATE DATABASE "+database)
	require.NoError(t, err)
	settings := riverBest
	settings.DatabaseURL, settings.Token = stack.Servers.LocalURL(database), datadir.Token()
	pool, err := pgxpool.New(t.Context(), settings.DatabaseURL)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), riverSchema)
	require.NoError(t, err)
	url, process := startRiver(t, settings)
	return &system{
		name: "D: River", stack: stack, api: &testkit.API{URL: url, ServiceToken: settings.Token}, db: pool, urlColumn: "url", pids: map[string]int{"River": process.PID()},
		insert: func(t *testing.T, a *audience) {
			_, err := a.db.Exec(t.Context(), "INSERT INTO webhooks (id, url, events, secret) SELECT gen_random_uuid(), $1, ARRAY[$2], 's3cret' FROM generate_series(1, $3::int)",
				a.url, eventType, a.webhooks)
			require.NoError(t, err)
		},
	}
}

// startRiver hands an open socket to the process, so that calls wait until it serves.
func startRiver(t *testing.T, settings riverSettings) (url string, _ *supervise.Process) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // the process has its own
	file, err := listener.(*net.TCPListener).File()
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // the same
	path := filepath.Join(t.TempDir(), "river.log")
	log, err := os.Create(path)
	require.NoError(t, err)
	defer log.Close() //nolint:errcheck // the same
	encoded, err := json.Marshal(settings)
	require.NoError(t, err)
	cmd, err := supervise.Self(log)
	require.NoError(t, err)
	cmd.Env = append(os.Environ(), riverVariable+"="+string(encoded))
	cmd.ExtraFiles = []*os.File{file}
	process, err := supervise.Start("River", cmd, supervise.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Kill()
		if said, err := os.ReadFile(path); err == nil && t.Failed() && len(said) > 0 {
			t.Logf("--- River\n%s", said[max(0, len(said)-4000):])
		}
	})
	return "http://" + listener.Addr().String(), process
}

// post makes a call that is to be accepted. One that is turned away for now is made again after the pause that the
// answer asks for, as emit.HTTP does.
func (s *system) post(ctx context.Context, path string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		answer, err := s.api.Do(ctx, http.MethodPost, path, s.api.ServiceToken, body)
		if err != nil || answer.Status == http.StatusAccepted {
			return err
		}
		pause := webhook.ParseRetryAfter(answer.Header.Get("Retry-After"), time.Now())
		if answer.Status != http.StatusServiceUnavailable || pause == 0 {
			return fmt.Errorf("POST %s: status %d: %s", path, answer.Status, answer.Body)
		}
		s.turnedAway.Add(1)
		select {
		case <-time.After(pause): // before it emits again
		case <-ctx.Done():
			return fmt.Errorf("POST %s: status %d: %s until %w", path, answer.Status, answer.Body, ctx.Err())
		}
	}
}
