package worker_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// TestALargerAudienceSharesOneLineOfHistory, and who does not answer, or fails, goes on in lines of its own.
func TestALargerAudienceSharesOneLineOfHistory(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	for i := range 8 {
		s.subscribe(t, fmt.Sprintf("/%d", i))
	}
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/6":
			time.Sleep(2500 * time.Millisecond) // slow enough for another task of the workflow
		case "/7":
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: 8, Counts: delivery.Counts{Delivered: 7, Retrying: 1}}, s.counted(t, "event-e1"))
	for i := range 8 {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
	markers := 0
	for it := s.client.GetWorkflowHistory(t.Context(), "event-e1", "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		require.NoError(t, err)
		if e.EventType == enums.EVENT_TYPE_MARKER_RECORDED {
			markers++
		}
	}
	require.Equal(t, 2, markers, "the lookup and the group")
	s.keep(t, "event-e1", "deliver_event_group")
}

func TestALargeAudienceIsDeliveredInBatches(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	const audience = delivery.StepSize + 10
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 9) n")
	require.NoError(t, err)
	hooks := make([]dbtest.Webhook, audience)
	for i := range hooks {
		hooks[i] = dbtest.Webhook{BotID: fmt.Sprintf("bot-%d", i%10), URL: fmt.Sprintf("%s/%d", s.url, i)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, hooks)
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Batches: 2}, s.counted(t, "event-e1"))
	batches := s.batches(t, "e1", 2)
	require.Equal(t, batches, s.found(t, fmt.Sprintf("TaskQueue = '%s'", workflows.BatchTaskQueue)), "so that other events do not wait for a place among many")
	delivered := 0
	for _, id := range batches {
		delivered += result[workflows.Summary](t, s.client, id).Delivered
	}
	require.Equal(t, audience, delivered)
	for i := range audience {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
	s.keep(t, "event-e1", "deliver_event_batches")
	s.keep(t, batches[1], "deliver_batch")

	// Postgres has lost it all, as one that was restored to a moment before: completed batches are in nobody's way.
	_, err = s.pool.Exec(t.Context(), "DELETE FROM deliveries; DELETE FROM events")
	require.NoError(t, err)
	s.emit(t, "e1")
	result[workflows.Summary](t, s.client, "event-e1")
	s.batches(t, "e1", 4)
	for i := range audience {
		require.Equal(t, 2, s.count(fmt.Sprintf("/%d", i), "e1"))
	}

	// Another run that takes the event over finds other pages, as webhooks were added since: all of them are served.
	more := make([]dbtest.Webhook, delivery.StepSize)
	for i := range more {
		more[i] = dbtest.Webhook{BotID: "bot-0", URL: fmt.Sprintf("%s/more-%d", s.url, i)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, more)
	ended, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "ended", TaskQueue: "none"}, "DeliverEvent")
	require.NoError(t, err)
	require.NoError(t, s.client.TerminateWorkflow(t.Context(), "ended", "", "by an operator"))
	_, err = s.pool.Exec(t.Context(), "UPDATE events SET workflow_id = 'ended', run_id = $1", ended.GetRunID())
	require.NoError(t, err)
	require.NoError(t, s.byHand(t, "events-again", "DeliverEvents", []any{map[string]any{"id": "e1", "event": "post.created", "data": map[string]any{}}}))
	require.Greater(t, len(s.batches(t, "e1", 4+3)), 3)
	for i := range more {
		require.Equal(t, 1, s.count(fmt.Sprintf("/more-%d", i), "e1"))
	}
	for i := range audience {
		require.Equal(t, 2, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
}

// TestAResetEventGoesToWhoeverLacksIt: an operator has ended a batch, and resets the event's workflow.
func TestAResetEventGoesToWhoeverLacksIt(t *testing.T) {
	t.Parallel()
	c, namespace := temporaltest.NewNamespace(t)
	s := start(t, &stack{client: c}, webhook.DefaultSchedule)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	require.NoError(t, err)
	hooks := make([]dbtest.Webhook, delivery.PageSize+1)
	for i := range hooks {
		hooks[i] = dbtest.Webhook{BotID: "bot", URL: fmt.Sprintf("%s/%d", s.url, i%2)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, hooks)
	s.emit(t, "e1")
	s.counted(t, "event-e1")
	s.batches(t, "e1", 1)
	_, err = s.pool.Exec(t.Context(), "DELETE FROM deliveries WHERE webhook_id IN (SELECT id FROM webhooks ORDER BY id LIMIT 1)") // as if it had been ended before
	require.NoError(t, err)
	_, err = c.ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "event-e1"}, Reason: "a batch was ended", WorkflowTaskFinishEventId: 4,
	})
	require.NoError(t, err)
	s.counted(t, "event-e1")
	s.batches(t, "e1", 2)
	require.Equal(t, len(hooks)+1, s.count("/0", "e1")+s.count("/1", "e1"))
}

// TestALargeAudienceWaitsForNobody: another event of its group has a receiver that hangs.
func TestALargeAudienceWaitsForNobody(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 9) n")
	require.NoError(t, err)
	hooks := make([]dbtest.Webhook, delivery.PageSize+1)
	for i := range hooks {
		hooks[i] = dbtest.Webhook{BotID: fmt.Sprintf("bot-%d", i%10), URL: fmt.Sprintf("%s/%d", s.url, i)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, hooks)
	s.subscribe(t, "/hangs")
	asked, hung := make(chan struct{}, 1), make(chan struct{})
	release := sync.OnceFunc(func() { close(hung) })
	t.Cleanup(release)
	s.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hangs" && r.Header.Get("webhook-id") == "small" {
			asked <- struct{}{}
			<-hung
		}
	})
	_, err = s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "group", TaskQueue: workflows.TaskQueue}, "DeliverEvents", []any{
		map[string]any{"id": "small", "event": "post.created", "data": map[string]any{}, "botIds": []string{"bot"}},
		map[string]any{"id": "large", "event": "post.created", "data": map[string]any{}},
	})
	require.NoError(t, err)
	<-asked
	s.batches(t, "large", 1)
	for i := range hooks {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "large"))
	}
	var waited bool
	require.NoError(t, s.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM deliveries WHERE event_id = 'small'
		AND attempted_at + duration_ms * interval '1 ms' < (SELECT min(attempted_at) FROM deliveries WHERE event_id = 'large'))`).Scan(&waited))
	require.False(t, waited)
	release()
	require.Equal(t, 1, s.counted(t, "group").Batches)
}

// TestALargePartOfOneBotPassesAtOnce, in its bot's share of places.
func TestALargePartOfOneBotPassesAtOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	const audience = delivery.PageSize
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	require.NoError(t, err)
	hooks := make([]dbtest.Webhook, audience)
	for i := range hooks {
		hooks[i] = dbtest.Webhook{BotID: "bot", URL: fmt.Sprintf("%s/%d", s.url, i)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, hooks)
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: audience, Counts: delivery.Counts{Delivered: audience}}, s.counted(t, "event-e1"))
	for i := range audience {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
}
