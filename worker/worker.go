// Package worker registers the workflows and activities with Temporal and sizes the workers.
package worker

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

const (
	// fastSlots is how many local activities, each a POST or a read, run at once. A hanging receiver holds one for
	// 5 s; lanes.go bounds how many of them one bot can hold. Sockets are bounded by egress, memory by this.
	fastSlots = 4000
	// workflowSlots: a workflow task holds its slot until its local activities have ended.
	workflowSlots = 2000
	// Requests for workflow tasks under way at once, as the load asks for: the SDK's default of 2 leaves one for new
	// events, on a queue of four partitions, and a fixed number is split by halves between those and workflows that are in
	// the worker's cache, whatever there is of each. With many more than these, Temporal takes longer than the second that
	// it gives itself to hand a task over (recordTaskStartedSyncMatchTimeout), and it is lost for the ten seconds until it
	// times out.
	fewestPollers, startPollers, mostPollers = 4, 16, 32
	// slowSlots is how many activities of the slow lane run or wait for their turn at once.
	slowSlots = 500
	// stopTimeout is what Stop gives the tasks under way: a POST takes 5 s, its recording is quick.
	stopTimeout = 5500 * time.Millisecond
)

// Worker runs both lanes on one client.
type Worker struct {
	fast, slow worker.Worker
	activities *activities.Activities
	client     client.Client
	identity   string
	// cancel ends the handing over of notices, which handing waits for.
	cancel  context.CancelFunc
	handing sync.WaitGroup
}

// Start starts polling. The activities are the worker's from then on: Stop closes them.
func Start(c client.Client, a *activities.Activities) (*Worker, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("this machine's name: %w", err)
	}
	identity := fmt.Sprintf("%d@%s", os.Getpid(), host)
	w := &Worker{
		activities: a,
		client:     c,
		identity:   identity,
		fast: worker.New(c, workflows.TaskQueue, worker.Options{
			Identity:                                identity,
			LocalActivityWorkerOnly:                 true,
			MaxConcurrentLocalActivityExecutionSize: fastSlots,
			MaxConcurrentWorkflowTaskExecutionSize:  workflowSlots,
			WorkerStopTimeout:                       stopTimeout,
			Interceptors:                            interceptors(),
			WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{
				MinimumNumberOfPollers: fewestPollers, InitialNumberOfPollers: startPollers, MaximumNumberOfPollers: mostPollers,
			}),
		}),
		slow: worker.New(c, workflows.SlowTaskQueue, worker.Options{
			Identity:                           identity,
			DisableWorkflowWorker:              true,
			MaxConcurrentActivityExecutionSize: slowSlots,
			WorkerStopTimeout:                  stopTimeout,
			Interceptors:                       interceptors(),
		}),
	}
	w.fast.RegisterWorkflow(workflows.DeliverEvent)
	w.fast.RegisterWorkflow(workflows.DeliverBatch)
	w.fast.RegisterWorkflow(workflows.RetryDelivery)
	w.fast.RegisterWorkflow(workflows.SendTest)
	w.fast.RegisterWorkflow(workflows.Redeliver)
	w.fast.RegisterWorkflow(workflows.Recover)
	w.fast.RegisterWorkflow(workflows.RemoveExpired)
	w.fast.RegisterWorkflow(workflows.NotifyDisabled)
	a.Register(w.fast)
	a.Register(w.slow)
	if err := w.fast.Start(); err != nil {
		return nil, fmt.Errorf("start worker on %s: %w", workflows.TaskQueue, err)
	}
	if err := w.slow.Start(); err != nil {
		w.fast.Stop()
		return nil, fmt.Errorf("start worker on %s: %w", workflows.SlowTaskQueue, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.handing.Go(func() {
		a.Notices().Run(ctx, func(ctx context.Context, d webhook.Disabling) error { return workflows.StartNotice(ctx, c, d) })
	})
	return w, nil
}

// Polling returns nil when Temporal knows this worker as one that asks for the tasks of both lanes. It forgets a worker
// five minutes after its last request.
func (w *Worker) Polling(ctx context.Context) error {
	for queue, kind := range map[string]enumspb.TaskQueueType{
		workflows.TaskQueue: enumspb.TASK_QUEUE_TYPE_WORKFLOW, workflows.SlowTaskQueue: enumspb.TASK_QUEUE_TYPE_ACTIVITY,
	} {
		described, err := w.client.DescribeTaskQueue(ctx, queue, kind)
		if err != nil {
			return fmt.Errorf("task queue %s: %w", queue, err)
		}
		isOwn := func(poller *taskqueuepb.PollerInfo) bool { return poller.GetIdentity() == w.identity }
		if !slices.ContainsFunc(described.GetPollers(), isOwn) {
			return fmt.Errorf("this worker does not ask for the tasks of %s", queue)
		}
	}
	return nil
}

// Stop takes no more work, lets deliveries under way end and be recorded, within 6.5 s in all, and leaves the rest to
// other workers.
func (w *Worker) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout+time.Second)
	defer cancel()
	slow := make(chan struct{})
	go func() {
		w.slow.Stop()
		close(slow)
	}()
	w.fast.Stop()
	<-slow
	w.activities.Close(ctx)
	w.cancel()
	w.handing.Wait()
}
