package emit_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
)

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
