package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestAnIncidentIsRecoveredOnceWhateverCrashes kills the worker after it has enabled some of an incident's webhooks, and after it
// has begun some of their recoveries, before their workflows are started. Another worker goes on: each webhook is enabled, and
// gets what it missed once.
func TestAnIncidentIsRecoveredOnceWhateverCrashes(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{
		Binary: testkit.Build(t, "-tags=failpoints"), Servers: durable, Apps: []testkit.App{{Args: []string{"api"}}},
	})
	worker := stack.NewApp(t, testkit.App{Args: []string{"worker"}})
	service, err := mathub.NewService(stack.API().URL, stack.API().ServiceToken)
	require.NoError(t, err)
	receiver := testkit.NewReceiver(t)
	for _, place := range []string{"incident-enabled", "incident-recovering"} {
		worker.Start(t)
		since := time.Now()
		const bots, events = 8, 5
		path := func(i int) string { return fmt.Sprintf("/%s-%d", place, i) }
		ids := make([]string, bots)
		for i := range bots {
			bot := stack.API().CreateBot(t, place)
			bot.CreateWebhook(t, receiver.URL(path(i)), "", post)
			ids[i] = bot.ID
		}
		db := stack.Database(t)
		_, err := db.Exec(t.Context(), `UPDATE webhooks SET is_active = false, failure_count = 10, failure_class = 'timeout', disabled_reason = 'failures', disabled_at = now()
			WHERE bot_id = ANY ($1)`, ids)
		require.NoError(t, err)
		for range events {
			missed := stack.API().Emit(t, testkit.Event{Type: post, BotIDs: ids})
			require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), missed.WorkflowID, "").Get(t.Context(), nil))
		}
		worker.Stop(t)
		worker.Env["MATHUB_FAILPOINT"] = place + ":3"
		worker.Launch(t)
		begun, err := service.RecoverIncident(t.Context(), mathub.NewIncident{DisabledSince: since.Add(-time.Second), BotIDs: ids})
		require.NoError(t, err)
		select {
		case <-worker.Process().Done():
		case <-time.After(2 * time.Minute): // the most that it may take
			t.Fatalf("the worker never came to %s", place)
		}
		require.Contains(t, worker.Process().Ended(), "killed")
		delete(worker.Env, "MATHUB_FAILPOINT")
		worker.Start(t)
		var now mathub.Incident
		require.Eventually(t, func() bool {
			answer, err := service.GetIncident(t.Context(), *begun.Value.ID)
			if err == nil {
				now = answer.Value
			}
			return now.State == "completed"
		}, 3*time.Minute, 100*time.Millisecond, "%+v", now)
		require.Equal(t, []int{bots, bots, bots, 0, 0}, []int{now.Found, now.Enabled, now.Recovered, now.Skipped, now.Failed})
		for i := range bots {
			got := map[string]int{}
			for _, r := range receiver.Requests(path(i)) {
				got[r.Header.Get("webhook-id")]++
			}
			require.Len(t, got, events, path(i))
			for id, n := range got {
				require.Equal(t, 1, n, id)
			}
		}
		var enabled, recoveries int
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE w.is_active AND w.generation = 1), (SELECT count(*) FROM recoveries r JOIN webhooks o ON o.id = r.webhook_id WHERE o.bot_id = ANY ($1))
			FROM webhooks w WHERE w.bot_id = ANY ($1)`, ids).Scan(&enabled, &recoveries))
		require.Equal(t, []int{bots, bots}, []int{enabled, recoveries})
		worker.Stop(t)
	}
}
