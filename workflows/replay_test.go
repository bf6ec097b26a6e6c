package workflows

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
)

// TestRecordedHistoriesReplay: workflows that a released version began go on under this one. The histories were
// recorded on a real server: go test ./worker -record NAME. They replay with tracing, too, which was off when they were.
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{Tracer: sdktrace.NewTracerProvider().Tracer("test")})
	require.NoError(t, err)
	for _, file := range files {
		for _, interceptors := range [][]interceptor.WorkerInterceptor{nil, {tracing}} {
			replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: interceptors})
			require.NoError(t, err)
			replayer.RegisterWorkflow(DeliverEvent)
			replayer.RegisterWorkflow(DeliverBatch)
			replayer.RegisterWorkflow(RetryDelivery)
			replayer.RegisterWorkflow(SendTest)
			replayer.RegisterWorkflow(Redeliver)
			replayer.RegisterWorkflow(Recover)
			require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), file), file)
		}
	}
}
