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

	"github.com/mathub/webhooks/standalone/e2e"
)

// collector takes spans by OTLP over HTTP, and keeps the requests as they came.
type collector struct {
	*httptest.Server
	mu  sync.Mutex
	got bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got.Write(body)
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

// TestATraceLeadsFromTheBackendToTheReceiver, and without a collector no history has a header.
func TestATraceLeadsFromTheBackendToTheReceiver(t *testing.T) {
	t.Parallel()
	const id = "0af7651916cd43dd8448eb211c80319c"
	c := newCollector(t)
	stack := e2e.Start(t, e2e.Options{Env: map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_BSP_SCHEDULE_DELAY": "100", "MATHUB_TRACE_RECEIVERS": "true",
	}})
	receiver := e2e.NewReceiver(t)
	bot := stack.API().CreateBot(t, "traced")
	hook := bot.CreateWebhook(t, receiver.URL("/"), "", post)
	event, err := json.Marshal(map[string]any{"event": post, "data": map[string]any{}})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, stack.API().URL+"/api/internal/v1/events", bytes.NewReader(event))
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+stack.API().ServiceToken)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Traceparent", "00-"+id+"-b7ad6b7169203331-01")
	request.Header.Set("Tracestate", "backend=private")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	got := receiver.Await(t, "/", 1)[0]
	require.Regexp(t, "^00-"+id+"-[0-9a-f]{16}-01$", got.Header.Get("Traceparent"))
	require.Empty(t, got.Header.Get("Tracestate"))
	span, err := hex.DecodeString(got.Header.Get("Traceparent")[36:52])
	require.NoError(t, err)
	trace, err := hex.DecodeString(id)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		spans := c.received()
		for _, part := range [][]byte{span, []byte("POST /api/internal/v1/events"), []byte("StartWorkflow:DeliverEvent"), []byte("RunWorkflow:DeliverEvent"), []byte("RunActivity:Deliver"), []byte(hook.ID)} {
			if !bytes.Contains(spans, part) {
				return false
			}
		}
		return bytes.Count(spans, trace) >= 6
	}, 20*time.Second, 100*time.Millisecond)

	stack.SetEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	stack.Apps[0].Stop(t)
	stack.Apps[0].Start(t)
	receipt := bot.Emit(t, e2e.Event{Type: post})
	require.Empty(t, receiver.Await(t, "/", 2)[1].Header.Get("Traceparent"))
	history := stack.Temporal(t).GetWorkflowHistory(t.Context(), receipt.WorkflowID, "", false, 1)
	started, err := history.Next()
	require.NoError(t, err)
	require.Empty(t, started.GetWorkflowExecutionStartedEventAttributes().GetHeader().GetFields())
}
