package api_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// TestTwoProcessesSayWhatConflicts, before any worker has stored the event. Once its workflow is deleted, it is accepted again.
func TestTwoProcessesSayWhatConflicts(t *testing.T) {
	t.Parallel()
	temporal, namespace := temporaltest.NewNamespace(t)
	one := newAPI(t, temporal, nil)
	two := newAPI(t, temporal, func(c *api.Config) { c.Pool = one.pool })
	emit := func(a *testAPI, n int) (r struct{ Duplicate, Conflict bool }) {
		got := a.do(http.MethodPost, eventsPath, serviceToken, fmt.Sprintf(`{"id":"e1","event":"post.created","data":{"n":%d}}`, n))
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
		got.into(t, &r)
		return r
	}
	type receipt = struct{ Duplicate, Conflict bool }
	require.Equal(t, receipt{false, false}, emit(one, 1))
	for range 2 {
		require.Equal(t, receipt{true, true}, emit(two, 2))
		require.Equal(t, receipt{true, false}, emit(two, 1))
		require.Equal(t, receipt{true, true}, emit(one, 2))
		require.Equal(t, receipt{true, false}, emit(one, 1))
	}
	_, err := temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace: namespace, WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "event-e1"},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return !emit(one, 1).Duplicate }, 3*time.Minute, 50*time.Millisecond)
}

// TestWhatPostgresHasLostIsAcceptedAgain, though Temporal knows a workflow of it that is completed: the database was restored to a
// moment before. Emitted by the process that accepted it, by another, or over Temporal.
func TestWhatPostgresHasLostIsAcceptedAgain(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	s.subscribe(key, "")
	other := newAPI(t, s.temporal, func(c *api.Config) { c.Pool = s.pool })
	const single, several = `{"id":"e1","event":"post.created","data":{}}`, `{"id":"e2","event":"post.created","data":{}}`
	sent := 0
	arrived := func(n int, workflowIDs ...string) {
		t.Helper()
		sent += n
		for _, id := range workflowIDs {
			require.NoError(t, s.temporal.GetWorkflow(t.Context(), id, "").Get(t.Context(), nil))
		}
		require.Len(t, s.requests(), sent)
	}
	lose := func() { s.execute("DELETE FROM queue; DELETE FROM deliveries; DELETE FROM events") }
	emitBatch := func(a *testAPI) (receipts []mathub.Receipt) {
		got := a.do(http.MethodPost, eventsPath+"/batch", serviceToken, `{"events":[`+several+`,{"event":"post.created","data":{}}]}`)
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
		got.into(t, &receipts)
		return receipts
	}
	emitOne := func(a *testAPI, event string) (r mathub.Receipt) {
		got := a.do(http.MethodPost, eventsPath, serviceToken, event)
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
		got.into(t, &r)
		return r
	}
	group := emitBatch(s.testAPI)[0].WorkflowID
	emitOne(s.testAPI, single)
	arrived(3, group, "event-e1")
	for _, a := range []*testAPI{s.testAPI, other} {
		lose()
		require.False(t, emitOne(a, single).Duplicate)
		require.False(t, emitOne(a, several).Duplicate)
		arrived(2, "event-e1", "event-e2")
		require.True(t, emitOne(a, single).Duplicate)
		require.True(t, emitOne(a, several).Duplicate)
	}
	lose()
	for range 2 { // the second time, Postgres knows it
		receipt, err := emit.Event(t.Context(), s.temporal, webhook.Event{ID: "e1", Type: webhook.PostCreated, Data: []byte(`{}`)})
		require.NoError(t, err)
		require.True(t, receipt.Duplicate, "Temporal knows it")
		require.NoError(t, s.temporal.GetWorkflow(t.Context(), "event-e1", "").Get(t.Context(), nil))
	}
	arrived(1)
}

// TestEmittedEventsAreCounted, alone in a workflow or not; a duplicate is none.
func TestEmittedEventsAreCounted(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	a := newAPI(t, temporaltest.New(t), func(c *api.Config) { c.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test") })
	for _, body := range []string{`{"events":[{"id":"a","event":"post.created","data":{}}]}`, `{"events":[{"id":"b","event":"post.created","data":{}},{"id":"c","event":"post.created","data":{}},{"id":"a","event":"post.created","data":{}}]}`} {
		got := a.do(http.MethodPost, eventsPath+"/batch", serviceToken, body)
		require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
	}
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(context.Background(), &all))
	events, sizes := map[string]int64{}, map[string]uint64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				if how, ok := p.Attributes.Value("workflow"); ok && m.Name == "mathub_emit_events" {
					events[how.AsString()] = p.Value
				}
			}
		case metricdata.Histogram[int64]:
			if m.Name == "mathub_emit_group_size" {
				sizes["workflows"], sizes["events"] = data.DataPoints[0].Count, uint64(data.DataPoints[0].Sum)
			}
		}
	}
	require.Equal(t, map[string]int64{"alone": 1, "shared": 2}, events)
	require.Equal(t, map[string]uint64{"workflows": 2, "events": 3}, sizes)
}
