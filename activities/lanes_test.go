package activities

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

var hook1, hook2 = uuid.MustParse("00000000-0000-7000-8000-000000000001"), uuid.MustParse("00000000-0000-7000-8000-000000000002")

// inBubble runs f with a clock of its own, which advances when everybody waits.
func inBubble(t *testing.T, f func(t *testing.T, l *lanes)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLanes()
		f(t, l)
		time.Sleep(time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Empty(t, l.webhooks, "nothing is remembered for ever")
		require.Empty(t, l.bots)
	})
}

func mustFast(t *testing.T, l *lanes, hook uuid.UUID, bot string) *turn {
	t.Helper()
	turn, ok := l.fast(t.Context(), hook, bot)
	require.True(t, ok)
	return turn
}

func TestHealthyWebhooksNeverWait(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		start := time.Now()
		for range 100 {
			turn := mustFast(t, l, hook1, "bot")
			defer turn.end(true, true)
		}
		require.Equal(t, start, time.Now())
	})
}

func TestAFailureSendsTheNextToTheSlowLaneOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		mustFast(t, l, hook1, "bot").end(true, false)
		_, ok := l.fast(t.Context(), hook1, "bot")
		require.False(t, ok)
		mustFast(t, l, hook2, "bot").end(true, true) // its neighbour goes on

		start := time.Now()
		first, ok := l.slow(t.Context(), hook1, "bot", true)
		require.True(t, ok)
		require.Equal(t, pauseAfterFailure, time.Since(start), "the webhook is left alone for a moment")
		second := make(chan time.Duration)
		go func() {
			turn, _ := l.slow(t.Context(), hook1, "bot", true)
			second <- time.Since(start)
			turn.end(true, true)
		}()
		time.Sleep(3 * time.Second)
		first.end(true, true)
		require.Equal(t, pauseAfterFailure+3*time.Second, <-second, "one at a time; after a success there is no pause")
	})
}

func TestTenEventsInATwoSecondOutageCostTwoFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		start := time.Now()
		var failures atomic.Int32
		done := make(chan bool)
		for range 10 {
			go func() {
				defer func() { done <- true }()
				turn, ok := l.fast(t.Context(), hook1, "bot")
				for !ok {
					if turn, ok = l.slow(t.Context(), hook1, "bot", failures.Load() > 0); !ok {
						time.Sleep(5 * time.Second) // as the workflow does
					}
				}
				time.Sleep(time.Millisecond)
				success := time.Since(start) > 2*time.Second
				if !success {
					failures.Add(1)
				}
				turn.end(true, success)
			}()
			time.Sleep(100 * time.Millisecond)
		}
		for range 10 {
			<-done
		}
		require.LessOrEqual(t, failures.Load(), int32(2))
	})
}

func TestAHangingExchangeSendsTheNextToTheSlowLane(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		hanging := mustFast(t, l, hook1, "bot")
		time.Sleep(hangingAfter / 2)
		mustFast(t, l, hook1, "bot").end(true, true)
		time.Sleep(hangingAfter)
		_, ok := l.fast(t.Context(), hook1, "bot")
		require.False(t, ok)
		hanging.end(true, false)
	})
}

func TestOneBotsHangingReceiversCannotFillTheFastLane(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		start := time.Now()
		var entered atomic.Int32
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				if turn, ok := l.fast(context.Background(), uuid.New(), "bad"); ok {
					entered.Add(1)
					time.AfterFunc(5*time.Second, func() { turn.end(true, false) })
				}
			})
		}
		all.Wait()
		require.Equal(t, int32(maxFastPerBot), entered.Load())
		require.LessOrEqual(t, time.Since(start), lingeringAfter+lingeringAfter/4, "the others are sent away when it is plain that these hang")
		mustFast(t, l, hook1, "good").end(true, true)
		start = time.Now()
		_, ok := l.fast(t.Context(), hook2, "bad")
		require.False(t, ok)
		require.Equal(t, start, time.Now())
		time.Sleep(5 * time.Second)
	})
}

func TestWhoWaitsForAHangingExchangeSeesItsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		require.False(t, l.settle(t.Context(), hook1, "bot", parkPatience), "nothing is under way")
		hanging := mustFast(t, l, hook1, "bot")
		time.AfterFunc(5*time.Second, func() { hanging.end(true, false) })
		var settled atomic.Int32
		var all sync.WaitGroup
		for range 2 * maxParkedPerBot {
			all.Go(func() {
				if l.settle(context.Background(), hook1, "bot", parkPatience) {
					settled.Add(1)
				}
			})
		}
		start := time.Now()
		all.Wait()
		require.Equal(t, int32(maxParkedPerBot), settled.Load(), "the others are not kept")
		require.Equal(t, 5*time.Second, time.Since(start))

		stuck := mustFast(t, l, hook2, "bot")
		start = time.Now()
		require.True(t, l.settle(t.Context(), hook2, "bot", parkPatience))
		require.Equal(t, parkPatience, time.Since(start))
		stuck.end(true, true)
	})
}

func TestABurstOfHealthyDeliveriesStaysInTheFastLane(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		var all sync.WaitGroup
		for range 10 * maxFastPerBot {
			all.Go(func() {
				turn, ok := l.fast(context.Background(), hook1, "bot")
				if !ok {
					t.Error("deferred")
					return
				}
				time.Sleep(100 * time.Millisecond)
				turn.end(true, true)
			})
		}
		all.Wait()
	})
}

func TestOneBotCannotFillTheSlowLane(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		results := make(chan bool)
		for range 200 {
			go func() {
				turn, ok := l.slow(context.Background(), uuid.New(), "bad", true)
				results <- ok
				if ok {
					time.Sleep(20 * time.Second)
					turn.end(true, false)
				}
			}()
		}
		synctest.Wait()
		for range 200 - maxSlowPerBot - maxWaitingPerBot {
			<-results // refused at once, or given a turn
		}
		start := time.Now()
		good, ok := l.slow(t.Context(), hook1, "good", true)
		require.True(t, ok)
		require.Equal(t, start, time.Now())
		good.end(true, true)
		granted := 0
		for range maxSlowPerBot + maxWaitingPerBot {
			if <-results {
				granted++
			}
		}
		require.LessOrEqual(t, granted, maxSlowPerBot)
		require.Equal(t, slowPatience, time.Since(start), "a wait holds its slot so long and no longer")
	})
}

func TestATestDeliveryWaitsOnlyForAnotherExchangeOfAFailingWebhook(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		mustFast(t, l, hook1, "bot").end(true, false)
		start := time.Now()
		one, ok := l.now(t.Context(), hook1, "bot", true)
		require.True(t, ok)
		require.Equal(t, start, time.Now(), "no pause for a person")
		time.AfterFunc(2*time.Second, func() { one.end(true, false) })
		two, ok := l.now(t.Context(), hook1, "bot", true)
		require.True(t, ok)
		require.Equal(t, 2*time.Second, time.Since(start))
		two.end(false, false)
	})
}

func TestWhatWasNotAttemptedIsNoFailure(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		mustFast(t, l, hook1, "bot").end(false, false)
		mustFast(t, l, hook1, "bot").end(true, true)
	})
}
