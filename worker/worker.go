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
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

const (
	// localSlots is how many local activities, each a POST or a read, run at once. A hanging receiver holds one for
	// 5 s; the windows of internal/admission bound how many of them one bot can hold. Sockets are bounded by egress, memory
	// by this.
	localSlots = 4000
	// workflowSlots: a workflow task holds its slot until its local activities have ended.
	workflowSlots = 2000
	// The number of workflow task pollers, which follows the load. The SDK's default of 2 leaves one poller for new events, on
	// a queue of four partitions. A fixed number is split in halves between new and cached workflows, whatever the load. With
	// many more, Temporal may need longer than a second to hand a task over (recordTaskStartedSyncMatchTimeout); the task is
	// then lost until it times out after ten seconds.
	fewestPollers, startPollers, mostPollers = 4, 16, 32
	// slowSlots is how many rounds of webhooks' queues are in progress at once. With fairness, a bot whose thousand webhooks
	// hang leaves others theirs; delivery.RunRound bounds what one bot can have without.
	slowSlots = 200
	// batchSlots is how many parts of large audiences are delivered at once, each of delivery.StepSize webhooks at a time. Those
	// of a few events would hold all of workflowSlots, and other events wait for minutes.
	batchSlots = 64
	// stopTimeout is what Stop gives the tasks in progress: a POST takes 5 s, its recording is quick.
	stopTimeout = 5500 * time.Millisecond
)

// Worker runs the workflows, the direct deliveries and the queues on one client.
type Worker struct {
	// OnFatal is told why this worker is given no more tasks, for good: for minutes, Temporal has refused to give it any. It is set before Start.
	OnFatal func(error)

	started   []worker.Worker
	deliverer *delivery.Deliverer
	remover   *history.Remover
	waker     *waker
	client    client.Client
	identity  string
	version   string // the program's
	// cancel ends the handing over of notices and the waking of queues, which background waits for.
	cancel     context.CancelFunc
	background sync.WaitGroup
}

// New makes a worker, with cfg's Wake and HasEnded filled in. Stop has to be called, also where Start failed.
func New(c client.Client, cfg delivery.Config) (*Worker, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("this machine's name: %w", err)
	}
	w := &Worker{client: c, version: cfg.Version, waker: newWaker(c, cfg.Attributes, cfg.Logger), remover: &history.Remover{Pool: cfg.Pool, Retention: cfg.Retention, Schedule: cfg.Schedule}}
	w.identity = fmt.Sprintf("%d@%s", os.Getpid(), host)
	cfg.Wake = w.waker.Wake
	cfg.HasEnded = func(ctx context.Context, workflowID, runID string) (bool, error) {
		return workflows.HasEnded(ctx, c, workflowID, runID)
	}
	cfg.StartRecovery = func(ctx context.Context, t delivery.Target) error {
		return workflows.StartRecover(ctx, c, cfg.Attributes, t)
	}
	cfg.StartBatch = func(ctx context.Context, all delivery.Batches, n int) error {
		return workflows.StartBatch(ctx, c, cfg.Attributes, all, n)
	}
	cfg.StartKnown = func(ctx context.Context, in delivery.KnownEvents) error {
		return workflows.StartKnown(ctx, c, cfg.Attributes, in)
	}
	w.deliverer = delivery.New(cfg)
	return w, nil
}

// Start starts polling. It may be called again after an error.
func (w *Worker) Start() error {
	c := w.client
	if w.version != "" {
		worker.SetBinaryChecksum(w.version) // else the SDK reads the whole program for a sum of it
	}
	workers := map[string]worker.Worker{
		workflows.TaskQueue:      w.ofWorkflows(workflows.TaskQueue, workflowSlots, fewestPollers, startPollers, mostPollers),
		workflows.BatchTaskQueue: w.ofWorkflows(workflows.BatchTaskQueue, batchSlots, 1, fewestPollers, startPollers),
		workflows.SlowTaskQueue: worker.New(c, workflows.SlowTaskQueue, worker.Options{
			Identity:                           w.identity,
			DisableWorkflowWorker:              true,
			MaxConcurrentActivityExecutionSize: slowSlots,
			WorkerStopTimeout:                  stopTimeout,
			Interceptors:                       interceptors(),
			OnFatalError:                       w.OnFatal,
		}),
	}
	a := activities.New(w.deliverer, w.remover)
	for queue, started := range workers {
		a.Register(started)
		if err := started.Start(); err != nil {
			w.stopWorkers()
			return fmt.Errorf("start worker on %s: %w", queue, err)
		}
		w.started = append(w.started, started)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.background.Go(func() {
		w.deliverer.Recorder().RunNotices(ctx, func(ctx context.Context, d webhook.Notice) error { return workflows.StartNotice(ctx, c, d) })
	})
	w.background.Go(func() { w.waker.Run(ctx, w.deliverer.Queue(), w.deliverer.Recorder()) })
	return nil
}

// ofWorkflows is a worker that runs workflows, as many at once as it has slots.
func (w *Worker) ofWorkflows(queue string, slots, fewest, initial, most int) worker.Worker {
	made := worker.New(w.client, queue, worker.Options{
		Identity:                                w.identity,
		LocalActivityWorkerOnly:                 true,
		MaxConcurrentLocalActivityExecutionSize: localSlots,
		MaxConcurrentWorkflowTaskExecutionSize:  slots,
		WorkerStopTimeout:                       stopTimeout,
		Interceptors:                            interceptors(),
		OnFatalError:                            w.OnFatal,
		WorkflowTaskPollerBehavior: worker.NewPollerBehaviorAutoscaling(worker.PollerBehaviorAutoscalingOptions{
			MinimumNumberOfPollers: fewest, InitialNumberOfPollers: initial, MaximumNumberOfPollers: most,
		}),
	})
	workflows.Register(made)
	return made
}

// Behind says that this worker has more to deliver than it can.
func (w *Worker) Behind() bool { return w.deliverer.Behind() }

// Polling returns nil when Temporal knows this worker as one that asks for the tasks of all queues. It forgets a worker
// five minutes after its last request.
func (w *Worker) Polling(ctx context.Context) error {
	for queue, kind := range map[string]enumspb.TaskQueueType{
		workflows.TaskQueue: enumspb.TASK_QUEUE_TYPE_WORKFLOW, workflows.BatchTaskQueue: enumspb.TASK_QUEUE_TYPE_WORKFLOW,
		workflows.SlowTaskQueue: enumspb.TASK_QUEUE_TYPE_ACTIVITY,
	} {
		described, err := w.client.DescribeTaskQueue(ctx, queue, kind)
		if err != nil {
			return fmt.Errorf("task queue %s: %w", queue, err)
		}
		isOwn := func(poller *taskqueuepb.PollerInfo) bool { return poller.GetIdentity() == w.identity }
		if !slices.ContainsFunc(described.GetPollers(), isOwn) {
			return fmt.Errorf("this worker does not poll task queue %s", queue)
		}
	}
	return nil
}

// Stop takes no more work, lets deliveries in flight end and be recorded, within 6.5 s in all, and leaves the rest to
// other workers.
func (w *Worker) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout+time.Second)
	defer cancel()
	w.stopWorkers()
	w.deliverer.Close(ctx)
	if w.cancel != nil {
		w.cancel()
	}
	w.background.Wait()
}

func (w *Worker) stopWorkers() {
	var all sync.WaitGroup
	for _, started := range w.started {
		all.Go(started.Stop)
	}
	all.Wait()
	w.started = nil
}
