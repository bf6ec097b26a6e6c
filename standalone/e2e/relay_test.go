package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// runningRelay is a relay's process.
type runningRelay struct {
	cmd    *exec.Cmd
	stderr *lines
}

func (tm *terminal) relay(t *testing.T) *runningRelay {
	t.Helper()
	r := &runningRelay{cmd: tm.command(context.Background(), "mathub-webhooks", "relay"), stderr: new(lines)}
	r.cmd.Stderr = r.stderr
	require.NoError(t, r.cmd.Start())
	t.Cleanup(r.kill)
	return r
}

// kill is kill -9.
func (r *runningRelay) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// TestRelayIsKilledAnywhere kills a relay between commit and relay, and between emit and mark: each row arrives once.
func TestRelayIsKilledAnywhere(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	_, err := stack.Database(t).Exec(t.Context(), "CREATE DATABASE backend")
	require.NoError(t, err)
	outboxURL := stack.Servers.DatabaseURL("backend")
	backend, err := pgx.Connect(t.Context(), outboxURL)
	require.NoError(t, err)
	defer backend.Close(context.Background()) //nolint:errcheck // the test is over
	_, err = backend.Exec(t.Context(), stack.Run(t, "relay", "--print-schema"))
	require.NoError(t, err)

	// The API as the relay sees it: away, or with its answers held back until the test has killed the relay.
	api, err := url.Parse(stack.API().URL)
	require.NoError(t, err)
	var away, holding atomic.Bool
	accepted := make(chan struct{}, 1000)
	proxy := httputil.NewSingleHostReverseProxy(api)
	proxy.ModifyResponse = func(response *http.Response) error {
		if holding.Load() && response.StatusCode == http.StatusAccepted {
			accepted <- struct{}{}
			<-response.Request.Context().Done()
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer door.Close()

	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "outbox")
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "", post)
	tm := openTerminal(t, stack, bot)
	tm.env = append(tm.env, "MATHUB_API="+door.URL, "MATHUB_OUTBOX_URL="+outboxURL)

	waiting := func() (n int) {
		require.NoError(t, backend.QueryRow(t.Context(), "SELECT count(*) FROM mathub_outbox WHERE failed_at IS NULL").Scan(&n))
		return n
	}
	inserted := 0
	insert := func(n int) {
		require.NoError(t, pgx.BeginFunc(t.Context(), backend, func(tx pgx.Tx) error {
			for range n {
				inserted++
				_, err := tx.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data) VALUES ($1, $2, '{}')", fmt.Sprintf("row-%d", inserted), post)
				if err != nil {
					return err
				}
			}
			return nil
		}))
	}
	drained := func() {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for waiting() > 0 {
			require.True(t, time.Now().Before(deadline), "rows wait: %d", waiting())
			time.Sleep(20 * time.Millisecond) // before it looks again
		}
	}

	relay := tm.relay(t)
	insert(3)
	drained()

	// Between commit and relay.
	relay.kill()
	insert(20)
	require.Equal(t, 20, waiting())
	relay = tm.relay(t)
	drained()

	// Between emit and mark: the service has the event, the relay does not know.
	for range 3 {
		holding.Store(true)
		insert(5)
		<-accepted
		relay.kill()
		holding.Store(false)
		require.Equal(t, 5, waiting())
		relay = tm.relay(t)
		drained()
	}

	// A row at fault is set aside and holds nothing up.
	_, err = backend.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data) VALUES ('poison', 'no.such_event', '{}')")
	require.NoError(t, err)
	insert(5)
	drained()
	var fault string
	require.NoError(t, backend.QueryRow(t.Context(), "SELECT error FROM mathub_outbox WHERE id = 'poison' AND failed_at IS NOT NULL").Scan(&fault))
	require.Contains(t, fault, "event")

	// The API is away for a while.
	away.Store(true)
	insert(5)
	relay.stderr.await(t, "emitting from the outbox failed")
	require.Equal(t, 5, waiting())
	away.Store(false)
	drained()

	receiver.Await(t, "/hook", inserted)
	bot.AwaitDeliveries(t, hook.ID, min(inserted, 50))
	times := map[string]int{}
	for _, request := range receiver.Requests("/hook") {
		times[request.EventID()]++
	}
	require.Len(t, times, inserted)
	for id, n := range times {
		require.Equal(t, 1, n, id)
	}
}
