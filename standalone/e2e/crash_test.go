package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
	"github.com/mathub/webhooks/standalone/servers"
)

// TestNothingAcceptedIsLost emits events while the worker is killed again and again, Postgres is stopped in its
// immediate mode and Temporal is killed. Emitters that get no answer emit again with the same id. In the end every
// event is at every receiver, recorded once, and repeats are only what the kills explain.
func TestNothingAcceptedIsLost(t *testing.T) {
	const events, hooks, kills = 500, 3, 6
	stack := e2e.Start(t, e2e.Options{
		Apps:    []e2e.App{{Args: []string{"api"}}, {Args: []string{"worker"}}},
		Servers: servers.Options{Durable: true}, // a throw-away Postgres forgets what it has just committed
	})
	worker := stack.Apps[1]
	receiver := e2e.NewReceiver(t)
	bot := stack.API().CreateBot(t, "crash")
	for i := range hooks {
		path := fmt.Sprintf("/%d", i)
		receiver.Answer(path, receiver.Slow(20*time.Millisecond, e2e.Status(200)))
		bot.CreateWebhook(t, receiver.URL(path), "s", post)
	}
	ids := make(chan string)
	var emitting sync.WaitGroup
	for range 16 {
		emitting.Go(func() {
			for id := range ids {
				deadline := time.Now().Add(2 * time.Minute)
				for {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					_, err := stack.API().TryEmit(ctx, e2e.Event{ID: id, Type: post, BotIDs: []string{bot.ID}})
					cancel()
					if err == nil {
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("emit %s: %v", id, err)
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range events {
			ids <- fmt.Sprintf("crash-%03d", i)
			time.Sleep(10 * time.Millisecond)
		}
		close(ids)
		emitting.Wait()
	}()
	for range kills {
		time.Sleep(time.Duration(200+rand.IntN(500)) * time.Millisecond)
		worker.Kill()
		worker.Start(t)
	}
	require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGQUIT))
	time.Sleep(2 * time.Second)
	require.NoError(t, stack.Servers.StartPostgres(t.Context()))
	stack.Servers.Temporal.Kill()
	require.NoError(t, stack.Servers.StartTemporal(t.Context()))
	stack.Apps[0].AwaitReady(t)
	if !worker.Process().Alive() {
		t.Fatal("the worker did not survive its servers' restart")
	}
	<-done

	var rows, distinct, failed int
	arrived := func() bool {
		err := stack.Database(t).QueryRow(t.Context(), "SELECT count(*), count(DISTINCT (event_id, webhook_id, attempt)), count(*) FILTER (WHERE NOT success) FROM deliveries").Scan(&rows, &distinct, &failed)
		return err == nil && rows-failed >= events*hooks
	}
	for deadline := time.Now().Add(90 * time.Second); !arrived() && time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
	}
	require.GreaterOrEqual(t, rows-failed, events*hooks, "deliveries recorded; %d failed", failed)
	require.Equal(t, rows, distinct)
	repeats := 0
	for i := range hooks {
		seen := map[string]int{}
		for _, r := range receiver.Requests(fmt.Sprintf("/%d", i)) {
			seen[r.EventID()]++
		}
		require.Len(t, seen, events)
		for _, n := range seen {
			repeats += n - 1
		}
	}
	t.Logf("%d events to %d webhooks: %d rows, %d failed attempts, %d repeats after %d kills and a restart of both servers", events, hooks, rows, failed, repeats, kills)
	require.Zero(t, failed, "a crash of ours is not the receiver's failure")
	for _, hook := range bot.Webhooks(t) {
		require.True(t, hook.IsActive)
		require.Zero(t, hook.FailureCount)
	}
}
