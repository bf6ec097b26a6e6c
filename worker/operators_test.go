package worker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// found are the ids of the workflows that a query typed into the Web UI finds, in order.
func (s *stack) found(t *testing.T, query string) []string {
	t.Helper()
	list, err := s.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query})
	require.NoError(t, err, query)
	ids := []string{}
	for _, w := range list.GetExecutions() {
		ids = append(ids, w.GetExecution().GetWorkflowId())
	}
	slices.Sort(ids)
	return ids
}

// finds waits for it, as Temporal brings its lists up to date in steps.
func (s *stack) finds(t *testing.T, query string, ids ...string) {
	t.Helper()
	slices.Sort(ids)
	if !poll(func() bool { return slices.Equal(ids, s.found(t, query)) }) {
		require.Equal(t, ids, s.found(t, query), query)
	}
}

func poll(done func() bool) bool {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) { // before it looks again
		if done() {
			return true
		}
	}
	return false
}

// details are what the Web UI shows of a workflow under User Metadata.
func (s *stack) details(t *testing.T, workflowID string) string {
	t.Helper()
	details, err := s.readDetails(t, workflowID)
	require.NoError(t, err)
	return details
}

func (s *stack) readDetails(t *testing.T, workflowID string) (string, error) {
	answer, err := s.client.QueryWorkflow(t.Context(), workflowID, "", "__temporal_workflow_metadata")
	if err != nil {
		return "", err
	}
	var metadata sdkpb.WorkflowMetadata
	err = answer.Get(&metadata)
	return metadata.GetCurrentDetails(), err
}

// awaitDetails waits until the workflow, which may not be there yet, has these among its details.
func (s *stack) awaitDetails(t *testing.T, workflowID, part string) {
	t.Helper()
	var details string
	var err error
	if !poll(func() bool {
		details, err = s.readDetails(t, workflowID)
		return strings.Contains(details, part)
	}) {
		require.Contains(t, details, part, "%v", err)
	}
}

func (s *stack) summary(t *testing.T, workflowID string) string {
	t.Helper()
	described, err := s.client.DescribeWorkflow(t.Context(), workflowID, "")
	require.NoError(t, err)
	summary, err := described.GetStaticSummary()
	require.NoError(t, err)
	return summary
}

// history is a workflow's, as the types of its events.
func (s *stack) history(t *testing.T, workflowID string) (types []string) {
	t.Helper()
	for it := s.client.GetWorkflowHistory(t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		require.NoError(t, err)
		types = append(types, e.GetEventType().String())
	}
	return types
}

// failedToday is the query of docs/operations.md.
func failedToday(webhookID uuid.UUID) string {
	today := time.Now().UTC().Add(-time.Minute).Format("2006-01-02") + "T00:00:00Z"
	return fmt.Sprintf(`MathubWebhookId = "%s" AND MathubFailed = true AND StartTime >= "%s"`, webhookID, today)
}

func TestOperatorsFindWhatFailedAndRetryIt(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, webhook.Schedule{time.Hour, time.Hour})
	ids := []uuid.UUID{s.subscribe(t, "/taken"), s.subscribe(t, "/taken"), s.subscribe(t, "/failing")}
	failing := ids[2]
	host := s.target(failing).Host
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/failing" {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprint(w, "# [Markdown](https://evil.example) of the receiver's")
		}
	})
	s.emit(t, "e1")
	queue := workflows.QueueWorkflowID(failing)
	sum := result[workflows.Summary](t, s.client, "event-e1")
	require.Equal(t, map[string]string{failing.String(): "HTTP 503, retrying"}, sum.NotDelivered)
	require.Equal(t, "post.created · post p1", s.summary(t, "event-e1"))
	require.Contains(t, s.details(t, "event-e1"), "post.created · post p1\n\n3 webhooks: 2 delivered, 1 retrying\n")
	require.Contains(t, s.details(t, "event-e1"), "/workflows/"+queue+") | `"+host+"` | `HTTP 503, retrying` |")

	s.awaitDetails(t, queue, "The next attempt is due at **20")
	require.Equal(t, "queue of "+host+" "+failing.String(), s.summary(t, queue))
	details := s.details(t, queue)
	require.Contains(t, details, "- Waiting: 1\n- Failures in a row: 1 of 10\n- Last error: `HTTP 503`\n")
	require.Contains(t, details, "`retry-now`")
	require.Contains(t, details, "- Bot: `bot`\n")
	require.NotContains(t, details+s.details(t, "event-e1"), "evil")

	s.finds(t, failedToday(failing), "event-e1")
	s.finds(t, `MathubBotId = "bot" AND MathubFailed = true`, "event-e1")
	s.finds(t, `MathubOutcome = "retrying"`, "event-e1")
	s.finds(t, `MathubWebhookId = "`+failing.String()+`" AND ExecutionStatus = "Running"`, queue)
	s.finds(t, `MathubEventType = "post.created"`, "event-e1")

	// A round that fails, as of a test and a redelivery, is the queue's failure.
	made, _, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(failing), "")
	require.NoError(t, err)
	s.awaitDelivery(t, made)
	event := made.EventID
	s.finds(t, failedToday(failing), "event-e1", queue)
	_, _, err = workflows.StartTest(t.Context(), s.client, s.attributes, s.target(ids[0]), "")
	require.NoError(t, err)
	s.finds(t, failedToday(ids[0]))
	require.Equal(t, "test event to "+host+" "+failing.String(), s.summary(t, "test-"+event))

	s.answer(nil)
	require.NoError(t, s.client.SignalWorkflow(t.Context(), queue, "", workflows.RetryNowSignal, nil))
	require.NoError(t, s.client.GetWorkflow(t.Context(), queue, "").Get(t.Context(), nil))
	require.Contains(t, s.details(t, queue), "**Empty**: nothing waits.")
}

// TestWhatFailsForGoodIsFoundByItsEvent: no queue holds it any more.
func TestWhatFailsForGoodIsFoundByItsEvent(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, nil)
	var failing []uuid.UUID
	for range 5 {
		failing = append(failing, s.subscribe(t, "/failing"))
	}
	taken := s.subscribe(t, "/taken")
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/failing" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	// As any Temporal client emits: neither a summary nor attributes come with it.
	event := map[string]any{"event": "post.created", "data": map[string]any{"postId": "p1", "threadId": "t1"}}
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "event-e1", TaskQueue: workflows.TaskQueue}, "DeliverEvent", event)
	require.NoError(t, err)
	sum := result[workflows.Summary](t, s.client, "event-e1")
	require.Len(t, sum.NotDelivered, 5)
	require.Equal(t, "failed: HTTP 500; no attempt is left", sum.NotDelivered[failing[0].String()])
	require.Contains(t, s.details(t, "event-e1"), "post.created · post p1 in thread t1\n\n6 webhooks: 1 delivered, 5 failed\n")
	for _, id := range failing {
		s.finds(t, failedToday(id), "event-e1")
	}
	s.finds(t, `MathubEventType = "post.created" AND MathubFailed = true`, "event-e1")
	s.finds(t, `MathubOutcome = "gave-up"`, "event-e1")
	s.finds(t, failedToday(taken))
	s.keep(t, "event-e1", "deliver_event_lost")
}

// TestWhatAQueueGaveUpIsFound: the event's workflow ended long before.
func TestWhatAQueueGaveUpIsFound(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, webhook.Schedule{10 * time.Millisecond})
	failing := s.subscribe(t, "/failing")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.emit(t, "e1")
	queue := workflows.QueueWorkflowID(failing)
	s.finds(t, `WorkflowType = "WebhookQueue" AND MathubOutcome = "gave-up"`, queue)
	s.finds(t, `MathubWebhookId = "`+failing.String()+`" AND MathubOutcome = "retrying"`, "event-e1")
}

// TestEventsOfAnySDKAreFoundByTheirType, though they are started without search attributes, alone or together.
func TestEventsOfAnySDKAreFoundByTheirType(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, nil)
	event := func(id string, of webhook.EventType) map[string]any {
		return map[string]any{"id": id, "event": of, "data": map[string]any{"postId": "p1"}}
	}
	require.NoError(t, s.byHand(t, "event-e1", "DeliverEvent", event("e1", webhook.PostCreated)))
	require.NoError(t, s.byHand(t, "events-1", "DeliverEvents", []any{event("e2", webhook.WikiEdited), event("e3", webhook.PostCreated)}))
	s.finds(t, `MathubEventType = "post.created"`, "event-e1", "events-1")
	s.finds(t, `MathubEventType = "wiki.edited"`, "events-1")
}

// TestWhatNoWorkerTakesIsFound: an emitter has mistyped the task queue, or the workflow's type.
func TestWhatNoWorkerTakesIsFound(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	begin := func(id, queue, workflow string) {
		_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: queue}, workflow, map[string]any{"event": "post.created", "data": map[string]any{}})
		require.NoError(t, err)
	}
	begin("event-taken", workflows.TaskQueue, "DeliverEvent")
	result[workflows.Summary](t, s.client, "event-taken")
	begin("event-queue", "mathub-webhook", "DeliverEvent")
	begin("event-type", workflows.TaskQueue, "DeliverEvnt")
	begin("others", "others", "Other")
	s.finds(t, workflows.StuckQuery(time.Now().Add(searchattr.StuckAfter+time.Minute)), "event-queue", "event-type")
	n, err := searchattr.Stuck(t.Context(), s.client, workflows.StuckQuery(time.Now()))
	require.NoError(t, err)
	require.Zero(t, n, "they have just begun")
}

func TestARecoveryShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, nil)
	id := s.subscribe(t, "/")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	s.emit(t, "e1")
	result[workflows.Summary](t, s.client, "event-e1")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	pauses := &history.Pauses{Pool: s.pool}
	_, err := pauses.Begin(t.Context(), history.PauseBot, "bot", "until its details were read")
	require.NoError(t, err)
	queue := history.Queue{Pool: s.pool}
	_, err = queue.StartRecovery(t.Context(), history.Span{WebhookID: id, Since: time.Now().Add(-time.Minute), Until: time.Now()})
	require.NoError(t, err)
	require.NoError(t, workflows.StartRecover(t.Context(), s.client, s.attributes, s.target(id)))
	recovery := "recover-" + id.String()
	s.awaitDetails(t, recovery, "**running**: of 1 missed events found so far, 0 delivered, 0 failed, 1 remain.")
	require.NoError(t, pauses.End(t.Context(), history.PauseBot, "bot"))
	require.Equal(t, 1, result[history.RecoveryStep](t, s.client, recovery).Failed)
	require.Contains(t, s.details(t, recovery), "**completed**: of 1 missed events found so far, 0 delivered, 1 failed, 0 remain.\n\nLast error: `HTTP 502`")
	s.keep(t, recovery, "recover_failed")
}

// TestOperatorsCostAHealthyDeliveryNothing: with search attributes, summaries and details its history has the events that
// it had in version 1.0, and Temporal makes as many changes of its state, and so writes to its lists, as without.
func TestOperatorsCostAHealthyDeliveryNothing(t *testing.T) {
	t.Parallel()
	without := start(t, &stack{client: temporaltest.New(t)}, webhook.DefaultSchedule)
	with := newSearchableStack(t, webhook.DefaultSchedule)
	transitions := map[*stack]int64{}
	for _, s := range []*stack{without, with} {
		for i := range 3 {
			s.subscribe(t, fmt.Sprintf("/%d", i))
		}
		s.emit(t, "e1")
		require.Equal(t, 3, result[workflows.Summary](t, s.client, "event-e1").Delivered)
		require.Equal(t, released(t, "1.0/deliver_event.json"), s.history(t, "event-e1"))
		described, err := s.client.DescribeWorkflowExecution(t.Context(), "event-e1", "")
		require.NoError(t, err)
		transitions[s] = described.GetWorkflowExecutionInfo().GetStateTransitionCount()
	}
	require.Equal(t, transitions[without], transitions[with])
	with.finds(t, `MathubEventType = "post.created"`, "event-e1")
}

// released are the types of the events of a history of a released version.
func released(t *testing.T, name string) (types []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "workflows", "testdata", name))
	require.NoError(t, err)
	var recorded struct {
		Events []struct{ EventType string }
	}
	require.NoError(t, json.Unmarshal(raw, &recorded))
	for _, e := range recorded.Events {
		types = append(types, enumName(e.EventType))
	}
	require.NotEmpty(t, types)
	return types
}

// enumName turns EVENT_TYPE_TIMER_STARTED into TimerStarted, as the API's String does.
func enumName(name string) string {
	var b strings.Builder
	for _, word := range strings.Split(strings.TrimPrefix(name, "EVENT_TYPE_"), "_") {
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

// TestAttributesThatAreGoneStopNothing: an operator removes them while a process believes in them.
func TestAttributesThatAreGoneStopNothing(t *testing.T) {
	t.Parallel()
	s := start(t, &stack{client: temporaltest.New(t), attributes: searchattr.Assume()}, webhook.DefaultSchedule)
	s.subscribe(t, "/")
	require.False(t, s.emit(t, "e1").Duplicate)
	require.Equal(t, 1, result[workflows.Summary](t, s.client, "event-e1").Delivered)
	require.False(t, s.attributes.Known(), "they are not tried again")
	require.True(t, s.emit(t, "e1").Duplicate)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := s.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: `MathubFailed = true`})
	require.Error(t, err, "the namespace has them after all")
}
