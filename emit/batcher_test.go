package emit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

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
	require.Greater(t, len(accepted), 200, "many, though a busy machine refuses more")
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
