package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

func TestAVerificationAnswersWithItsDelivery(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	made, queued, err := workflows.StartVerification(t.Context(), s.client, s.attributes, s.target(id))
	require.NoError(t, err)
	require.False(t, queued)
	s.awaitDelivery(t, made)
	eventID, eventType := made.EventID, ""
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT type FROM events WHERE id = $1", eventID).Scan(&eventType))
	require.Equal(t, string(webhook.Verify), eventType)
	require.Equal(t, 1, s.count("/", eventID))
	s.keep(t, "verify-"+eventID, "verify_endpoint")
}

func TestATestEventAnswersWithItsDelivery(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	made, queued, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id), "")
	require.NoError(t, err)
	require.False(t, queued)
	s.awaitDelivery(t, made)
	require.Equal(t, 1, s.count("/", made.EventID))
	s.keep(t, "test-"+made.EventID, "send_test")

	_, _, err = workflows.StartTest(t.Context(), s.client, s.attributes, s.target(uuid.New()), "")
	require.ErrorIs(t, err, workflows.NotMadeError{Reason: delivery.WebhookGone})
}

func TestARedeliveryIsTheNextAttempt(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	s.emit(t, "e1")
	result[workflows.Summary](t, s.client, "event-e1")
	var all sync.WaitGroup
	for range 5 { // at once, they are one
		all.Go(func() {
			made, queued, err := workflows.StartRedelivery(context.Background(), s.client, s.attributes, s.target(id), "e1", 2)
			if err != nil || queued || made != (delivery.Attempt{EventID: "e1", WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver}) {
				t.Errorf("%v, %v", made, err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 2, s.count("/", "e1"))
	s.keep(t, fmt.Sprintf("redeliver-e1-%s-2", id), "redeliver")
}

// TestARedeliveryOfWhatIsPlannedIsTheNextAttempt: a person's attempt and the schedule's are one, and the schedule goes on.
func TestARedeliveryOfWhatIsPlannedIsTheNextAttempt(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{time.Hour, time.Hour})
	id := s.subscribe(t, "/")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.emit(t, "e1")
	require.Equal(t, 1, result[workflows.Summary](t, s.client, "event-e1").Retrying)
	made, queued, err := workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.target(id), "e1", 2)
	require.NoError(t, err)
	require.True(t, queued, "the webhook fails")
	s.awaitDelivery(t, made)
	require.Equal(t, "queued, 2 failures, 1 rows", s.state(t, id))
	s.answer(nil)
	require.NoError(t, s.client.SignalWorkflow(t.Context(), workflows.QueueWorkflowID(id), "", workflows.RetryNowSignal, "e1"))
	s.awaitDelivery(t, delivery.Attempt{EventID: "e1", WebhookID: id, Number: 3})
	require.Equal(t, 3, s.count("/", "e1"))
	require.Eventually(t, func() bool { return s.state(t, id) == "direct, 0 failures, 0 rows" }, 3*time.Minute, 20*time.Millisecond)
}

// TestManualDeliveriesWorkOnADisabledWebhook, one at a time, and enable nothing.
func TestManualDeliveriesWorkOnADisabledWebhook(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	s.emit(t, "e1")
	result[workflows.Summary](t, s.client, "event-e1")
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = false, failure_count = 10, queued = true")
	require.NoError(t, err)
	made, queued, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id), "")
	require.NoError(t, err)
	require.True(t, queued)
	s.awaitDelivery(t, made)
	made, _, err = workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.target(id), "e1", 2)
	require.NoError(t, err)
	s.awaitDelivery(t, made)
	var active bool
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT is_active FROM webhooks").Scan(&active))
	require.False(t, active)
}
