package temporal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	commandpb "go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mathub/webhooks/standalone/supervise"
)

const (
	// ProbeNamespace keeps the watchdog's workflows away from people's eyes.
	ProbeNamespace = "mathub-watchdog"
	// ProbeRetention is the least that Temporal allows.
	ProbeRetention = time.Hour
	probeQueue     = "probe"
	// longPollTimeout is what Temporal's SDKs use.
	longPollTimeout = 70 * time.Second
	// roundTripEvery is how often a healthy server is asked to run a whole workflow.
	roundTripEvery = time.Minute
)

// quiet drops what the SDK logs: a probe's failures are its answers.
var quiet = slog.New(slog.DiscardHandler)

// Probe finds out whether a server works, not whether it says so: after its Postgres was away, it may answer health
// checks while the connection pool of one of its services stays dead (temporalio/temporal issues 9747 and 11691).
// A Probe is used by one goroutine.
type Probe struct {
	client    client.Client
	roundTrip time.Time // the last successful one; zero after a failure
	count     int
}

// NewProbe returns a probe of the server at addr. It connects when first used, by the options.
func NewProbe(addr string, dial ...grpc.DialOption) (*Probe, error) {
	c, err := client.NewLazyClient(client.Options{
		HostPort: addr, Namespace: Namespace, Logger: sdklog.NewStructuredLogger(quiet), ConnectionOptions: client.ConnectionOptions{DialOptions: dial},
	})
	if err != nil {
		return nil, fmt.Errorf("Temporal's client: %w", err) //nolint:staticcheck // a name
	}
	return &Probe{client: c}, nil
}

// Close ends the probe's connection.
func (p *Probe) Close() { p.client.Close() }

// Check returns nil when the server reaches its databases: history, frontend and visibility by reading what no cache
// can hold, and matching, too, by running a workflow, at first, every minute, and at once after a failure.
// It takes as long as ctx allows.
func (p *Probe) Check(ctx context.Context) error {
	if err := p.read(ctx); err != nil {
		p.roundTrip = time.Time{}
		return err
	}
	if time.Since(p.roundTrip) < roundTripEvery {
		return nil
	}
	if err := p.runWorkflow(ctx); err != nil {
		p.roundTrip = time.Time{}
		return err
	}
	p.roundTrip = time.Now()
	return nil
}

func (p *Probe) read(ctx context.Context) error {
	service := p.client.WorkflowService()
	// A workflow that does not exist is looked for in the database, by the shard of its id: a different one each time.
	p.count = (p.count + 1) % math.MaxInt32
	_, err := service.DescribeWorkflowExecution(ctx, &workflowservice.DescribeWorkflowExecutionRequest{
		Namespace: Namespace,
		Execution: &commonpb.WorkflowExecution{WorkflowId: "no-such-workflow-" + strconv.Itoa(p.count)},
	})
	var notFound *serviceerror.NotFound
	if err != nil && !errors.As(err, &notFound) {
		return fmt.Errorf("history: %w", err)
	}
	if _, err := service.ListNamespaces(ctx, &workflowservice.ListNamespacesRequest{PageSize: 1}); err != nil {
		return fmt.Errorf("frontend: %w", err)
	}
	if _, err := service.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: Namespace, PageSize: 1}); err != nil {
		return fmt.Errorf("visibility: %w", err)
	}
	return nil
}

// runWorkflow starts a workflow, takes its task and completes it, as a worker would.
func (p *Probe) runWorkflow(ctx context.Context) error {
	service, id := p.client.WorkflowService(), uuid.NewString()
	queue := &taskqueuepb.TaskQueue{Name: probeQueue, Kind: enumspb.TASK_QUEUE_KIND_NORMAL}
	_, err := service.StartWorkflowExecution(ctx, &workflowservice.StartWorkflowExecutionRequest{
		Namespace:                ProbeNamespace,
		WorkflowId:               id,
		WorkflowType:             &commonpb.WorkflowType{Name: "Probe"},
		TaskQueue:                queue,
		RequestId:                id,
		Identity:                 "watchdog",
		WorkflowExecutionTimeout: durationpb.New(time.Minute), // what a broken server keeps of it ends by itself
	})
	if err != nil {
		return fmt.Errorf("start a workflow: %w", err)
	}
	// Temporal warns of long polls with deadlines as short as ctx's: this one is broken off instead.
	longPoll, cancel := context.WithTimeout(context.WithoutCancel(ctx), longPollTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	for {
		task, err := service.PollWorkflowTaskQueue(longPoll, &workflowservice.PollWorkflowTaskQueueRequest{
			Namespace: ProbeNamespace, TaskQueue: queue, Identity: "watchdog",
		})
		if err != nil {
			return fmt.Errorf("get a workflow's task: %w", err)
		}
		if len(task.GetTaskToken()) == 0 {
			continue // a long poll that came to its end
		}
		_, err = service.RespondWorkflowTaskCompleted(ctx, &workflowservice.RespondWorkflowTaskCompletedRequest{
			Namespace: ProbeNamespace, TaskToken: task.GetTaskToken(), Identity: "watchdog",
			Commands: []*commandpb.Command{{
				CommandType: enumspb.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
				Attributes: &commandpb.Command_CompleteWorkflowExecutionCommandAttributes{
					CompleteWorkflowExecutionCommandAttributes: &commandpb.CompleteWorkflowExecutionCommandAttributes{},
				},
			}},
		})
		if task.GetWorkflowExecution().GetWorkflowId() == id {
			if err != nil {
				return fmt.Errorf("complete a workflow: %w", err)
			}
			return nil
		}
		// Another, that an earlier failed probe left: done with, whether it could be completed or not.
	}
}

// AwaitReady waits until the server works, ctx ends, or its process, whose end closes ended, does. It connects by the options.
func AwaitReady(ctx context.Context, addr string, ended <-chan struct{}, dial ...grpc.DialOption) error {
	probe, err := NewProbe(addr, dial...)
	if err != nil {
		return err
	}
	defer probe.Close()
	return supervise.AwaitReady(ctx, ended, 50*time.Millisecond, "the Temporal server did not come up", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return probe.Check(ctx)
	})
}
