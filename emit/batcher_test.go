package emit_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
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

func TestBatcher_HasOneStartInProgressUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Starts: emit.DefaultStarts}, func(t *testing.T, e *engine, b *emit.Batcher) {
		emitIDs(t, b, "e1")
		emitIDs(t, b, "e2")
		emitIDs(t, b, "e3")
		require.Len(t, e.begun(), 1)
		e.answer()
		require.Equal(t, []string{"e2", "e3"}, e.begun()[1].ids)
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

func TestBatcher_AnEventAloneIsStartedAtOnceByItself(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		call := emitIDs(t, b, "e1")
		starts := e.begun()
		require.Len(t, starts, 1)
		require.Equal(t, "DeliverEvent", starts[0].workflowType)
		require.Equal(t, "event-e1", starts[0].id)
		require.False(t, call.ended(), "it is not accepted yet")
		starts[0].answer <- nil
		require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1"}}, call.emitted(t))
		require.Zero(t, call.took, "no timer is involved")
	})
}

func TestBatcher_EventsThatWaitShareAWorkflow(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		one, several, last := emitIDs(t, b, "a"), emitIDs(t, b, "b", "c"), emitIDs(t, b, "d")
		require.Len(t, e.begun(), 2, "they wait")
		e.begun()[1].answer <- nil
		starts := e.begun()
		require.Len(t, starts, 3)
		group := starts[2]
		require.Equal(t, "DeliverEvents", group.workflowType)
		require.True(t, strings.HasPrefix(group.id, "events-"), group.id)
		require.Equal(t, []string{"a", "b", "c", "d"}, group.ids, "in the order in which they came")
		require.False(t, one.ended() || several.ended() || last.ended())
		group.answer <- nil
		require.Equal(t, []emit.Receipt{{ID: "a", WorkflowID: group.id}}, one.emitted(t))
		require.Equal(t, []emit.Receipt{{ID: "b", WorkflowID: group.id}, {ID: "c", WorkflowID: group.id}}, several.emitted(t))
		require.Equal(t, []emit.Receipt{{ID: "d", WorkflowID: group.id}}, last.emitted(t))

		// The next that is alone is started by itself again.
		emitIDs(t, b, "e")
		require.Equal(t, "event-e", e.begun()[3].id)
	})
}

func TestBatcher_AGroupHasItsLimits(t *testing.T) {
	t.Parallel()
	call := func(name string, n, bytes int) (events []webhook.Event) {
		for i := range n {
			e := post(fmt.Sprintf("%s-%d", name, i))
			if bytes > 0 {
				e.Data = fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", bytes))
			}
			events = append(events, e)
		}
		return events
	}
	var seventy [][]webhook.Event
	for i := range 70 {
		seventy = append(seventy, call(fmt.Sprint(i), 1, 0))
	}
	for name, c := range map[string]struct {
		options emit.BatcherOptions
		calls   [][]webhook.Event
		groups  []int
	}{
		"64 events":                    {emit.BatcherOptions{}, seventy, []int{64, 6}},
		"a setting":                    {emit.BatcherOptions{Group: 100}, seventy, []int{70}},
		"256 KiB":                      {emit.BatcherOptions{}, [][]webhook.Event{call("a", 1, 120_000), call("b", 1, 120_000), call("c", 1, 120_000)}, []int{2, 1}},
		"a call is never split":        {emit.BatcherOptions{}, [][]webhook.Event{call("a", 30, 0), call("b", 30, 0), call("c", 10, 0), call("d", 1, 0)}, []int{60, 11}},
		"though it is over the number": {emit.BatcherOptions{}, [][]webhook.Event{call("a", 1, 0), call("b", 100, 0), call("c", 1, 0)}, []int{1, 100, 1}},
		"though it is over the bytes":  {emit.BatcherOptions{}, [][]webhook.Event{call("a", 4, 200_000), call("b", 1, 0)}, []int{4, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, c.options, func(t *testing.T, e *engine, b *emit.Batcher) {
				occupied(t, e, b)
				var calls []*emitting
				for _, events := range c.calls {
					calls = append(calls, emitEvents(t.Context(), b, events...))
				}
				e.answer()
				var groups []int
				for _, s := range e.begun()[starts:] {
					groups = append(groups, len(s.ids))
				}
				require.Equal(t, c.groups, groups)
				for i, call := range calls {
					receipts := call.emitted(t)
					for n, event := range c.calls[i] {
						require.Equal(t, event.ID, receipts[n].ID)
						require.False(t, receipts[n].Duplicate)
					}
				}
			})
		})
	}
}

func TestBatcher_AGroupOfOneGivesEachEventAWorkflow(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Group: 1}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		for i := range 3 {
			emitIDs(t, b, fmt.Sprintf("e%d", i))
		}
		e.answer()
		require.Len(t, e.begun(), 5)
		for i, s := range e.begun()[2:] {
			require.Equal(t, "DeliverEvent", s.workflowType)
			require.Equal(t, fmt.Sprintf("event-e%d", i), s.id)
		}
	})
}

func TestBatcher_StartsAreBounded(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Starts: 5, Group: 1}, func(t *testing.T, e *engine, b *emit.Batcher) {
		for i := range 20 {
			emitIDs(t, b, fmt.Sprintf("e%d", i))
			require.Len(t, e.begun(), min(i+1, 5))
		}
		for i := range 15 {
			e.begun()[i].answer <- nil
			require.Len(t, e.begun(), 6+i)
		}
	})
}

func TestBatcher_OneIDInSeveralCallsIsStartedOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		first, second, third := emitIDs(t, b, "same"), emitIDs(t, b, "other", "same"), emitIDs(t, b, "same")
		e.answer()
		require.Equal(t, []string{"same", "other"}, e.begun()[2].ids)
		id := e.begun()[2].id
		require.Equal(t, []emit.Receipt{{ID: "same", WorkflowID: id}}, first.emitted(t))
		require.Equal(t, []emit.Receipt{{ID: "other", WorkflowID: id}, {ID: "same", WorkflowID: id, Duplicate: true}}, second.emitted(t))
		require.Equal(t, []emit.Receipt{{ID: "same", WorkflowID: id, Duplicate: true}}, third.emitted(t))
		require.Len(t, e.begun(), 3)
	})
}

// TestBatcher_OneIDWithOtherContentIsAConflict, be it accepted lately or in the same moment. What an emitter leaves out is no
// content.
func TestBatcher_OneIDWithOtherContentIsAConflict(t *testing.T) {
	t.Parallel()
	const then, otherwise = "2025-03-20T10:30:00Z", "2025-03-20T10:30:01Z"
	first := webhook.Event{ID: "e1", Type: webhook.Mention, Timestamp: then, Data: []byte(`{"a":1,"b":"<"}`), BotIDs: []string{"x", "y"}}
	for name, c := range map[string]struct {
		change   func(e *webhook.Event)
		conflict bool
	}{
		"Same":            {func(*webhook.Event) {}, false},
		"NoTimestamp":     {func(e *webhook.Event) { e.Timestamp = "" }, false},
		"TimestampsZone":  {func(e *webhook.Event) { e.Timestamp = "2025-03-20T11:30:00.000+01:00" }, false},
		"WhiteSpace":      {func(e *webhook.Event) { e.Data = []byte(` { "a": 1,"b":"<" } `) }, false},
		"AudiencesOrder":  {func(e *webhook.Event) { e.BotIDs = []string{"y", "x", "y"} }, false},
		"OtherTimestamp":  {func(e *webhook.Event) { e.Timestamp = otherwise }, true},
		"OtherData":       {func(e *webhook.Event) { e.Data = []byte(`{"a":2,"b":"<"}`) }, true},
		"OtherType":       {func(e *webhook.Event) { e.Type = webhook.PostCreated }, true},
		"LargerAudience":  {func(e *webhook.Event) { e.BotIDs = []string{"x", "y", "z"} }, true},
		"SmallerAudience": {func(e *webhook.Event) { e.BotIDs = []string{"x"} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			again := first
			c.change(&again)
			again.Data = slices.Clone(again.Data)
			inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
				occupied(t, e, b)
				one, two := emitEvents(t.Context(), b, first), emitEvents(t.Context(), b, again)
				e.answer()
				require.Equal(t, []bool{false, false}, []bool{one.emitted(t)[0].Duplicate, one.emitted(t)[0].Conflict})
				require.Equal(t, []bool{true, c.conflict}, []bool{two.emitted(t)[0].Duplicate, two.emitted(t)[0].Conflict}, "at the same moment")
				three := emitEvents(t.Context(), b, again)
				require.Equal(t, []bool{true, c.conflict}, []bool{three.emitted(t)[0].Duplicate, three.emitted(t)[0].Conflict}, "lately")
			})
			stored := first.Complete(time.Now())
			digest := sha256.Sum256(stored.Body())
			require.Equal(t, c.conflict, !again.IsStored(stored.Body()[:80], digest[:], stored.BotIDs), "stored")
		})
	}
}

// TestBatcher_WhatWasAcceptedLatelyIsKnown, though the database that Lookup asks may not have it yet.
func TestBatcher_WhatWasAcceptedLatelyIsKnown(t *testing.T) {
	t.Parallel()
	var restart atomic.Bool
	lookup := func(_ context.Context, events []webhook.Event) ([]emit.Known, error) {
		known := make([]emit.Known, len(events))
		known[0].Stored = restart.Load()
		return known, nil
	}
	inBubble(t, emit.BatcherOptions{Lookup: lookup}, func(t *testing.T, e *engine, b *emit.Batcher) {
		emitIDs(t, b, "e1")
		e.answer()
		time.Sleep(50 * time.Second)
		require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1", Duplicate: true}}, emitIDs(t, b, "e1").emitted(t))
		require.Len(t, e.begun(), 1)

		// Its workflow was ended before its work was done: it is started again, and known for a minute from then on.
		restart.Store(true)
		again := emitIDs(t, b, "e1")
		require.Len(t, e.begun(), 2)
		e.answer()
		require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1"}}, again.emitted(t))
		restart.Store(false)
		time.Sleep(50 * time.Second)
		emitIDs(t, b, "e2")
		e.answer()
		require.True(t, emitIDs(t, b, "e1").emitted(t)[0].Duplicate)
		require.Len(t, e.begun(), 3)

		// Later it is for Lookup to know, though nothing else was emitted since.
		time.Sleep(70 * time.Second)
		emitIDs(t, b, "e2")
		require.Len(t, e.begun(), 4)
	})
}

func TestBatcher_WhatLookupKnowsIsNotStarted(t *testing.T) {
	t.Parallel()
	lookup := func(_ context.Context, events []webhook.Event) ([]emit.Known, error) {
		known := make([]emit.Known, len(events))
		for i, e := range events {
			if strings.HasPrefix(e.ID, "known") {
				known[i] = emit.Known{Stored: true, WorkflowID: "events-of-old", Conflict: e.ID == "known-2", UnknownBotIDs: []string{"nobody"}}
			}
		}
		return known, nil
	}
	inBubble(t, emit.BatcherOptions{Lookup: lookup}, func(t *testing.T, e *engine, b *emit.Batcher) {
		require.Equal(t, []emit.Receipt{{ID: "known", WorkflowID: "events-of-old", Duplicate: true, UnknownBotIDs: []string{"nobody"}}}, emitIDs(t, b, "known").emitted(t))
		require.Empty(t, e.begun())
		call := emitIDs(t, b, "known-1", "new", "known-2")
		require.Equal(t, "event-new", e.begun()[0].id, "the one that is left is alone")
		e.answer()
		require.Equal(t, []emit.Receipt{
			{ID: "known-1", WorkflowID: "events-of-old", Duplicate: true, UnknownBotIDs: []string{"nobody"}},
			{ID: "new", WorkflowID: "event-new"},
			{ID: "known-2", WorkflowID: "events-of-old", Duplicate: true, Conflict: true, UnknownBotIDs: []string{"nobody"}},
		}, call.emitted(t))
	})
}

// TestBatcher_WhatTemporalKnowsIsADuplicate, of what another process has started, whose content decides what is a conflict: now,
// of all that come in together, and later.
func TestBatcher_WhatTemporalKnowsIsADuplicate(t *testing.T) {
	t.Parallel()
	other := post("e1")
	other.Data = []byte(`{"other":1}`)
	for name, c := range map[string]struct {
		there          string // the input of the workflow that is there
		ours, conflict bool
	}{
		"ours":             {`{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}`, false, true},
		"the other one":    {`{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"other":1}}`, true, false},
		"of no timestamp":  {`{"id":"e1","event":"post.created","data":{"other":1}}`, true, false},
		"started by hand":  {`"e1"`, false, false},
		"without an input": {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, emit.BatcherOptions{Starts: 1}, func(t *testing.T, e *engine, b *emit.Batcher) {
				if c.there != "" {
					e.there.Input = &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte(c.there)}}}
				}
				isThere := func() {
					e.begun()[len(e.begun())-1].answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
				}
				emitIDs(t, b, "e0")
				first, second := emitIDs(t, b, "e1"), emitEvents(t.Context(), b, other)
				e.begun()[0].answer <- nil
				synctest.Wait()
				isThere()
				require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: c.ours}}, first.emitted(t))
				require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: c.conflict}}, second.emitted(t))
				later := emitEvents(t.Context(), b, other)
				isThere()
				require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: c.conflict}}, later.emitted(t))
			})
		})
	}
}

// TestEvent_SaysWhatConflicts as a Batcher does.
func TestEvent_SaysWhatConflicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		e.there.Input = &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte(`{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"other":1}}`)}}}
		go func() { e.begun()[0].answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "") }()
		receipt, err := emit.Event(t.Context(), e, post("e1"))
		require.NoError(t, err)
		require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: true}, receipt)
	})
}

// TestBatcher_WhatWasDeletedIsStartedAgain, also where that was between the start that met it and the question what it is.
func TestBatcher_WhatWasDeletedIsStartedAgain(t *testing.T) {
	t.Parallel()
	isThere := serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		e.gone = []string{"event-e1"}
		call := emitIDs(t, b, "e1")
		e.begun()[0].answer <- isThere
		e.answer()
		require.Equal(t, []emit.Receipt{{ID: "e1", WorkflowID: "event-e1"}}, call.emitted(t))
		require.Len(t, e.begun(), 2)
	})
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		e.gone = []string{"event-e1"}
		call := emitIDs(t, b, "e1")
		for i := range 2 {
			e.begun()[i].answer <- isThere
		}
		require.True(t, call.ended())
		require.ErrorContains(t, call.err, "start event-e1", "nobody knows of one that delivers it")
		require.Len(t, e.begun(), 2)
	})
}

// TestBatcher_WhatACompletedWorkflowStoredAndIsThereNoMoreIsStartedAgain, as of a database that was restored to a moment before,
// whether the process remembers the event or not. What was stored since it was looked up is a duplicate.
func TestBatcher_WhatACompletedWorkflowStoredAndIsThereNoMoreIsStartedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		done   bool
		lookup []emit.Known // one call's answer after the other
		want   emit.Receipt
	}{
		"Running":          {false, make([]emit.Known, 3), emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true}},
		"NotStored":        {true, make([]emit.Known, 3), emit.Receipt{ID: "e1", WorkflowID: "event-e1"}},
		"StoredSince":      {true, []emit.Known{{}, {Stored: true, WorkflowID: "event-e1"}}, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true}},
		"OfAnEndedOne":     {true, []emit.Known{{Stored: true}, {Stored: true}}, emit.Receipt{ID: "e1", WorkflowID: "event-e1"}},
		"OfAnEndedOneLate": {true, []emit.Known{{}, {Stored: true}, {Stored: true}}, emit.Receipt{ID: "e1", WorkflowID: "event-e1"}},
	} {
		for _, remembered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/Remembered=%t", name, remembered), func(t *testing.T) {
				t.Parallel()
				answers := []emit.Known{}
				lookup := func(_ context.Context, events []webhook.Event) ([]emit.Known, error) {
					known := make([]emit.Known, len(events))
					if len(answers) > 0 {
						known[0], answers = answers[0], answers[1:]
					}
					return known, nil
				}
				inBubble(t, emit.BatcherOptions{Lookup: lookup}, func(t *testing.T, e *engine, b *emit.Batcher) {
					if remembered {
						emitIDs(t, b, "e1")
						e.answer()
					}
					e.known = []string{"event-e1"}
					if c.done {
						e.done = e.known
					}
					answers = c.lookup
					again := emitIDs(t, b, "e1")
					e.answer()
					require.Equal(t, c.want, again.emitted(t)[0])
				})
			})
		}
	}
}

// TestEvent_StartsACompletedWorkflowAgain, as Postgres may have lost the event, and decides; but not with other content.
func TestEvent_StartsACompletedWorkflowAgain(t *testing.T) {
	t.Parallel()
	for data, starts := range map[string]int{`{}`: 2, `{"other":1}`: 1} {
		synctest.Test(t, func(t *testing.T) {
			e := &engine{known: []string{"event-e1"}, done: []string{"event-e1"}}
			e.there.Input = &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: fmt.Appendf(nil, `{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":%s}`, data)}}}
			receipt := make(chan emit.Receipt, 1)
			go func() {
				r, err := emit.Event(t.Context(), e, post("e1"))
				assert.NoError(t, err)
				receipt <- r
			}()
			e.answer()
			require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: starts == 1}, <-receipt)
			require.Len(t, e.begun(), starts)
		})
	}
}

// TestBatcher_ManyDuplicatesAreAskedForAtOnce, as all that is emitted meanwhile waits.
func TestBatcher_ManyDuplicatesAreAskedForAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Starts: 1, Group: 1}, func(t *testing.T, e *engine, b *emit.Batcher) {
		var again []webhook.Event
		for i := range 40 {
			again = append(again, post(fmt.Sprint("e", i)))
			emitEvents(t.Context(), b, again[i])
			e.answer()
		}
		e.asked = make(chan struct{})
		call := emitEvents(t.Context(), b, again...)
		require.Equal(t, 16, e.asking)
		close(e.asked)
		for _, r := range call.emitted(t) {
			require.True(t, r.Duplicate)
		}
		require.Equal(t, 40, e.asking)
	})
}

// TestBatcher_TellsOfEachWorkflow how many events share it, and of none that was there.
func TestBatcher_TellsOfEachWorkflow(t *testing.T) {
	t.Parallel()
	var sizes []int
	inBubble(t, emit.BatcherOptions{Starts: 1, Started: func(n int) { sizes = append(sizes, n) }}, func(t *testing.T, e *engine, b *emit.Batcher) {
		emitIDs(t, b, "e1")
		emitIDs(t, b, "e2", "e3")
		emitIDs(t, b, "e4")
		e.answer()
		emitIDs(t, b, "e5")
		e.begun()[2].answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
		synctest.Wait()
		emitIDs(t, b, "e6")
		e.begun()[3].answer <- errors.New("no quorum")
		synctest.Wait()
		require.Equal(t, []int{1, 3}, sizes)
	})
}

// TestBatcher_AWorkflowThatDeliversNothingIsNoDuplicate: with a type or task queue mistyped, it waits for ever.
func TestBatcher_AWorkflowThatDeliversNothingIsNoDuplicate(t *testing.T) {
	t.Parallel()
	for name, taken := range map[string]emit.TakenError{
		"its type":       {WorkflowID: "event-e1", Type: "DeliverEvnt", TaskQueue: emit.TaskQueue},
		"its task queue": {WorkflowID: "event-e1", Type: emit.WorkflowType, TaskQueue: "mathub-webhook"},
	} {
		inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
			e.there.WorkflowType, e.there.TaskQueue = &commonpb.WorkflowType{Name: taken.Type}, &taskqueuepb.TaskQueue{Name: taken.TaskQueue}
			call := emitIDs(t, b, "e1")
			e.begun()[0].answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
			require.True(t, call.ended(), name)
			var got *emit.TakenError
			require.ErrorAs(t, call.err, &got, name)
			require.Equal(t, taken, *got, name)
			require.Equal(t, "e1", got.EventID())
		})
	}
}

func TestBatcher_AStartsErrorReachesItsCallersAndNobodyElse(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Group: 2}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		a, c, d := emitIDs(t, b, "a"), emitIDs(t, b, "c"), emitIDs(t, b, "d")
		e.begun()[0].answer <- nil
		e.begun()[1].answer <- nil
		require.Len(t, e.begun(), 4)
		failed, other := e.begun()[2], e.begun()[3]
		if len(failed.ids) == 1 { // two loops took them
			failed, other = other, failed
		}
		require.Equal(t, []string{"a", "c"}, failed.ids)
		trouble := errors.New("no quorum")
		failed.answer <- trouble
		other.answer <- nil
		for _, call := range []*emitting{a, c} {
			<-call.done
			require.ErrorIs(t, call.err, trouble)
		}
		d.emitted(t)

		// What was not accepted is not known.
		again := emitIDs(t, b, "a")
		e.answer()
		require.Equal(t, []emit.Receipt{{ID: "a", WorkflowID: "event-a"}}, again.emitted(t))
	})
}

func TestBatcher_AStartThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{Starts: 1}, func(t *testing.T, e *engine, b *emit.Batcher) {
		call := emitIDs(t, b, "e1")
		<-call.done
		require.ErrorIs(t, call.err, context.DeadlineExceeded)
		require.Equal(t, 15*time.Second, call.took)
		next := emitIDs(t, b, "e2")
		e.answer()
		next.emitted(t)
	})
}

func TestBatcher_WhoGetsNoPlaceIsToldWithinASecond(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		refused := []*emitting{emitIDs(t, b, "e1"), emitIDs(t, b, "e2", "e3")}
		time.Sleep(300 * time.Millisecond)
		patient := emitIDs(t, b, "e4")
		time.Sleep(200 * time.Millisecond)
		late := emitIDs(t, b, "e5")
		require.True(t, late.ended(), "where others wait for so long, there is no use in waiting")
		require.Zero(t, late.took)
		for _, call := range append(refused, late) {
			<-call.done
			require.ErrorIs(t, call.err, emit.ErrBusy)
			require.Less(t, call.took, time.Second)
		}
		require.False(t, patient.ended())
		e.answer()
		patient.emitted(t)
		require.Len(t, e.begun(), 3)
		require.Equal(t, []string{"e4"}, e.begun()[2].ids, "what was withdrawn is never started")
	})
}

// TestBatcher_WhoHasAPlaceIsNotToldBusy: its start is in progress, and what becomes of it is not known.
func TestBatcher_WhoHasAPlaceIsNotToldBusy(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		call := emitIDs(t, b, "e1")
		time.Sleep(10 * time.Second)
		require.False(t, call.ended())
		e.answer()
		call.emitted(t)
	})
}

func TestBatcher_ACallersContextTakesItsOwnEventsOnly(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		occupied(t, e, b)
		ctx, cancel := context.WithCancel(t.Context())
		before, gone, after := emitIDs(t, b, "before"), emitEvents(ctx, b, post("gone")), emitIDs(t, b, "after")
		cancel()
		<-gone.done
		require.ErrorIs(t, gone.err, context.Canceled)
		e.answer()
		before.emitted(t)
		after.emitted(t)
		require.Equal(t, []string{"before", "after"}, e.begun()[2].ids)

		// One whose start is in progress is accepted all the same, and known.
		ctx, cancel = context.WithCancel(t.Context())
		gone = emitEvents(ctx, b, post("begun"))
		require.Equal(t, "event-begun", e.begun()[3].id)
		cancel()
		<-gone.done
		require.ErrorIs(t, gone.err, context.Canceled)
		e.answer()
		require.True(t, emitIDs(t, b, "begun").emitted(t)[0].Duplicate)
	})
}

func TestBatcher_NothingIsStartedWhileDeliveriesLag(t *testing.T) {
	t.Parallel()
	withProgress(t, func(t *testing.T, e *engine, b *emit.Batcher, progress *emit.Progress) {
		var behind atomic.Bool
		behind.Store(true)
		progress.Behind = behind.Load
		refused := emitIDs(t, b, "e1")
		<-refused.done
		require.ErrorIs(t, refused.err, emit.ErrBusy)
		calls := []*emitting{emitIDs(t, b, "e2"), emitIDs(t, b, "e3"), emitIDs(t, b, "e4")}
		time.Sleep(100 * time.Millisecond)
		require.Empty(t, e.begun())
		behind.Store(false)
		time.Sleep(20 * time.Millisecond)
		require.Equal(t, []string{"e2", "e3", "e4"}, e.begun()[0].ids, "what has gathered is one group")
		e.answer()
		for _, call := range calls {
			call.emitted(t)
		}

		// Nothing goes on once nobody waits: the bubble would burst.
		behind.Store(true)
		<-emitIDs(t, b, "e5").done
		time.Sleep(20 * time.Millisecond)
	})
}

// TestBatcher_NoMoreIsOnItsWayThanTheWorkerComesTo: eight workflows' events at most, whose deliveries have not begun; a
// worker elsewhere says nothing, and holds nothing up for long.
func TestBatcher_NoMoreIsOnItsWayThanTheWorkerComesTo(t *testing.T) {
	t.Parallel()
	withProgress(t, func(t *testing.T, e *engine, b *emit.Batcher, progress *emit.Progress) {
		for i := range 8 {
			call := emitIDs(t, b, fmt.Sprintf("e%d", i))
			e.answer()
			call.emitted(t)
		}
		waiting := emitIDs(t, b, "e8", "e9")
		time.Sleep(100 * time.Millisecond)
		require.Len(t, e.begun(), 8)
		progress.Begun("e3")
		require.Len(t, e.begun(), 9)
		e.answer()
		waiting.emitted(t)

		waiting = emitIDs(t, b, "e10")
		require.Len(t, e.begun(), 9)
		progress.Begun("e8")
		progress.Begun("unknown")
		time.Sleep(20 * time.Millisecond)
		require.Len(t, e.begun(), 9, "e9 has not begun")
		progress.Begun("e9")
		require.Len(t, e.begun(), 10)
		e.answer()
		waiting.emitted(t)

		waiting = emitIDs(t, b, "e11")
		time.Sleep(500 * time.Millisecond)
		require.Len(t, e.begun(), 11, "the others count no longer")
		e.answer()
		waiting.emitted(t)
	})
}

// TestBatcher_ADuplicateIsNotOnItsWay: no worker comes to it, so that nothing waits for that.
func TestBatcher_ADuplicateIsNotOnItsWay(t *testing.T) {
	t.Parallel()
	withProgress(t, func(t *testing.T, e *engine, b *emit.Batcher, _ *emit.Progress) {
		began := time.Now()
		for i := range 20 {
			call := emitIDs(t, b, fmt.Sprint("e", i))
			for len(e.begun()) == i {
				time.Sleep(time.Millisecond)
			}
			e.begun()[i].answer <- serviceerror.NewWorkflowExecutionAlreadyStarted("", "", "")
			require.True(t, call.emitted(t)[0].Duplicate)
		}
		require.Zero(t, time.Since(began))
	})
}

// withProgress is inBubble with a worker in the same process.
func withProgress(t *testing.T, f func(*testing.T, *engine, *emit.Batcher, *emit.Progress)) {
	synctest.Test(t, func(t *testing.T) {
		e, progress := &engine{}, emit.NewProgress()
		f(t, e, emit.NewBatcher(e, emit.BatcherOptions{Starts: starts, Progress: progress}), progress)
	})
}

// TestBatcher_WhatAnEndedWorkflowNeverStoredIsStartedAgain: an operator may end one before it has.
func TestBatcher_WhatAnEndedWorkflowNeverStoredIsStartedAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		first := emitIDs(t, b, "e1")
		e.answer()
		first.emitted(t)
		require.True(t, emitIDs(t, b, "e1").emitted(t)[0].Duplicate)
		e.ended = []string{"event-e1"}
		again := emitIDs(t, b, "e1")
		e.answer()
		require.False(t, again.emitted(t)[0].Duplicate)
		require.Len(t, e.begun(), 2)
		e.ended, e.gone = nil, []string{"event-e1"}
		again = emitIDs(t, b, "e1")
		e.answer()
		require.False(t, again.emitted(t)[0].Duplicate, "it was deleted")
		require.Len(t, e.begun(), 3)
	})
}

func TestBatcher_TroubleInLookupIsAnError(t *testing.T) {
	t.Parallel()
	away := errors.New("the database is away")
	for name, c := range map[string]struct {
		lookup func() error
		want   string
	}{
		"error": {func() error { return away }, away.Error()},
		"panic": {func() error { panic("index out of range") }, "emitting panicked: index out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trouble atomic.Bool
			trouble.Store(true)
			lookup := func(_ context.Context, events []webhook.Event) ([]emit.Known, error) {
				if trouble.Load() {
					return nil, c.lookup()
				}
				return make([]emit.Known, len(events)), nil
			}
			inBubble(t, emit.BatcherOptions{Starts: 1, Lookup: lookup}, func(t *testing.T, e *engine, b *emit.Batcher) {
				call := emitIDs(t, b, "e1")
				<-call.done
				require.ErrorContains(t, call.err, c.want)
				require.Empty(t, e.begun())
				trouble.Store(false)
				call = emitIDs(t, b, "e1")
				e.answer()
				call.emitted(t)
			})
		})
	}
}

func TestBatcher_WhatIsInvalidTakesNoPlace(t *testing.T) {
	t.Parallel()
	inBubble(t, emit.BatcherOptions{}, func(t *testing.T, e *engine, b *emit.Batcher) {
		for _, call := range []*emitting{
			emitIDs(t, b, "no id"), emitIDs(t, b), emitIDs(t, b, "e1", "no id"), emitIDs(t, b, "e1", "e1"),
		} {
			<-call.done
			require.True(t, emit.IsInvalid(call.err), "%v", call.err)
		}
		require.Empty(t, e.begun())
		without := emitEvents(t.Context(), b, post(""), post(""))
		e.answer()
		receipts := without.emitted(t)
		require.True(t, webhook.ValidID(receipts[0].ID))
		require.NotEqual(t, receipts[0].ID, receipts[1].ID)
	})
}

// TestBatcher_EveryCallerGetsItsOwn of a crowd whose contexts, ids and starts end in all ways.
func TestBatcher_EveryCallerGetsItsOwn(t *testing.T) {
	t.Parallel()
	e := &crowdedEngine{started: map[string]int{}}
	b := emit.NewBatcher(e, emit.BatcherOptions{Group: 7})
	var all sync.WaitGroup
	var mu sync.Mutex
	accepted := map[string]int{}
	for caller := range 50 {
		all.Go(func() {
			for i := range 40 {
				ids := []string{fmt.Sprintf("c%d-%d", caller, i), fmt.Sprintf("d%d-%d", caller, i), fmt.Sprintf("shared-%d", i)}[:1+(caller+i)%3]
				var events []webhook.Event
				for _, id := range ids {
					events = append(events, post(id))
				}
				ctx, cancel := context.WithCancel(t.Context())
				if i%10 == 9 {
					cancel()
				}
				receipts, err := b.Events(ctx, events)
				cancel()
				if err != nil {
					continue
				}
				mu.Lock()
				for n, id := range ids {
					if receipts[n].ID != id || receipts[n].WorkflowID == "" {
						t.Errorf("%s got %+v", id, receipts[n])
					}
					if !receipts[n].Duplicate {
						accepted[id]++
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Greater(t, len(accepted), 1000)
	for id := range accepted {
		require.Positive(t, e.started[id], id)
	}
	for id, n := range e.started {
		if !strings.HasPrefix(id, "shared") { // those may be in both starts at the same moment
			require.Equal(t, 1, n, id)
		}
	}
	require.Less(t, e.most, 3)
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
	time.Sleep(100 * time.Microsecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now--
	if fails {
		return nil, errors.New("no quorum")
	}
	return nil, nil
}
