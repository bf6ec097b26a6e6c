package worker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

func posts(ids ...string) (events []webhook.Event) {
	for _, id := range ids {
		events = append(events, webhook.Event{ID: id, Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"p1"}`)})
	}
	return events
}

// TestEventsShareAWorkflow: each is delivered, recorded and known by itself; what fails of one is attempted again as ever.
func TestEventsShareAWorkflow(t *testing.T) {
	t.Parallel()
	s := newStack(t, webhook.DefaultSchedule)
	for i := range 4 {
		s.subscribe(t, fmt.Sprintf("/%d", i))
	}
	queued := s.subscribe(t, "/queued")
	_, err := s.pool.Exec(t.Context(), "UPDATE webhooks SET queued = true WHERE id = $1", queued)
	require.NoError(t, err)
	// It stays queued until the group is delivered, as its first delivery is not answered before.
	grouped := make(chan struct{})
	s.answer(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/queued" {
			<-grouped
		}
	})
	release := sync.OnceFunc(func() { close(grouped) })
	defer release()
	s.emit(t, "e1")
	require.Equal(t, 4, s.counted(t, "event-e1").Delivered)

	receipts, err := emit.Events(t.Context(), s.client, append(posts("e1", "e2", "e3"), webhook.Event{ID: "w1", Type: webhook.WikiEdited, Data: json.RawMessage(`{}`)}), emit.SearchableBy(s.attributes))
	require.NoError(t, err)
	workflowID := receipts[0].WorkflowID
	require.True(t, strings.HasPrefix(workflowID, "events-"))
	for i, id := range []string{"e1", "e2", "e3", "w1"} {
		require.Equal(t, emit.Receipt{ID: id, WorkflowID: workflowID}, receipts[i])
	}
	require.Equal(t, workflows.Summary{Events: 4, Duplicates: []string{"e1"}, Webhooks: 10, Counts: delivery.Counts{Delivered: 8, Queued: 2}}, s.counted(t, workflowID))
	release()
	for i := range 4 {
		for _, id := range []string{"e1", "e2", "e3"} {
			require.Equal(t, 1, s.count(fmt.Sprintf("/%d", i), id))
		}
	}
	require.Eventually(t, func() bool { return s.count("/queued", "e2") == 1 && s.count("/queued", "e3") == 1 }, 3*time.Minute, 20*time.Millisecond)
	var owner string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT workflow_id FROM events WHERE id = 'e3'").Scan(&owner))
	require.Equal(t, workflowID, owner)
	s.keep(t, workflowID, "deliver_events")
}

// TestOperatorsFindAGroupByItsEvents: it is found by the type of each, and names them.
func TestOperatorsFindAGroupByItsEvents(t *testing.T) {
	t.Parallel()
	s := newSearchableStack(t, nil)
	failing := s.subscribe(t, "/failing")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	receipts, err := emit.Events(t.Context(), s.client, append(posts("e1", "e2"), webhook.Event{ID: "w1", Type: webhook.WikiEdited, Data: json.RawMessage(`{"pageSlug":"sieve"}`)}), emit.SearchableBy(s.attributes))
	require.NoError(t, err)
	id := receipts[0].WorkflowID
	sum := result[workflows.Summary](t, s.client, id)
	require.Equal(t, map[string]string{
		"e1 " + failing.String(): "failed: HTTP 500; no attempt is left", "e2 " + failing.String(): "failed: HTTP 500; no attempt is left",
	}, sum.NotDelivered)
	require.Equal(t, "3 events · 2 post.created, 1 wiki.edited", s.summary(t, id))
	details := s.details(t, id)
	require.Contains(t, details, "3 events · 2 post.created, 1 wiki.edited\n\n2 deliveries: 2 failed\n")
	require.Contains(t, details, "| `w1` | wiki.edited · page sieve |\n")
	require.Contains(t, details, "| `e1` to `"+failing.String()+"` |")
	s.finds(t, `MathubEventType = "post.created"`, id)
	s.finds(t, `MathubEventType = "wiki.edited"`, id)
	s.finds(t, failedToday(failing), id)
	s.keep(t, id, "deliver_events_failed")
}

// TestAnyClientStartsAGroup: with an array, of which what is invalid harms no other.
func TestAnyClientStartsAGroup(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	start := func(id string, events any) error {
		run, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue}, "DeliverEvents", events)
		require.NoError(t, err)
		return run.Get(t.Context(), nil)
	}
	post := map[string]any{"event": "post.created", "data": map[string]any{}}
	require.NoError(t, start("g1", []any{post, post, map[string]any{"id": "e1", "event": "post.created", "data": map[string]any{}}}))
	require.Equal(t, 1, s.count("/", "e1"))
	var events int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE workflow_id = 'g1'").Scan(&events))
	require.Equal(t, 3, events, "those without an id get one each")

	var fault *temporal.ApplicationError
	err := start("g2", []any{map[string]any{"id": "e2", "event": "post.created", "data": map[string]any{}}, map[string]any{"id": "e3", "event": "post.deleted", "data": 1}})
	require.ErrorAs(t, err, &fault)
	require.Equal(t, workflows.InvalidEventError, fault.Type())
	require.Contains(t, fault.Message(), "events[1]: invalid event: is not an event type")
	require.Contains(t, fault.Message(), "the other 1 events were delivered")
	require.Equal(t, 1, s.count("/", "e2"))
	s.keep(t, "g2", "deliver_events_invalid")

	for _, c := range []struct {
		id    string
		input any
		want  string
	}{
		{"g3", post, "must be an array"},
		{"g4", []any{}, "at least one"},
		{"g5", make([]int, 101), "at most 100"},
		{"event-e9", []any{post}, `must not begin with "event-"`},
	} {
		require.ErrorAs(t, start(c.id, c.input), &fault)
		require.Equal(t, workflows.InvalidEventError, fault.Type())
		require.Contains(t, fault.Message(), c.want)
	}
}

// TestAnEventThatWaitsForANewerWorkerHoldsUpNoOther: those of its group that this worker knows are delivered meanwhile, once.
func TestAnEventThatWaitsForANewerWorkerHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	input := converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON), emit.MetadataChecked: nil},
		Data:     []byte(`[{"id":"e1","event":"post.created","data":{}},{"id":"new","event":"post.deleted","data":{}},{"id":"e2","event":"post.created","data":{"n":1.10}}]`),
	})
	_, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "events-1", TaskQueue: workflows.TaskQueue}, emit.GroupWorkflowType, input)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.count("/", "e1") == 1 && s.count("/", "e2") == 1 }, time.Minute, 20*time.Millisecond)
	attempt := func() (n int32) {
		run, err := s.client.DescribeWorkflowExecution(t.Context(), "events-1", "")
		require.NoError(t, err)
		require.Equal(t, enums.WORKFLOW_EXECUTION_STATUS_RUNNING, run.GetWorkflowExecutionInfo().GetStatus())
		return run.GetPendingWorkflowTask().GetAttempt()
	}
	require.Eventually(t, func() bool { return attempt() > 2 }, time.Minute, 50*time.Millisecond)
	require.Equal(t, workflows.Summary{Events: 2, Webhooks: 2, Counts: delivery.Counts{Delivered: 2}}, s.counted(t, "events-1-known"))
	require.Equal(t, 1, s.count("/", "e1"))
}

// TestAPoisonousEventHarmsNoOther: Postgres refuses it, for as long as it does; the others are delivered at once.
func TestAPoisonousEventHarmsNoOther(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	_, err := s.pool.Exec(t.Context(), "ALTER TABLE events ADD CONSTRAINT poison CHECK (id <> 'poison')")
	require.NoError(t, err)
	receipts, err := emit.Events(t.Context(), s.client, posts("e1", "poison", "e2"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.count("/", "e1") == 1 && s.count("/", "e2") == 1 }, 3*time.Minute, 20*time.Millisecond)
	_, err = s.pool.Exec(t.Context(), "ALTER TABLE events DROP CONSTRAINT poison")
	require.NoError(t, err)
	require.Equal(t, workflows.Summary{Events: 3, Webhooks: 3, Counts: delivery.Counts{Delivered: 3}}, s.counted(t, receipts[0].WorkflowID))
	for _, id := range []string{"e1", "poison", "e2"} {
		require.Equal(t, 1, s.count("/", id))
	}
	s.keep(t, receipts[0].WorkflowID, "deliver_events_poison")
}

// patiently emits, and again while the ingest is busy, as its callers do.
func patiently(t *testing.T, emitted func() error) {
	err := emitted()
	for deadline := time.Now().Add(time.Minute); errors.Is(err, emit.ErrBusy) && time.Now().Before(deadline); err = emitted() {
		time.Sleep(100 * time.Millisecond) // as a 503 asks for, and shorter
	}
	if err != nil {
		t.Error(err)
	}
}

// TestManyGroupsWithOneIDDeliverItOnce: as of several processes, by batchers that know nothing of each other.
func TestManyGroupsWithOneIDDeliverItOnce(t *testing.T) {
	t.Parallel()
	s := newStack(t, nil)
	s.subscribe(t, "/")
	var all sync.WaitGroup
	for p := range 4 {
		batcher := emit.NewBatcher(s.client, emit.BatcherOptions{})
		for i := range 25 {
			all.Go(func() {
				patiently(t, func() error {
					_, err := batcher.Event(t.Context(), posts("same")[0])
					return err
				})
			})
			all.Go(func() {
				patiently(t, func() error {
					_, err := batcher.Events(t.Context(), posts(fmt.Sprintf("e%d-%d", p, i), "same"))
					return err
				})
			})
		}
	}
	all.Wait()
	require.Eventually(t, func() bool {
		var n int
		err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&n)
		return err == nil && n == 101
	}, 3*time.Minute, 20*time.Millisecond)
	require.Equal(t, 1, s.count("/", "same"))
	for p := range 4 {
		for i := range 25 {
			require.Equal(t, 1, s.count("/", fmt.Sprintf("e%d-%d", p, i)))
		}
	}
}
