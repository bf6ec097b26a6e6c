package emit_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

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
