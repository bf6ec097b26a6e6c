package e2e_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// TestEveryPieceCanBeLostAndComesBack runs API and worker apart, takes each piece away in turn, by force where it can
// be forced, and sees an event through after each.
func TestEveryPieceCanBeLostAndComesBack(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}}})
	api, worker := stack.Apps[0], stack.Apps[1]
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "harness")
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "s3cret", "post.created")

	arrived := 0
	emitted := func(t *testing.T, type_ string) {
		t.Helper()
		arrived++
		bot.Emit(t, testkit.Event{Type: mathub.EventType(type_), Data: json.RawMessage(`{"postId":"1"}`)})
		requests := receiver.Await(t, "/hook", arrived)
		last := requests[arrived-1]
		mac := hmac.New(sha256.New, []byte("s3cret"))
		mac.Write(last.Body)
		require.Equal(t, hex.EncodeToString(mac.Sum(nil)), last.Header.Get("X-Mathub-Signature"))
		deliveries := bot.AwaitDeliveries(t, hook.ID, arrived)
		require.JSONEq(t, string(last.Body), string(deliveries[0].Payload))
	}
	emitted(t, "post.created")
	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"API killed", func(t *testing.T) { api.Kill(); api.Start(t) }},
		{"API stopped", func(t *testing.T) { api.Stop(t); api.Start(t) }},
		{"worker killed", func(t *testing.T) { worker.Kill(); worker.Start(t) }},
		{"worker stopped", func(t *testing.T) { worker.Stop(t); worker.Start(t) }},
		{"Temporal killed", func(t *testing.T) {
			stack.Servers.Temporal.Kill()
			require.NoError(t, stack.Servers.StartTemporal(t.Context()))
			api.AwaitReady(t)
			worker.AwaitReady(t)
		}},
		{"Postgres stopped", func(t *testing.T) {
			require.NoError(t, stack.Servers.StopTemporal(t.Context()))
			require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGINT))
			require.NoError(t, stack.Servers.StartPostgres(t.Context()))
			require.NoError(t, stack.Servers.StartTemporal(t.Context()))
			api.AwaitReady(t)
			worker.AwaitReady(t)
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			step.run(t)
			emitted(t, "post.created")
		})
	}

	var rows int
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&rows))
	require.Equal(t, arrived, rows)
	run, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: emit.WorkflowID("by-client"), TaskQueue: emit.TaskQueue,
	}, emit.WorkflowType, map[string]any{"id": "by-client", "event": "post.created", "data": map[string]any{}})
	require.NoError(t, err)
	require.NoError(t, run.Get(t.Context(), nil))
	require.Equal(t, "by-client", receiver.Await(t, "/hook", arrived+1)[arrived].EventID())
}

// TestReceiver tries the ways of answering.
func TestReceiver(t *testing.T) {
	receiver := testkit.NewReceiver(t)
	postWithin := func(limit time.Duration, path string) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		t.Cleanup(cancel)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, receiver.URL(path), http.NoBody)
		require.NoError(t, err)
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		return client.Do(request)
	}
	post := func(path string) (*http.Response, error) { return postWithin(time.Minute, path) }
	status := func(path string) int {
		t.Helper()
		response, err := post(path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	require.Equal(t, 204, status("/plain"))
	receiver.Answer("/turns", testkit.Status(500), testkit.Status(503), testkit.Content(200, "ok"))
	require.Equal(t, []int{500, 503, 200, 200}, []int{status("/turns"), status("/turns"), status("/turns"), status("/turns")})
	receiver.Answer("/elsewhere", testkit.Redirect(302, receiver.URL("/plain")))
	require.Equal(t, 302, status("/elsewhere"))
	receiver.Answer("/hang", receiver.Hang())
	_, err := postWithin(time.Second, "/hang")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	receiver.Answer("/broken", testkit.BreakOff())
	_, err = post("/broken")
	require.ErrorContains(t, err, "EOF")
	receiver.Answer("/reset", testkit.Reset())
	_, err = post("/reset")
	require.ErrorIs(t, err, syscall.ECONNRESET)
	receiver.Refuse()
	_, err = post("/plain")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, receiver.Reopen())
	require.Equal(t, 204, status("/plain"))
	gate := make(chan struct{})
	receiver.Answer("/gate", receiver.Until(gate, testkit.Status(200)))
	go func() {
		receiver.Await(t, "/gate", 1)
		close(gate)
	}()
	require.Equal(t, 200, status("/gate"))
	require.Len(t, receiver.Requests("/turns"), 4)
	require.Equal(t, 11, receiver.Count())
}
