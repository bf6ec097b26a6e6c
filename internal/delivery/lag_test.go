package delivery

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLag_Behind(t *testing.T) {
	for name, c := range map[string]struct {
		late, prompt int // bots
		behind       bool
	}{
		"Nothing":          {0, 0, false},
		"TheOnlyBot":       {1, 0, true},
		"OneBotOfTwo":      {1, 1, false},
		"MostBots":         {2, 1, true},
		"AllBotsArePrompt": {0, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l lag
				for i := range c.late {
					for range 100 { // however many its attempts are
						l.sample(fmt.Sprint("late", i), 10*lagTarget)
					}
				}
				for i := range c.prompt {
					l.sample(fmt.Sprint("prompt", i), lagTarget/10)
				}
				require.Equal(t, c.behind, l.behind())
				time.Sleep(lagInterval)
				require.Equal(t, c.behind, l.behind(), "one interval later")
				time.Sleep(lagInterval)
				require.False(t, l.behind(), "what was is past")
			})
		})
	}
}

// A delivery that begins so late that it has to read Postgres again counts more than any.
func TestDeliverer_BehindByMoreThanAPrefetchLasts(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	first := First(r.accepted(t).ID, id)
	r.prefetch.mu.Lock()
	in, held := r.prefetch.inputs[first.ID()]
	in.readAt = in.readAt.Add(-2 * prefetchFresh)
	r.prefetch.inputs[first.ID()] = in
	r.prefetch.mu.Unlock()
	require.True(t, held)
	r.accepted(t) // which keeps what is late
	require.Equal(t, Delivered, r.mustRun(t, first).Status)
	require.True(t, r.Behind())
}
