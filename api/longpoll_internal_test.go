package api

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestABotThatDoesNotWaitMayAlways, however many others wait, and however many polls each has.
func TestABotThatDoesNotWaitMayAlways(t *testing.T) {
	t.Parallel()
	for _, each := range []int{maxWaitingPerBot, 3, 1} {
		a := newWaiting(nil, nil)
		a.looking = true // there is no database to look at
		began := time.Now()
		var all []*waiter
		enter := func(bot string) *waiter {
			w := &waiter{botID: bot, since: began.Add(time.Duration(len(all))), woken: make(chan struct{}, 1), early: make(chan struct{})}
			require.NoError(t, a.enter(w))
			all = append(all, w)
			return w
		}
		ended := func() (n int) {
			for _, w := range all {
				select {
				case <-w.early:
					n++
				default:
				}
			}
			return n
		}
		for i := range maxWaiting {
			enter(fmt.Sprint(i / each))
		}
		require.Zero(t, ended())
		enter("new")
		require.Equal(t, 1, ended(), "one makes room")
		if each == 1 { // nobody has more: a second ends the bot's own first
			first := enter("newer")
			enter("newer")
			<-first.early
		} else {
			enter("new")
		}
		require.Len(t, a.calls, maxWaiting)
		for _, w := range all {
			a.leave(w)
		}
		require.Empty(t, a.calls)
		require.Empty(t, a.ofBot)
	}
}

// TestTheLongestWaitEndsAsAtItsEnd, for the bot that has the most.
func TestTheLongestWaitEndsAsAtItsEnd(t *testing.T) {
	t.Parallel()
	a := newWaiting(nil, nil)
	a.looking = true
	results := make(chan error)
	go func() {
		over, err := a.await(context.Background(), waiter{botID: "many"}, time.Now().Add(time.Minute))
		if err == nil && !over {
			err = fmt.Errorf("woken")
		}
		results <- err
	}()
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.calls) == 1
	}, 3*time.Minute, time.Millisecond)
	for i := 1; i < maxWaiting; i++ {
		bot := fmt.Sprint(i)
		if i == 1 {
			bot = "many"
		}
		require.NoError(t, a.enter(&waiter{botID: bot, since: time.Now().Add(time.Second), woken: make(chan struct{}, 1), early: make(chan struct{})}))
	}
	require.NoError(t, a.enter(&waiter{botID: "new", early: make(chan struct{}), woken: make(chan struct{}, 1)}))
	require.NoError(t, <-results)
}

// TestALogThatHasLostItsLastEventsIsWaitedForAsItIs: calls that are behind what was there would be woken again and again.
func TestALogThatHasLostItsLastEventsIsWaitedForAsItIs(t *testing.T) {
	t.Parallel()
	events := db.NewEventReader(dbtest.New(t))
	state, err := events.State(t.Context(), 0)
	require.NoError(t, err)
	last, _, err := newWaiting(events, nil).since(state.Last + 1)
	require.NoError(t, err)
	require.Equal(t, state.Last, last)
}
