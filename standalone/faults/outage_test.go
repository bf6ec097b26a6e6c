package faults_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// outage is how long a server is away.
var outage = either(4*time.Second, 10*time.Second)

// TestPostgresIsStopped takes Postgres away in its immediate mode, which is a crash, under load. It is Temporal's too.
func TestPostgresIsStopped(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	l := newLedger(t, stack, "postgres", 3)
	for range either(1, 10) {
		stop := l.stream(t, 20*time.Millisecond)
		l.flows(t, 150)
		require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGQUIT))
		refusesWhatItCannotKeep(t, stack, l)
		time.Sleep(outage) // the length of the outage
		require.NoError(t, stack.Servers.StartPostgres(t.Context()))
		restartTemporalUnlessItWorks(t, stack)
		l.flows(t, 150)
		stop()
		require.Zero(t, l.settle(t, 2*time.Minute), "repeats without a crash")
	}
	finished(t, stack, time.Minute)
	survived(t, stack)
}

// refusesWhatItCannotKeep: what is not accepted is said so, and nothing of it is half done.
func refusesWhatItCannotKeep(t *testing.T, stack *testkit.Stack, l *ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	answer, err := stack.API().Do(ctx, http.MethodPost, "/api/internal/v1/events", stack.API().ServiceToken,
		testkit.Event{Type: post, Data: []byte(`{}`), BotIDs: []string{l.bot.ID + "-nobody"}})
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, answer.Status, "%s", answer.Body)
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
}

// restartTemporalUnlessItWorks does what standalone's watchdog and an operator's health check do: Temporal's server
// may stay dead after its database came back (temporalio/temporal issue 11691).
func restartTemporalUnlessItWorks(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := temporal.AwaitReady(ctx, stack.TemporalAddr(), stack.Servers.Temporal.Done()); err != nil {
		t.Logf("Temporal did not come back by itself: %v", err)
		stack.Servers.Temporal.Kill()
		require.NoError(t, stack.Servers.StartTemporal(t.Context()))
	}
}

// survived: no process of the product ended because a server was away.
func survived(t *testing.T, stack *testkit.Stack) {
	t.Helper()
	for _, app := range stack.Apps {
		require.True(t, app.Process().Alive(), "%s: %s", app.Name, app.Process().Ended())
	}
}

// TestTemporalIsStopped takes Temporal away under load, in order and, in the long form, by force every other time.
func TestTemporalIsStopped(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	l := newLedger(t, stack, "temporal", 3)
	for i := range either(1, 20) {
		stop := l.stream(t, 20*time.Millisecond)
		l.flows(t, 150)
		if i%2 == 0 {
			require.NoError(t, stack.Servers.StopTemporal(t.Context()))
		} else {
			stack.Servers.Temporal.Kill()
		}
		refusesWhatItCannotKeep(t, stack, l)
		time.Sleep(outage) // the length of the outage
		require.NoError(t, stack.Servers.StartTemporal(t.Context()))
		l.flows(t, 150)
		stop()
		require.Zero(t, l.settle(t, 2*time.Minute), "repeats without a crash")
	}
	finished(t, stack, time.Minute)
	survived(t, stack)
}

// TestTemporalsPersistenceFails runs Temporal with its own fault injector: one call to its database in twenty fails, or
// succeeds and is said to have failed.
func TestTemporalsPersistenceFails(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	metrics := "127.0.0.1:" + strconv.Itoa(port)
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	require.NoError(t, stack.Servers.StopTemporal(t.Context()))
	stack.Servers.SetTemporal(func(s *temporal.Settings) { s.FaultRate, s.MetricsAddr = 0.05, metrics })
	require.NoError(t, stack.Servers.StartTemporal(t.Context()))
	l := newLedger(t, stack, "injector", 3)
	events := either(300, 6000)
	l.emit(t, events, either(20*time.Second, 10*time.Minute)/time.Duration(events))()

	response, err := http.Get("http://" + metrics + "/metrics")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	injected := 0
	for _, found := range regexp.MustCompile(`(?m)^persistence_error_with_type\{.*\} (\d+)$`).FindAllSubmatch(body, -1) {
		n, err := strconv.Atoi(string(found[1]))
		require.NoError(t, err)
		injected += n
	}
	require.Greater(t, injected, events/10, "the injector is on")

	require.NoError(t, stack.Servers.StopTemporal(t.Context()))
	stack.Servers.SetTemporal(func(s *temporal.Settings) { s.FaultRate = 0 })
	require.NoError(t, stack.Servers.StartTemporal(t.Context()))
	require.Zero(t, l.settle(t, 2*time.Minute), "repeats without a crash")
	finished(t, stack, 2*time.Minute)
	survived(t, stack)
	t.Logf("%d events to 3 webhooks, %d persistence errors: no repeats", events, injected)
}

// TestServersAreRestarted restarts Postgres, each time as after a crash, and Temporal, in order and by force in turn, again and again
// under load: no event is lost or repeated, and nothing has to be restarted with them but what
// restartTemporalUnlessItWorks says.
func TestServersAreRestarted(t *testing.T) {
	if !soak {
		t.Skip("long form only; TestPostgresIsStopped and TestTemporalIsStopped are the short ones")
	}
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart()})
	const most = 10 // restarts of a round
	done := 0
	rounds(t, (*restarts+most-1)/most, func(t *testing.T, round int) {
		l := newLedger(t, stack, fmt.Sprintf("restarts-%d", round), 3)
		stop := l.stream(t, 20*time.Millisecond)
		for range min(most, *restarts-done) {
			done++
			l.flows(t, 100)
			require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGQUIT))
			require.NoError(t, stack.Servers.StartPostgres(t.Context()))
			restartTemporalUnlessItWorks(t, stack)
			l.flows(t, 100)
			if done%2 == 0 {
				require.NoError(t, stack.Servers.StopTemporal(t.Context()))
			} else {
				stack.Servers.Temporal.Kill()
			}
			require.NoError(t, stack.Servers.StartTemporal(t.Context()))
		}
		l.flows(t, 100)
		stop()
		require.Zero(t, l.settle(t, 2*time.Minute), "repeats without a crash")
		t.Logf("%d events to 3 webhooks, %d restarts of Postgres and of Temporal so far: no repeat", len(l.accepted), done)
	})
	finished(t, stack, time.Minute)
	survived(t, stack)
}
