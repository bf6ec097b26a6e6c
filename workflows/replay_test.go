package workflows

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
)

// TestRecordedHistoriesReplay: workflows that a released version began go on under this one. The histories were
// recorded on a real server: go test ./worker -record NAME.
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			replayer := worker.NewWorkflowReplayer()
			replayer.RegisterWorkflow(DeliverEvent)
			replayer.RegisterWorkflow(DeliverBatch)
			replayer.RegisterWorkflow(RetryDelivery)
			replayer.RegisterWorkflow(SendTest)
			replayer.RegisterWorkflow(Redeliver)
			replayer.RegisterWorkflow(Recover)
			replayer.RegisterWorkflow(RemoveExpired)
			replayer.RegisterWorkflow(NotifyDisabled)
			require.NoError(t, replayer.ReplayWorkflowHistoryFromJSONFile(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), file))
		})
	}
}
