package allowance

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func TestLimiter_TakeOne(t *testing.T) {
	t.Parallel()

	t.Run("BurstThenRate/OverAllProcesses", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		rate := webhook.Rate{Burst: 50, PerSecond: 100}
		key := Key{"bot", "example.com:443"}
		var granted atomic.Int32
		began := time.Now()
		var all sync.WaitGroup
		for range 3 { // processes
			l := New(pool, rate)
			for range 20 {
				all.Go(func() {
					for time.Since(began) < 500*time.Millisecond {
						wait, err := l.TakeOne(t.Context(), key)
						if err != nil {
							t.Error(err)
							return
						}
						if wait == 0 {
							granted.Add(1)
						}
					}
				})
			}
		}
		all.Wait()
		most := float64(rate.Burst) + rate.PerSecond*time.Since(began).Seconds() + 1
		require.LessOrEqual(t, float64(granted.Load()), most)
		require.GreaterOrEqual(t, int(granted.Load()), rate.Burst, "what is free is granted")
	})

	t.Run("WaitIsEnough", func(t *testing.T) {
		t.Parallel()
		l := New(dbtest.New(t), webhook.Rate{Burst: 2, PerSecond: 20})
		key := Key{"bot", "example.com:443"}
		var wait time.Duration
		var err error
		granted := 0 // more than the burst where the takes themselves take long
		for ; wait == 0; granted++ {
			wait, err = l.TakeOne(t.Context(), key)
			require.NoError(t, err)
		}
		require.Greater(t, granted, 2)
		require.LessOrEqual(t, wait, 50*time.Millisecond)
		freeIn, err := l.FreeIn(t.Context(), key)
		require.NoError(t, err)
		require.LessOrEqual(t, freeIn, wait)
		time.Sleep(wait) // as long as it said
		freeIn, err = l.FreeIn(t.Context(), key)
		require.NoError(t, err)
		require.Zero(t, freeIn)
		wait, err = l.TakeOne(t.Context(), key)
		require.NoError(t, err)
		require.Zero(t, wait)
	})

	t.Run("TheClockWentBack", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		l := New(pool, webhook.Rate{Burst: 2, PerSecond: 20})
		key := Key{"bot", "example.com:443"}
		take := func() time.Duration {
			t.Helper()
			wait, err := l.TakeOne(t.Context(), key)
			require.NoError(t, err)
			return wait
		}
		require.Zero(t, take())
		_, err := pool.Exec(t.Context(), "UPDATE allowances SET paid_until = paid_until + interval '1 hour', turn = turn + interval '1 hour'")
		require.NoError(t, err)
		freeIn, err := l.FreeIn(t.Context(), key)
		require.NoError(t, err)
		require.Less(t, freeIn, time.Second)
		require.Less(t, take(), time.Second, "the hour is not waited for")
		require.Eventually(t, func() bool { return take() == 0 }, time.Minute, 10*time.Millisecond)
	})

	// A statement that waits for the row finds what later ones have taken.
	t.Run("WhatALaterOneTookIsOwed", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		l := New(pool, webhook.Rate{Burst: 2, PerSecond: 20})
		key := Key{"bot", "example.com:443"}
		_, err := l.TakeOne(t.Context(), key)
		require.NoError(t, err)
		var before, after time.Time
		require.NoError(t, pool.QueryRow(t.Context(), "UPDATE allowances SET paid_until = now() + interval '2 s' RETURNING paid_until").Scan(&before))
		wait, err := l.TakeOne(t.Context(), key)
		require.NoError(t, err)
		require.Positive(t, wait)
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT paid_until FROM allowances").Scan(&after))
		require.Equal(t, before, after)
	})

	t.Run("EachBotAndEndpointHasItsOwn", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		l := New(pool, webhook.Rate{Burst: 1, PerSecond: 0.01})
		var all sync.WaitGroup
		for i := range 100 {
			for _, key := range []Key{{fmt.Sprint("bot", i), "example.com:443"}, {"bot", fmt.Sprint("example.com:", i)}} {
				all.Go(func() {
					wait, err := l.TakeOne(t.Context(), key)
					if err != nil || wait > 0 {
						t.Error(key, wait, err)
					}
				})
			}
		}
		all.Wait()
		// Those of which nothing is used any more are removed.
		_, err := pool.Exec(t.Context(), "UPDATE allowances SET paid_until = now() - interval '1 s', turn = now() - interval '1 s' WHERE bot_id <> 'bot'")
		require.NoError(t, err)
		require.NoError(t, db.New().RemoveAllowances(t.Context(), pool))
		var left int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM allowances").Scan(&left))
		require.Equal(t, 100, left)
	})

	t.Run("PostgresIsAway", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		l := New(pool, webhook.Rate{Burst: 1, PerSecond: 1})
		pool.Close()
		for range 2 { // and again after that
			_, err := l.TakeOne(t.Context(), Key{"bot", "example.com:443"})
			require.Error(t, err)
		}
	})
}

func TestLimiter_TakeForQueue(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	key := Key{"bot", "example.com:443"}
	rate := webhook.Rate{Burst: 40, PerSecond: 100}
	l, other := New(pool, rate), New(pool, rate)

	began := time.Now()
	granted, wait, err := l.TakeForQueue(t.Context(), key, 32)
	require.NoError(t, err)
	require.Equal(t, 32, granted)
	require.Zero(t, wait)
	granted, _, err = l.TakeForQueue(t.Context(), key, 32)
	require.NoError(t, err)
	require.GreaterOrEqual(t, granted, 8, "as many as there are")
	require.LessOrEqual(t, float64(granted), 8+1+rate.PerSecond*time.Since(began).Seconds())

	// The turns of those that are refused follow each other, also in another process, so that what each wants has come free.
	var last time.Duration // the least that the turn before may be: a call says it some time after it has begun
	began = time.Now()
	for i := range 20 {
		from := l
		if i%2 == 1 {
			from = other
		}
		asked := time.Since(began)
		_, wait, err := from.TakeForQueue(t.Context(), key, 20)
		require.NoError(t, err)
		require.Greater(t, time.Since(began)+wait, last)
		last = asked + wait
	}
	require.Greater(t, last, 3*time.Second)
	require.Less(t, last, 6*time.Second+time.Since(began))

	// But none is told to come in a week.
	for range 400 {
		_, wait, err = l.TakeForQueue(t.Context(), key, 1000)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, wait, 5*time.Minute)
}
