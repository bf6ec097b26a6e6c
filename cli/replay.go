package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/codec"
	"github.com/mathub/webhooks/workflows"
)

// leastEvents is what the SDK replays: a workflow with fewer has not begun.
const leastEvents = 3

// Replay checks before a deploy that this program's workflow code goes on with what production has begun.
type Replay struct {
	Open    int           `default:"100" help:"Running workflows of each type to replay, the newest first."`
	Closed  int           `default:"20" help:"Closed workflows of each type to replay, the newest first."`
	Timeout time.Duration `default:"10m" help:"When to give up."`
	JSON    bool          `help:"Print JSON."`

	CodecKeyset string `env:"MATHUB_CODEC_KEYSET" help:"The keys that encrypt what Temporal keeps of events."`
}

// Validate is kong's way of asking.
func (c *Replay) Validate() error {
	for flag, n := range map[string]int{"--open": c.Open, "--closed": c.Closed} {
		if n < 0 || n > 10_000 {
			return fmt.Errorf("%s must be from 0 to 10000", flag)
		}
	}
	if c.Timeout <= 0 {
		return errors.New("--timeout must be above 0")
	}
	return nil
}

// replayed are the workflows of a type.
type replayed struct {
	Type     string          `json:"type"`
	Open     int             `json:"open"`
	Closed   int             `json:"closed"`
	Failures []replayFailure `json:"failures"`
}

type replayFailure struct {
	WorkflowID string `json:"workflowId"`
	RunID      string `json:"runId"`
	Error      string `json:"error"`
}

// Run returns an error where a history does not fit the code, or cannot be read.
func (c *Replay) Run(ctx context.Context, program Program) error {
	options, err := program.TemporalOptions()
	if err != nil {
		return err
	}
	options.Logger = temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)) // what it would log is in the report
	sealed, err := codec.Parse(c.CodecKeyset)
	if err != nil {
		return err
	}
	options.DataConverter = sealed.Converter()
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	replayer, err := newReplayer(options)
	if err != nil {
		return err
	}
	temporal, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("Temporal at %s: %w", options.HostPort, err) //nolint:staticcheck // a name
	}
	defer temporal.Close()
	var report []replayed
	for _, name := range slices.Sorted(maps.Keys(workflows.Registered())) {
		of := replayed{Type: name, Failures: []replayFailure{}}
		err := c.replayType(ctx, temporal, options.Namespace, replayer, &of)
		report = append(report, of)
		if err != nil {
			return errors.Join(c.print(report), fmt.Errorf("%s: %w", name, err))
		}
	}
	if err := c.print(report); err != nil {
		return err
	}
	if slices.ContainsFunc(report, func(r replayed) bool { return len(r.Failures) > 0 }) {
		return errors.New("this version cannot go on with what has been begun: do not deploy it; see docs/upgrades.md")
	}
	return nil
}

// newReplayer has this program's workflows.
func newReplayer(options client.Options) (worker.WorkflowReplayer, error) {
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{DataConverter: options.DataConverter, FailureConverter: options.FailureConverter})
	if err != nil {
		return nil, err
	}
	for name, run := range workflows.Registered() {
		replayer.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: name})
	}
	return replayer, nil
}

// replayType replays the newest workflows of a type, running and closed.
func (c *Replay) replayType(ctx context.Context, temporal client.Client, namespace string, replayer worker.WorkflowReplayer, of *replayed) error {
	for _, state := range []struct {
		query string
		most  int
		count *int
	}{
		{`ExecutionStatus = "Running"`, c.Open, &of.Open},
		{`ExecutionStatus != "Running"`, c.Closed, &of.Closed},
	} {
		executions, err := newest(ctx, temporal, namespace, fmt.Sprintf("WorkflowType = %q AND %s", of.Type, state.query), state.most)
		if err != nil {
			return err
		}
		for _, e := range executions {
			replayedIt, err := replayOne(ctx, temporal, replayer, e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId())
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if replayedIt {
				*state.count++
			}
			if err != nil {
				of.Failures = append(of.Failures, replayFailure{e.GetExecution().GetWorkflowId(), e.GetExecution().GetRunId(), err.Error()})
			}
		}
	}
	return nil
}

// newest lists workflows, the newest first.
func newest(ctx context.Context, temporal client.Client, namespace, query string, most int) (all []*workflowpb.WorkflowExecutionInfo, err error) {
	request := &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, Query: query}
	for len(all) < most {
		request.PageSize = int32(min(most-len(all), 1000))
		page, err := temporal.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetExecutions()...)
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	return all, nil
}

// replayOne downloads a history and replays it. It returns false where there is nothing to replay: the workflow has not begun,
// or is gone since it was listed.
func replayOne(ctx context.Context, temporal client.Client, replayer worker.WorkflowReplayer, workflowID, runID string) (bool, error) {
	history := new(historypb.History)
	events := temporal.GetWorkflowHistory(ctx, workflowID, runID, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		var gone *serviceerror.NotFound
		if errors.As(err, &gone) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		history.Events = append(history.Events, event)
	}
	if len(history.GetEvents()) < leastEvents {
		return false, nil
	}
	began := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	return true, replayer.ReplayWorkflowHistoryWithOptions(temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)), history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: workflowID, RunID: began.GetOriginalExecutionRunId()},
	})
}

func (c *Replay) print(report []replayed) error {
	if c.JSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WORKFLOW TYPE\tRUNNING\tCLOSED\tFAILED") //nolint:errcheck // Flush returns it
	for _, r := range report {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\n", r.Type, r.Open, r.Closed, len(r.Failures)) //nolint:errcheck // Flush returns it
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range report {
		for _, f := range r.Failures {
			text, _, _ := strings.Cut(f.Error, "\n")
			if _, err := fmt.Printf("\n%s %s, run %s: %s\n", r.Type, f.WorkflowID, f.RunID, text); err != nil {
				return err
			}
		}
	}
	return nil
}
