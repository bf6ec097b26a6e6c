package emit_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// engine is what a Batcher sees of Temporal. Each start waits for its answer.
type engine struct {
	client.Client
	mu     sync.Mutex
	starts []*startedWorkflow
	ended  []string // the ids of workflows that were ended
	gone   []string // of those that were deleted
	done   []string // and of those that are completed
	known  []string // the ids of workflows that are there: what may not be again is not started
	// there is how the workflows that are there were started; without a type: as they should be
	there historypb.WorkflowExecutionStartedEventAttributes
	// asked, if not nil, is waited for by all who ask for a workflow
	asked  chan struct{}
	asking int // guarded by mu
}

type startedWorkflow struct {
	workflowType, id string
	ids              []string // of its events
	answer           chan error
}

func (e *engine) ExecuteWorkflow(ctx context.Context, options client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	s := &startedWorkflow{workflowType: workflow.(string), id: options.ID, answer: make(chan error, 1)}
	raw := args[0].(converter.RawValue).Payload().GetData()
	if s.workflowType == emit.WorkflowType {
		raw = fmt.Appendf(nil, "[%s]", raw)
	}
	events, faults, err := webhook.ParseAcceptedBatch(raw)
	if err != nil || len(faults) > 0 {
		return nil, fmt.Errorf("%w %v", err, faults)
	}
	for _, event := range events {
		s.ids = append(s.ids, event.ID)
	}
	again := options.WorkflowIDReusePolicy == enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE && slices.Contains(e.done, s.id)
	if slices.Contains(e.known, s.id) && !again {
		s.answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
	}
	e.mu.Lock()
	e.starts = append(e.starts, s)
	e.mu.Unlock()
	select {
	case err := <-s.answer:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// DescribeWorkflowExecution says that each workflow runs, but those in ended, gone and done.
func (e *engine) DescribeWorkflowExecution(_ context.Context, workflowID, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if e.asked != nil {
		e.mu.Lock()
		e.asking++
		e.mu.Unlock()
		<-e.asked
	}
	if slices.Contains(e.gone, workflowID) {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	status := enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	if slices.Contains(e.ended, workflowID) {
		status = enums.WORKFLOW_EXECUTION_STATUS_TERMINATED
	}
	if slices.Contains(e.done, workflowID) {
		status = enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status}}, nil
}

// GetWorkflowHistory is that of a workflow which was started as there says.
func (e *engine) GetWorkflowHistory(_ context.Context, workflowID, _ string, _ bool, _ enums.HistoryEventFilterType) client.HistoryEventIterator {
	first := proto.CloneOf(&e.there)
	if first.GetWorkflowType() == nil {
		first.WorkflowType, first.TaskQueue = &commonpb.WorkflowType{Name: emit.WorkflowType}, &taskqueuepb.TaskQueue{Name: emit.TaskQueue}
	}
	return &firstEvent{attributes: first, gone: slices.Contains(e.gone, workflowID)}
}

// firstEvent is a history of one event, or of a workflow that is gone.
type firstEvent struct {
	attributes *historypb.WorkflowExecutionStartedEventAttributes
	gone       bool
}

func (*firstEvent) HasNext() bool { return true }

func (f *firstEvent) Next() (*historypb.HistoryEvent, error) {
	if f.gone {
		return nil, serviceerror.NewNotFound("workflow not found")
	}
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{WorkflowExecutionStartedEventAttributes: f.attributes}}, nil
}

// DescribeWorkflowExecution says that each workflow runs.
func (e *crowdedEngine) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return new(workflowservice.DescribeWorkflowExecutionResponse), nil
}

// begun waits until nothing moves and returns the starts so far.
func (e *engine) begun() []*startedWorkflow {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.starts
}

// answer answers the starts that wait, one after the other, until there are none.
func (e *engine) answer() {
	for i := 0; ; i++ {
		starts := e.begun()
		if i == len(starts) {
			return
		}
		select {
		case starts[i].answer <- nil:
		default: // it has one
		}
	}
}

// starts is how many starts a batcher has in progress in these tests, unless they say otherwise.
const starts = 2

// emitting is a call of a Batcher.
type emitting struct {
	done     chan struct{}
	receipts []emit.Receipt
	err      error
	took     time.Duration
}

func (em *emitting) ended() bool {
	synctest.Wait()
	select {
	case <-em.done:
		return true
	default:
		return false
	}
}

func post(id string) webhook.Event {
	return webhook.Event{ID: id, Type: webhook.PostCreated, Data: []byte(`{}`)}
}

// emitEvents calls the batcher, and returns once the call waits or has ended.
func emitEvents(ctx context.Context, b *emit.Batcher, events ...webhook.Event) *emitting {
	em := &emitting{done: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(em.done)
		if len(events) == 1 {
			var receipt emit.Receipt
			receipt, em.err = b.Event(ctx, events[0])
			em.receipts = []emit.Receipt{receipt}
		} else {
			em.receipts, em.err = b.Events(ctx, events)
		}
		em.took = time.Since(began)
	}()
	synctest.Wait()
	return em
}

func emitIDs(t *testing.T, b *emit.Batcher, ids ...string) *emitting {
	var events []webhook.Event
	for _, id := range ids {
		events = append(events, post(id))
	}
	return emitEvents(t.Context(), b, events...)
}

// emitted waits for the call's end.
func (em *emitting) emitted(t *testing.T) []emit.Receipt {
	t.Helper()
	<-em.done
	require.NoError(t, em.err)
	return em.receipts
}

// inBubble runs a test with a batcher whose engine answers only when it is told.
func inBubble(t *testing.T, options emit.BatcherOptions, run func(t *testing.T, e *engine, b *emit.Batcher)) {
	t.Helper()
	options.Starts = cmp.Or(options.Starts, starts)
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		run(t, e, emit.NewBatcher(e, options))
		e.answer()
	})
}

// occupied is a batcher with as many starts in progress as may be: further calls wait.
func occupied(t *testing.T, e *engine, b *emit.Batcher) {
	t.Helper()
	for i := range starts {
		emitIDs(t, b, fmt.Sprintf("first-%d", i))
	}
	require.Len(t, e.begun(), starts)
}

// withProgress is inBubble with a worker in the same process.
func withProgress(t *testing.T, f func(*testing.T, *engine, *emit.Batcher, *emit.Progress)) {
	synctest.Test(t, func(t *testing.T) {
		e, progress := &engine{}, emit.NewProgress()
		f(t, e, emit.NewBatcher(e, emit.BatcherOptions{Starts: starts, Progress: progress}), progress)
	})
}

// crowdedEngine fails every eleventh start and notes the events of the others.
type crowdedEngine struct {
	client.Client
	mu                sync.Mutex
	starts, now, most int
	started           map[string]int
}

func (e *crowdedEngine) ExecuteWorkflow(_ context.Context, _ client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error) {
	raw := args[0].(converter.RawValue).Payload().GetData()
	if workflow == emit.WorkflowType {
		raw = fmt.Appendf(nil, "[%s]", raw)
	}
	events, _, err := webhook.ParseAcceptedBatch(raw)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.now++
	e.most = max(e.most, e.now)
	e.starts++
	fails := e.starts%11 == 0
	for _, event := range events {
		if !fails {
			e.started[event.ID]++
		}
	}
	e.mu.Unlock()
	time.Sleep(100 * time.Microsecond) // so that other calls come in between
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now--
	if fails {
		return nil, errors.New("no quorum")
	}
	return nil, nil
}
