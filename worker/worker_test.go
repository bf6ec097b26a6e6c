package worker_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/worker"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// record writes the histories of this package's workflows to where the replay tests find them; do so on a release
// that changes workflow code, under the release's name.
var record = flag.String("record", "", "write the workflows' histories to ../workflows/testdata/NAME")

// stack is a worker on a real Temporal server and a real Postgres, and a receiver.
type stack struct {
	client     client.Client
	attributes *searchattr.Attributes
	pool       *pgxpool.Pool
	keyset     *db.Keyset
	url        string

	mu       sync.Mutex
	received map[string]int // by path and webhook-id
	respond  func(w http.ResponseWriter, r *http.Request)
}

// newStack is a stack whose namespace has no search attributes, as it takes seconds to make them; but what is recorded
// has them.
func newStack(t *testing.T, schedule webhook.Schedule) *stack {
	if *record != "" {
		return newSearchableStack(t, schedule)
	}
	return start(t, &stack{client: temporaltest.New(t)}, schedule)
}

func newSearchableStack(t *testing.T, schedule webhook.Schedule) *stack {
	c, namespace := temporaltest.NewNamespace(t)
	attributes := new(searchattr.Attributes)
	require.NoError(t, attributes.Register(t.Context(), c, namespace))
	return start(t, &stack{client: c, attributes: attributes}, schedule)
}

func start(t *testing.T, s *stack, schedule webhook.Schedule) *stack {
	s.pool, s.received = dbtest.New(t), map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		s.mu.Lock()
		s.received[r.URL.Path+" "+r.Header.Get("webhook-id")]++
		respond := s.respond
		s.mu.Unlock()
		if respond != nil {
			respond(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	text, err := db.NewKeyset()
	require.NoError(t, err)
	s.keyset, err = db.ParseKeyset(text)
	require.NoError(t, err)
	s.startWorker(t, schedule)
	return s
}

// startWorker starts a worker, beside those that run.
func (s *stack) startWorker(t *testing.T, schedule webhook.Schedule) {
	t.Helper()
	egressClient := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true})
	t.Cleanup(egressClient.Close)
	w, err := worker.New(s.client, delivery.Config{
		Pool: s.pool, Egress: egressClient, Keyset: s.keyset, Schedule: schedule, Retention: webhook.DefaultRetention, Attributes: s.attributes, Version: "test", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(w.Stop)
	require.NoError(t, w.Start())
}

func (s *stack) subscribe(t *testing.T, path string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	require.NoError(t, err)
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, []dbtest.Webhook{{ID: id, BotID: "bot", URL: s.url + path}})
	return id
}

func (s *stack) target(id uuid.UUID) delivery.Target {
	return delivery.Target{WebhookID: id, BotID: "bot", Host: strings.TrimPrefix(s.url, "http://")}
}

func (s *stack) emit(t *testing.T, id string) emit.Receipt {
	t.Helper()
	receipt, err := emit.Event(t.Context(), s.client, webhook.Event{ID: id, Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"p1"}`)}, emit.SearchableBy(s.attributes))
	require.NoError(t, err)
	return receipt
}

func (s *stack) count(path, eventID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received[path+" "+eventID]
}

// state is how a webhook stands, such as "queued, 3 failures, 2 rows".
func (s *stack) state(t *testing.T, id uuid.UUID) string {
	t.Helper()
	var mode string
	var failures, rows int
	require.NoError(t, s.pool.QueryRow(t.Context(), `SELECT CASE WHEN queued THEN 'queued' ELSE 'direct' END, failure_count,
		(SELECT count(*) FROM queue WHERE webhook_id = $1) FROM webhooks WHERE id = $1`, id).Scan(&mode, &failures, &rows))
	return fmt.Sprintf("%s, %d failures, %d rows", mode, failures, rows)
}

// awaitDelivery waits until a delivery that a queue makes is in the history.
func (s *stack) awaitDelivery(t *testing.T, id uuid.UUID) {
	t.Helper()
	require.Eventually(t, func() bool {
		var made bool
		err := s.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM deliveries WHERE id = $1)", id).Scan(&made)
		return err == nil && made
	}, 20*time.Second, 20*time.Millisecond)
}

func (s *stack) answer(f func(w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = f
}

func result[T any](t *testing.T, c client.Client, workflowID string) (v T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, c.GetWorkflow(ctx, workflowID, "").Get(ctx, &v))
	return v
}

// counted is an event's result without the list of those that did not take it.
func (s *stack) counted(t *testing.T, workflowID string) workflows.Summary {
	t.Helper()
	sum := result[workflows.Summary](t, s.client, workflowID)
	sum.NotDelivered = nil
	return sum
}

// keep writes a workflow's history for the replay tests when -record says so.
func (s *stack) keep(t *testing.T, workflowID, name string) {
	t.Helper()
	var events []*historypb.HistoryEvent
	for it := s.client.GetWorkflowHistory(t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		require.NoError(t, err)
		events = append(events, e)
	}
	require.NotEmpty(t, events)
	if *record == "" {
		return
	}
	text, err := protojson.MarshalOptions{Indent: " "}.Marshal(&historypb.History{Events: events})
	require.NoError(t, err)
	folder := filepath.Join("..", "workflows", "testdata", *record)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+".json"), append(text, '\n'), 0o600))
}

func TestAnEventReachesEveryWebhookOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	for i := range 3 {
		s.subscribe(t, fmt.Sprintf("/%d", i))
	}
	receipt := s.emit(t, "e1")
	require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1"}, receipt)
	require.Equal(t, workflows.Summary{EventID: "e1", Webhooks: 3, Counts: delivery.Counts{Delivered: 3}}, s.counted(t, "event-e1"))
	for range 3 {
		require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true}, s.emit(t, "e1"))
	}
	for i := range 3 {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
	s.keep(t, "event-e1", "deliver_event")
}

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
			time.Sleep(2500 * time.Millisecond)
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
	require.Eventually(t, func() bool { return s.count("/", "e1") == 2 }, 10*time.Second, 20*time.Millisecond)

	var status workflows.QueueStatus
	require.Eventually(t, func() bool {
		answer, err := s.client.QueryWorkflow(t.Context(), queue, "", workflows.StatusQuery)
		return err == nil && answer.Get(&status) == nil && status.NextAttemptAt != nil && status.FailureCount == 2
	}, 10*time.Second, 50*time.Millisecond)
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
	require.Eventually(t, func() bool { return s.state(t, id) == "direct, 0 failures, 0 rows" }, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, 1, s.count("/", "e2"))
	s.emit(t, "e3")
	require.Equal(t, workflows.Summary{EventID: "e3", Webhooks: 1, Counts: delivery.Counts{Delivered: 1}}, s.counted(t, "event-e3"), "it is direct again")
}

func TestALargeAudienceIsDeliveredInBatches(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	const audience = 2*delivery.PageSize + 10
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 9) n")
	require.NoError(t, err)
	hooks := make([]dbtest.Webhook, audience)
	for i := range hooks {
		hooks[i] = dbtest.Webhook{BotID: fmt.Sprintf("bot-%d", i%10), URL: fmt.Sprintf("%s/%d", s.url, i)}
	}
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, hooks)
	s.emit(t, "e1")
	require.Equal(t, workflows.Summary{EventID: "e1", Batches: 3}, s.counted(t, "event-e1"))
	batches := s.children(t, "event-e1")
	require.Len(t, batches, 3)
	delivered := 0
	for _, id := range batches {
		delivered += result[workflows.Summary](t, s.client, id).Delivered
	}
	require.Equal(t, audience, delivered)
	for i := range audience {
		require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
	s.keep(t, "event-e1", "deliver_event_batches")
	s.keep(t, batches[2], "deliver_batch")

	// Postgres has lost it all, as one that was restored to a moment before: completed batches are in nobody's way.
	_, err = s.pool.Exec(t.Context(), "DELETE FROM deliveries; DELETE FROM events")
	require.NoError(t, err)
	s.emit(t, "e1")
	result[workflows.Summary](t, s.client, "event-e1")
	for _, id := range s.children(t, "event-e1") {
		result[workflows.Summary](t, s.client, id)
	}
	for i := range audience {
		require.Equal(t, 2, s.count(fmt.Sprintf("/%d", i), "e1"))
	}

	// Another run that takes the event over finds other pages, as webhooks were added since: all of them are served.
	more := make([]dbtest.Webhook, delivery.PageSize)
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
	for _, id := range s.children(t, "events-again") {
		result[workflows.Summary](t, s.client, id)
	}
	for i := range more {
		require.Equal(t, 1, s.count(fmt.Sprintf("/more-%d", i), "e1"))
	}
	for i := range audience {
		require.Equal(t, 2, s.count(fmt.Sprintf("/%d", i), "e1"))
	}
}

// children are the ids of the workflows that a workflow has begun, in their order.
func (s *stack) children(t *testing.T, workflowID string) (ids []string) {
	t.Helper()
	for it := s.client.GetWorkflowHistory(t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		require.NoError(t, err)
		if begun := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); begun != nil {
			ids = append(ids, begun.GetWorkflowId())
		}
	}
	return ids
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

func TestAVerificationAnswersWithItsDelivery(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	deliveryID, queued, err := workflows.StartVerification(t.Context(), s.client, s.attributes, s.target(id))
	require.NoError(t, err)
	require.False(t, queued)
	var eventID, eventType string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT event_id, e.type FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.id = $1", deliveryID).Scan(&eventID, &eventType))
	require.Equal(t, string(webhook.Verify), eventType)
	require.Equal(t, 1, s.count("/", eventID))
	s.keep(t, "verify-"+eventID, "verify_endpoint")
}

func TestATestEventAnswersWithItsDelivery(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	id := s.subscribe(t, "/")
	deliveryID, queued, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id))
	require.NoError(t, err)
	require.False(t, queued)
	var eventID string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT event_id FROM deliveries WHERE id = $1", deliveryID).Scan(&eventID))
	require.Equal(t, 1, s.count("/", eventID))
	s.keep(t, "test-"+eventID, "send_test")

	_, _, err = workflows.StartTest(t.Context(), s.client, s.attributes, s.target(uuid.New()))
	require.ErrorIs(t, err, workflows.ErrWebhookGone)
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
			deliveryID, queued, err := workflows.StartRedelivery(context.Background(), s.client, s.attributes, s.target(id), "e1", 2)
			if err != nil || queued || deliveryID != webhook.DeliveryID("e1", id, 2) {
				t.Errorf("%v, %v", deliveryID, err)
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
	deliveryID, queued, err := workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.target(id), "e1", 2)
	require.NoError(t, err)
	require.True(t, queued, "the webhook fails")
	s.awaitDelivery(t, deliveryID)
	require.Equal(t, "queued, 2 failures, 1 rows", s.state(t, id))
	s.answer(nil)
	require.NoError(t, workflows.RetryNow(t.Context(), s.client, s.attributes, s.target(id), "e1"))
	s.awaitDelivery(t, webhook.DeliveryID("e1", id, 3))
	require.Equal(t, 3, s.count("/", "e1"))
	require.Eventually(t, func() bool { return s.state(t, id) == "direct, 0 failures, 0 rows" }, 10*time.Second, 20*time.Millisecond)
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
	deliveryID, queued, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id))
	require.NoError(t, err)
	require.True(t, queued)
	s.awaitDelivery(t, deliveryID)
	deliveryID, _, err = workflows.StartRedelivery(t.Context(), s.client, s.attributes, s.target(id), "e1", 2)
	require.NoError(t, err)
	s.awaitDelivery(t, deliveryID)
	var active bool
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT is_active FROM webhooks").Scan(&active))
	require.False(t, active)
}

func TestARecoveryDeliversWhatWasMissed(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	set := func(active bool) {
		_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = $2 WHERE id = $1", id, active)
		require.NoError(t, err)
	}
	set(false)
	span := history.Span{WebhookID: id, Since: time.Now().Add(-time.Minute)}
	for i := range 12 {
		s.emit(t, fmt.Sprintf("e%d", i))
		result[workflows.Summary](t, s.client, fmt.Sprintf("event-e%d", i))
	}
	set(true)
	span.Until = time.Now()
	queue := history.Queue{Pool: s.pool}
	_, err := queue.StartRecovery(t.Context(), span)
	require.NoError(t, err)
	_, err = queue.StartRecovery(t.Context(), span)
	require.ErrorAs(t, err, new(history.RecoveryRunningError))
	require.NoError(t, workflows.StartRecover(t.Context(), s.client, s.attributes, s.target(id)))
	done := result[history.RecoveryStep](t, s.client, "recover-"+id.String())
	require.Equal(t, history.RecoveryStep{Ended: true, State: history.RecoveryCompleted, Found: 12, Delivered: 12}, done)
	for i := range 12 {
		require.Equal(t, 1, s.count("/", fmt.Sprintf("e%d", i)))
	}
	s.keep(t, "recover-"+id.String(), "recover")
}

// TestARecoveryIsEndedByAnOperator who cancels its workflow in the Web UI, or goes on after one terminated it.
func TestARecoveryIsEndedByAnOperator(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	id := s.subscribe(t, "/")
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = false WHERE id = $1", id)
	require.NoError(t, err)
	for i := range 12 {
		s.emit(t, fmt.Sprintf("e%d", i))
		result[workflows.Summary](t, s.client, fmt.Sprintf("event-e%d", i))
	}
	_, err = s.pool.Exec(t.Context(), "UPDATE webhooks SET is_active = true WHERE id = $1", id)
	require.NoError(t, err)
	release := make(chan struct{})
	var once sync.Once
	s.answer(func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	queue := history.Queue{Pool: s.pool}
	_, err = queue.StartRecovery(t.Context(), history.Span{WebhookID: id, Since: time.Now().Add(-time.Minute), Until: time.Now()})
	require.NoError(t, err)
	require.NoError(t, workflows.StartRecover(t.Context(), s.client, s.attributes, s.target(id)))
	require.Eventually(t, func() bool { return s.count("/", "e0") == 1 }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, s.client.CancelWorkflow(t.Context(), "recover-"+id.String(), ""))
	state := func() (state string) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT state FROM recoveries").Scan(&state))
		return state
	}
	require.Eventually(t, func() bool { return state() == history.RecoveryCancelled }, 10*time.Second, 20*time.Millisecond)
	once.Do(func() { close(release) })
	require.Eventually(t, func() bool { return s.state(t, id) == "direct, 0 failures, 0 rows" }, 10*time.Second, 20*time.Millisecond)
	require.Zero(t, s.count("/", "e11"), "what was not in flight is not sent")
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
		deliveryID, _, err := workflows.StartTest(t.Context(), s.client, s.attributes, s.target(id))
		require.NoError(t, err, i)
		s.awaitDelivery(t, deliveryID)
	}
	notice := webhook.Disabling{WebhookID: id}.NoticeID()
	require.Eventually(t, func() bool { return s.count("/owner", notice) == 2 }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, delivery.Result{Status: delivery.Delivered, StatusCode: 200}, result[delivery.Result](t, s.client, notice))
	s.keep(t, notice, "notify_disabled")
	left := func() (n int) {
		require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM disabled_notices WHERE started_at IS NULL").Scan(&n))
		return n
	}
	require.Eventually(t, func() bool { return left() == 0 }, 10*time.Second, 10*time.Millisecond)

	// One whose workflow was started, by a process that died before it could say so.
	_, err = s.pool.Exec(t.Context(), "INSERT INTO disabled_notices VALUES ($1, 0, 'localhost', 10, now(), 'e', 'HTTP 503'), ($1, 7, 'localhost', 10, now(), 'e', 'HTTP 503')", id)
	require.NoError(t, err)
	s.startWorker(t, webhook.Schedule{200 * time.Millisecond})
	require.Eventually(t, func() bool { return left() == 0 }, 10*time.Second, 10*time.Millisecond)
	other := webhook.Disabling{WebhookID: id, Generation: 7}.NoticeID()
	result[delivery.Result](t, s.client, other)
	require.Equal(t, 2, s.count("/owner", notice), "notified already")
	require.Equal(t, 2, s.count("/owner", other))

	// One whose workflow an operator terminated before the owner took it.
	s.answer(func(w http.ResponseWriter, r *http.Request) {
		if s.count("/owner", r.Header.Get("webhook-id")) == 1 {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	_, err = s.pool.Exec(t.Context(), "INSERT INTO disabled_notices VALUES ($1, 8, 'localhost', 10, now(), 'e', 'HTTP 503')", id)
	require.NoError(t, err)
	terminated := webhook.Disabling{WebhookID: id, Generation: 8}
	start := func() { require.NoError(t, workflows.StartNotice(t.Context(), s.client, terminated)) }
	start()
	require.Eventually(t, func() bool { return s.count("/owner", terminated.NoticeID()) == 1 }, 10*time.Second, 10*time.Millisecond)
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
		"UPDATE deliveries SET attempted_at = now() - interval '31 days' WHERE event_id = 'old'",
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
	}, 10*time.Second, 50*time.Millisecond)
	removed := result[workflows.Removed](t, s.client, id)
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
