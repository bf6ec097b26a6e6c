package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

func TestAnEventReachesEveryWebhookOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	for i := range 3 {
		s.subscribe(t, fmt.Sprintf("/%d", i))
	}
	receipt := s.emit(t, "e1")
	require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1"}, receipt)
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: 3, Counts: delivery.Counts{Delivered: 3}}, s.counted(t, "event-e1"))
	s.keep(t, "event-e1", "deliver_event")
	for range 3 {
		require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true}, s.emit(t, "e1"))
	}
	for i := range 3 {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
}

func TestAPlainTemporalClientEmits(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	s.subscribe(t, "/")
	begin := func(id string, input any) client.WorkflowRun {
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: "mathub-webhooks"}, "DeliverEvent", input)
		require.NoError(t, err)
		return run
	}
	event := map[string]any{"event": "post.created", "data": map[string]any{"postId": "p1"}}
	require.NoError(t, begin("event-e1", event).Get(t.Context(), nil))
	require.Equal(t, 1, s.count("/", "e1"))

	// The same event under another workflow's id, as after Temporal has forgotten the first.
	event["id"] = "e1"
	var again workflows.Summary
	require.NoError(t, begin("again", event).Get(t.Context(), &again))
	require.Equal(t, workflows.Summary{EventID: "e1", Duplicate: true}, again)
	require.Equal(t, 1, s.count("/", "e1"))

	event["event"] = "post.deleted"
	err := begin("event-e2", event).Get(t.Context(), nil)
	var fault *temporal.ApplicationError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, workflows.InvalidEventError, fault.Type())
	require.ErrorContains(t, err, "event")
	s.keep(t, "event-e2", "deliver_event_invalid")

	// What failed so accepted nothing: the id is still free.
	require.False(t, s.emit(t, "e2").Duplicate)
	result[workflows.Summary](t, s.client, "event-e2")
	require.Equal(t, 1, s.count("/", "e2"))
}

func TestAFailureIsAttemptedAgainUntilTaken(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{200 * time.Millisecond, time.Hour})
	id := s.subscribe(t, "/")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: 1, Counts: delivery.Counts{Retrying: 1}}, s.counted(t, "event-e1"))
	queue := workflows.QueueWorkflowID(id)
	require.Eventually(t, func() bool { return s.count("/", "e1") == 2 }, 3*time.Minute, 20*time.Millisecond)

	var status workflows.QueueStatus
	require.Eventually(t, func() bool {
		answer, err := s.client.QueryWorkflow(t.Context(), queue, "", workflows.StatusQuery)
		return err == nil && answer.Get(&status) == nil && status.NextAttemptAt != nil && status.FailureCount == 2
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, "HTTP 503", status.LastError)
	require.Equal(t, 1, status.Waiting)
	require.InDelta(t, time.Hour, time.Until(*status.NextAttemptAt), float64(15*time.Minute))
	update, err := s.client.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{
		WorkflowID: queue, UpdateName: workflows.StatusQuery, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(t, err)
	require.NoError(t, update.Get(t.Context(), &status))
	require.Equal(t, 2, status.FailureCount)

	s.answer(nil)
	require.NoError(t, s.client.SignalWorkflow(t.Context(), queue, "", workflows.RetryNowSignal, nil))
	require.NoError(t, s.client.GetWorkflow(t.Context(), queue, "").Get(t.Context(), nil))
	require.Equal(t, 3, s.count("/", "e1"))
	s.keep(t, "event-e1", "deliver_event_failed")
	s.keep(t, queue, "webhook_queue")

	var attempts []int32
	var triggers []string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT array_agg(attempt ORDER BY seq), array_agg(trigger::text ORDER BY seq) FROM deliveries").Scan(&attempts, &triggers))
	require.Equal(t, []int32{1, 2, 3}, attempts)
	require.Equal(t, []string{"event", "retry", "retry"}, triggers)
	require.Equal(t, "direct, 0 failures, 0 rows", s.state(t, id))
}

// TestAFailingWebhooksEventsGoThroughItsQueue, without an activity of theirs, and directly again once it is well.
func TestAFailingWebhooksEventsGoThroughItsQueue(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: 1, Counts: delivery.Counts{Failed: 1}}, s.counted(t, "event-e1"))
	require.Equal(t, "queued, 1 failures, 0 rows", s.state(t, id))
	s.answer(nil)
	s.emit(t, "e2")
	require.Equal(t, workflows.Summary{EventID: "e2", Webhooks: 1, Counts: delivery.Counts{Queued: 1}}, s.counted(t, "event-e2"))
	s.keep(t, "event-e2", "deliver_event_queued")
	require.Eventually(t, func() bool { return s.state(t, id) == "direct, 0 failures, 0 rows" }, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, 1, s.count("/", "e2"))
	s.emit(t, "e3")
	require.Equal(t, workflows.Summary{EventID: "e3", Webhooks: 1, Counts: delivery.Counts{Delivered: 1}}, s.counted(t, "event-e3"), "it is direct again")
}

func TestManyEmittersOfOneIDDeliverItOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	var first atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			receipt, err := emit.Event(context.Background(), s.client, webhook.Event{ID: "same", Type: webhook.PostCreated, Data: json.RawMessage(fmt.Sprintf(`{"emitter":%d}`, i))})
			if err != nil || receipt.ID != "same" {
				t.Errorf("%+v, %v", receipt, err)
			}
			if !receipt.Duplicate {
				first.Add(1)
			}
		})
	}
	all.Wait()
	require.Equal(t, int32(1), first.Load())
	require.Equal(t, 1, result[workflows.Summary](t, s.client, "event-same").Delivered)
	require.Equal(t, 1, s.count("/", "same"))
}

// TestANoticeIsTried: once, and its result is what the owner's endpoint answered.
func TestANoticeIsTried(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/") // makes the bot
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	try := func() (delivery.Result, error) {
		return workflows.StartNoticeTest(t.Context(), s.client, s.attributes, "bot")
	}
	_, err := try()
	require.ErrorIs(t, err, workflows.NotMadeError{Reason: delivery.NoticesUnwanted})
	sealed, err := s.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	url, err := s.keyset.SealNotifyURL("bot", s.url+"/owner")
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE bots SET notify_url = $1, notify_secret = $2", url, sealed)
	require.NoError(t, err)
	r, err := try()
	require.NoError(t, err)
	require.Equal(t, delivery.Result{Status: delivery.Failed, StatusCode: 418, Error: "HTTP 418"}, r)
	require.Len(t, s.all(), 1)
	eventID := strings.TrimPrefix(s.all()[0], "/owner ")
	s.keep(t, "notice-test-"+eventID, "send_test_notice")
	require.NoError(t, s.byHand(t, "notice-test-by-hand", "SendTestNotice", "bot"))
	requireRefused(t, s.byHand(t, "by-hand", "SendTestNotice", "bot"), "workflow id")
	requireRefused(t, s.byHand(t, "notice-test-2", "SendTestNotice", "no bot"), "botId")
}

// TestAnOwnerIsToldOfEachDisablingOnce: by the worker that disables and, of what another has left behind, by one that
// starts.
func TestAnOwnerIsToldOfEachDisablingOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.Schedule{200 * time.Millisecond})
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" || s.count("/owner", r.Header.Get("webhook-id")) == 1 { // the owner is away at first
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	id := s.subscribe(t, "/")
	sealed, err := s.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	sealedURL, err := s.keyset.SealNotifyURL("bot", s.url+"/owner")
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "UPDATE bots SET notify_url = $1, notify_secret = $2", sealedURL, sealed)
	require.NoError(t, err)
	for i := range webhook.MaxFailures {
		made, _, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id), "")
		require.NoError(t, err, i)
		s.awaitDelivery(t, made)
	}
	notice := webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: id}.NoticeID()
	require.Eventually(t, func() bool { return s.count("/owner", notice) == 2 }, 3*time.Minute, 10*time.Millisecond)
	require.Equal(t, delivery.Result{Status: delivery.Delivered, StatusCode: 200}, result[delivery.Result](t, s.client, notice))
	s.keep(t, notice, "notify_disabled")
	left := func() (n int) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM notices WHERE started_at IS NULL").Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return left() == 0 }, 3*time.Minute, 10*time.Millisecond)

	// One whose workflow was started, by a process that died before it could say so.
	_, err = s.pool.Exec(t.Context(), "INSERT INTO notices VALUES ($1, 0, 'localhost', 10, now(), 'e', 'HTTP 503'), ($1, 7, 'localhost', 10, now(), 'e', 'HTTP 503')", id)
	require.NoError(t, err)
	s.startWorker(t, webhook.Schedule{200 * time.Millisecond})
	require.Eventually(t, func() bool { return left() == 0 }, 3*time.Minute, 10*time.Millisecond)
	other := webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: id, Generation: 7}.NoticeID()
	result[delivery.Result](t, s.client, other)
	require.Equal(t, 2, s.count("/owner", notice), "notified already")
	require.Equal(t, 2, s.count("/owner", other))

	// A failing webhook's, by the same workflow.
	_, err = s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = true WHERE id = $1", id)
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "INSERT INTO notices (webhook_id, kind, generation, host, failure_count, noticed_at, event_id, last_error) VALUES ($1, 'failing', 1, 'localhost', 7, now(), 'e', 'HTTP 503')", id)
	require.NoError(t, err)
	s.startWorker(t, webhook.Schedule{200 * time.Millisecond})
	failing := webhook.Notice{Kind: webhook.NoticeFailing, WebhookID: id, Generation: 1}.NoticeID()
	require.Eventually(t, func() bool { return left() == 0 }, 3*time.Minute, 10*time.Millisecond)
	require.Equal(t, delivery.Delivered, result[delivery.Result](t, s.client, failing).Status)

	// One whose workflow an operator terminated before the owner took it.
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		if s.count("/owner", r.Header.Get("webhook-id")) == 1 {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	_, err = s.pool.Exec(t.Context(), "INSERT INTO notices VALUES ($1, 8, 'localhost', 10, now(), 'e', 'HTTP 503')", id)
	require.NoError(t, err)
	terminated := webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: id, Generation: 8}
	start := func() { require.NoError(t, workflows.StartNotice(t.Context(), s.client, terminated)) }
	start()
	require.Eventually(t, func() bool { return s.count("/owner", terminated.NoticeID()) == 1 }, 3*time.Minute, 10*time.Millisecond)
	start() // which does nothing to one that runs
	require.NoError(t, s.client.TerminateWorkflow(t.Context(), terminated.NoticeID(), "", "by hand"))
	start()
	require.Equal(t, delivery.Delivered, result[delivery.Result](t, s.client, terminated.NoticeID()).Status)
	require.Equal(t, 2, s.count("/owner", terminated.NoticeID()))
}

// TestTheScheduleRemovesWhatIsOverAge, and takes on another retention, and ends.
func TestTheScheduleRemovesWhatIsOverAge(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	for _, id := range []string{"old", "young"} {
		s.emit(t, id)
		require.Equal(t, 1, result[workflows.Summary](t, s.client, "event-"+id).Delivered)
	}
	for _, statement := range []string{
		"UPDATE events SET accepted_at = now() - interval '31 days' WHERE id = 'old'",
		"UPDATE deliveries SET id = overlay(id::text placing left(first_delivery(now() - interval '31 days')::text, 8) from 1 for 8)::uuid WHERE event_id = 'old'",
	} {
		_, err := s.pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	require.NoError(t, workflows.ScheduleRemoval(t.Context(), s.client, 0), "there is none to end")
	require.NoError(t, workflows.ScheduleRemoval(t.Context(), s.client, webhook.Retention(60*24*time.Hour)))
	schedule := s.client.ScheduleClient().GetHandle(t.Context(), workflows.RetentionSchedule)
	require.NoError(t, schedule.Pause(t.Context(), client.SchedulePauseOptions{Note: "by hand"}))
	require.NoError(t, workflows.ScheduleRemoval(t.Context(), s.client, webhook.DefaultRetention))
	described, err := schedule.Describe(t.Context())
	require.NoError(t, err)
	require.True(t, described.Schedule.State.Paused, "an operator's pause is kept")
	require.Equal(t, time.Hour, described.Schedule.Spec.Intervals[0].Every)
	require.Equal(t, enums.SCHEDULE_OVERLAP_POLICY_SKIP, described.Schedule.Policy.Overlap)
	require.NoError(t, schedule.Unpause(t.Context(), client.ScheduleUnpauseOptions{}))
	require.NoError(t, schedule.Trigger(t.Context(), client.ScheduleTriggerOptions{}))
	var id string
	require.Eventually(t, func() bool {
		described, err := schedule.Describe(t.Context())
		if err != nil || len(described.Info.RecentActions) == 0 {
			return false
		}
		id = described.Info.RecentActions[0].StartWorkflowResult.WorkflowID
		return true
	}, 3*time.Minute, 50*time.Millisecond)
	removed := result[history.Removal](t, s.client, id)
	require.Equal(t, [2]int{1, 1}, [2]int{removed.Events, removed.Deliveries})
	require.WithinDuration(t, time.Now().Add(-721*time.Hour), removed.Before, time.Minute)
	s.keep(t, id, "remove_expired")
	var left []string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT array_agg(e.id) FROM events e JOIN deliveries d ON d.event_id = e.id").Scan(&left))
	require.Equal(t, []string{"young"}, left)

	require.NoError(t, workflows.ScheduleRemoval(t.Context(), s.client, 0))
	_, err = schedule.Describe(t.Context())
	var none *serviceerror.NotFound
	require.ErrorAs(t, err, &none, "for ever")
}
