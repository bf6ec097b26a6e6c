package emit_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

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
				r, err := emit.Event(t.Context(), e, post("e1"), emit.ConvertedBy(client.Options{}.DataConverter))
				assert.NoError(t, err)
				receipt <- r
			}()
			e.answer()
			require.Equal(t, emit.Receipt{ID: "e1", WorkflowID: "event-e1", Duplicate: true, Conflict: starts == 1}, <-receipt)
			require.Len(t, e.begun(), starts)
		})
	}
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
