package e2e_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mathub/webhooks/standalone/testkit"
)

// collector takes spans by OTLP over HTTP, and keeps the requests as they came as well.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	got   bytes.Buffer
	spans map[string]*tracepb.Span // by id, in hex
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string]*tracepb.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got.Write(body)
		var export collectorpb.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &export); err != nil {
			t.Errorf("spans that cannot be read: %v", err)
		}
		for _, resource := range export.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					c.spans[hex.EncodeToString(span.GetSpanId())] = span
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) received() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.got.Bytes())
}

// lineage is the names of a span of a trace and of those that it is part of, innermost first, as far as they have come, and
// the id of the parent of the last.
func (c *collector) lineage(trace, id string) (names []string, root string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for span := c.spans[id]; span != nil && hex.EncodeToString(span.GetTraceId()) == trace; span = c.spans[root] {
		names, root = append(names, span.GetName()), hex.EncodeToString(span.GetParentSpanId())
	}
	return names, root
}

// TestATraceLeadsFromTheBackendToTheReceiver, and without a collector no history has a header.
func TestATraceLeadsFromTheBackendToTheReceiver(t *testing.T) {
	t.Parallel()
	const id, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	c := newCollector(t)
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_SCHEDULE_DELAY": "100", "MATHUB_TRACE_RECEIVERS": "true",
	}})
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "traced")
	bot.CreateWebhook(t, receiver.URL("/"), "", post)
	event, err := json.Marshal(map[string]any{"event": post, "data": map[string]any{}})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, stack.API().URL+"/api/internal/v1/events", bytes.NewReader(event))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+stack.API().ServiceToken)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+id+"-"+caller+"-01")
	request.Header.Set("Tracestate", "backend=private")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	got := receiver.Await(t, "/", 1)[0]
	require.Regexp(t, "^00-"+id+"-[0-9a-f]{16}-01$", got.Header.Get("Traceparent"))
	require.Empty(t, got.Header.Get("Tracestate"))
	sent := got.Header.Get("Traceparent")[36:52]
	var names []string
	require.Eventually(t, func() bool {
		var root string
		names, root = c.lineage(id, sent)
		return root == caller
	}, 3*time.Minute, 100*time.Millisecond, "%v", &names)
	require.Equal(t, []string{
		"POST", "RunActivity:Deliver", "StartActivity:Deliver", "RunWorkflow:DeliverEvent", "StartWorkflow:DeliverEvent", "POST /api/internal/v1/events",
	}, names)

	c.mu.Lock()
	for _, span := range c.spans {
		require.NotContains(t, span.GetName(), "readyz")
	}
	c.mu.Unlock()

	stack.SetEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	stack.Apps[0].Stop(t)
	stack.Apps[0].Start(t)
	receipt := bot.Emit(t, testkit.Event{Type: post})
	require.Empty(t, receiver.Await(t, "/", 2)[1].Header.Get("Traceparent"))
	history := stack.Temporal(t).GetWorkflowHistory(t.Context(), receipt.WorkflowID, "", false, 1)
	started, err := history.Next()
	require.NoError(t, err)
	require.Empty(t, started.GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields())
}
