package workflows

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/searchattr"
)

// released are the workflows by the names that histories know them by.
var released = Registered()

// firstIn are the folders in testdata of the releases before which there were no such workflows.
var firstIn = map[string]string{}

// TestRecordedHistoriesReplay: workflows that a released version began go on under this one. The histories were
// recorded on a real server: go test ./worker -record NAME. They replay with tracing, too, which was off when they were.
func TestRecordedHistoriesReplay(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{Tracer: sdktrace.NewTracerProvider().Tracer("test")})
	require.NoError(t, err)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			require.NoError(t, replay(file, released))
			require.NoError(t, replay(file, released, tracing))
		})
	}
}

// TestHistoriesReplayWhateverTheSearchAttributesAreCalled: Temporal shows those of a history by the names that it knows when
// it hands the history out, and leaves out what it knows no name of.
func TestHistoriesReplayWhateverTheSearchAttributesAreCalled(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			recorded, err := readHistory(file)
			require.NoError(t, err)
			began := recorded.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
			for name, shown := range map[string]*commonpb.SearchAttributes{
				"without": nil, "typed": everyAttribute(t),
			} {
				began.SearchAttributes = shown
				require.NoError(t, replayHistory(recorded, released), name)
			}
		})
	}
}

// everyAttribute has a value of each search attribute.
func everyAttribute(t *testing.T) *commonpb.SearchAttributes {
	t.Helper()
	fields := map[string]*commonpb.Payload{}
	for name, kind := range searchattr.Wanted() {
		value, err := converter.GetDefaultDataConverter().ToPayload(map[enums.IndexedValueType]any{
			enums.INDEXED_VALUE_TYPE_KEYWORD_LIST: []string{"a"}, enums.INDEXED_VALUE_TYPE_KEYWORD: "a", enums.INDEXED_VALUE_TYPE_BOOL: true,
		}[kind])
		require.NoError(t, err)
		value.Metadata["type"] = []byte(kind.String())
		fields[name] = value
	}
	return &commonpb.SearchAttributes{IndexedFields: fields}
}

func replay(file string, registered map[string]any, interceptors ...interceptor.WorkerInterceptor) error {
	recorded, err := readHistory(file)
	if err != nil {
		return err
	}
	return replayHistory(recorded, registered, interceptors...)
}

func replayHistory(recorded *historypb.History, registered map[string]any, interceptors ...interceptor.WorkerInterceptor) error {
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: interceptors})
	if err != nil {
		return err
	}
	for name, run := range registered {
		replayer.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: name})
	}
	began := recorded.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	return replayer.ReplayWorkflowHistoryWithOptions(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), recorded, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: began.GetWorkflowId(), RunID: began.GetOriginalExecutionRunId()},
	})
}

func readHistory(file string) (*historypb.History, error) {
	raw, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer raw.Close() //nolint:errcheck // only read
	return client.HistoryFromJSON(raw, client.HistoryJSONOptions{})
}

// TestEveryReleaseHasHistoriesOfEveryWorkflow, so that none is left out of the replays.
func TestEveryReleaseHasHistoriesOfEveryWorkflow(t *testing.T) {
	folders, err := filepath.Glob("testdata/*")
	require.NoError(t, err)
	for _, folder := range folders {
		names := map[string]bool{}
		files, err := filepath.Glob(filepath.Join(folder, "*.json"))
		require.NoError(t, err)
		for _, file := range files {
			names[typeOf(t, file)] = true
		}
		for name := range released {
			require.True(t, names[name] || filepath.Base(folder) < firstIn[name], "%s has no history of %s", folder, name)
		}
	}
}

func typeOf(t *testing.T, file string) string {
	recorded, err := readHistory(file)
	require.NoError(t, err)
	return recorded.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetWorkflowType().GetName()
}

// TestAChangeThatDoesNotReplayIsCaught: each workflow is replayed with one step more at its beginning, as a change without
// GetVersion would have it, and with the step behind GetVersion.
func TestAChangeThatDoesNotReplayIsCaught(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.json")
	require.NoError(t, err)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			step := func(ctx workflow.Context) { _ = workflow.Sleep(ctx, time.Second) }
			err := replay(file, changed(step))
			require.ErrorContains(t, err, "TMPRL1100", "Temporal's mark of a history that does not fit the code")

			guarded := func(ctx workflow.Context) {
				if workflow.GetVersion(ctx, "step", workflow.DefaultVersion, 1) == 1 {
					step(ctx)
				}
			}
			require.NoError(t, replay(file, changed(guarded)))
		})
	}
}

// changed are the workflows with a step before their first.
func changed(first func(workflow.Context)) map[string]any {
	return map[string]any{
		"DeliverEvent":  then(first, DeliverEvent),
		"DeliverEvents": then(first, DeliverEvents),
		"DeliverBatch":  then(first, DeliverBatch),
		"WebhookQueue":  thenEnd(first, WebhookQueue),
		"SendTest":      then(first, SendTest), "VerifyEndpoint": then(first, VerifyEndpoint),
		"Redeliver": then(first, Redeliver),
		"Recover":   then(first, Recover), "RecoverIncident": then(first, RecoverIncident),
		"RemoveExpired": then(first, RemoveExpired), "NotifyDisabled": then(first, NotifyDisabled), "SendTestNotice": then(first, SendTestNotice),
	}
}

func then[In, Out any](first func(workflow.Context), run func(workflow.Context, In) (Out, error)) func(workflow.Context, In) (Out, error) {
	return func(ctx workflow.Context, in In) (Out, error) {
		first(ctx)
		return run(ctx, in)
	}
}

func thenEnd[In any](first func(workflow.Context), run func(workflow.Context, In) error) func(workflow.Context, In) error {
	return func(ctx workflow.Context, in In) error {
		first(ctx)
		return run(ctx, in)
	}
}
