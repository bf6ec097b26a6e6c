package delivery

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/admission"
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

// TestLag_PlacesAreWaitedFor: where processors are scarce, it is our own fault how late a place comes free.
func TestLag_PlacesAreWaitedFor(t *testing.T) {
	for name, c := range map[string]struct {
		scarce  bool
		waiting int // when a hundred have got their places in each interval
		behind  bool
	}{
		"Few":                  {true, 140, false},
		"More":                 {true, 160, true},
		"ItsReceiversAreSlow":  {false, 10_000, false},
		"TheyHaveAllTheirTurn": {true, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				waiting := 0
				l := lag{isScarce: func() bool { return c.scarce }, waiting: func(botID string) int {
					require.Equal(t, "bot", botID)
					return waiting
				}}
				for range 3 * 100 {
					l.sample("bot", 0)
					time.Sleep(lagInterval / 100)
				}
				waiting = c.waiting // lagTarget is one and a half intervals
				require.Equal(t, c.behind, l.behind())
				waiting = 0
				require.False(t, l.behind(), "at once, when they have their places")
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
	in, held := r.prefetch.inputs[first.key()]
	in.readAt, in.acceptedAt = in.readAt.Add(-2*inputFresh), in.acceptedAt.Add(-2*inputFresh)
	r.prefetch.inputs[first.key()] = in
	r.prefetch.mu.Unlock()
	require.True(t, held)
	r.accepted(t) // which keeps what is late
	require.Equal(t, Delivered, r.mustRun(t, first).Status)
	require.True(t, r.Behind())
}

// TestDeliverer_BehindIsNotWhatReceiversAreWaitedFor: a bot's own receivers set the pace at which its places come free, however
// like ours that pace is. What comes to its place late is late by our own processors.
func TestDeliverer_BehindIsNotWhatReceiversAreWaitedFor(t *testing.T) {
	for _, webhooks := range []int{1, 50} {
		for _, answersIn := range []time.Duration{time.Millisecond, 60 * time.Millisecond, 180 * time.Millisecond, 400 * time.Millisecond} {
			t.Run(fmt.Sprint(webhooks, "webhooks/", answersIn), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := &Deliverer{gate: newGate()}
					ids := make([]uuid.UUID, webhooks)
					for i := range ids {
						ids[i] = uuid.New()
					}
					deliver := func(i int, late time.Duration) {
						in := attemptInput{botID: "bot", acceptedAt: time.Now().Add(-late)}
						if p, ok := d.admit(t.Context(), First("e1", ids[i%webhooks]), in); ok {
							time.Sleep(answersIn)
							p.release(admission.Taken)
						}
					}
					var all sync.WaitGroup
					for i := range 3000 {
						all.Go(func() { deliver(i, lagTarget/10) })
					}
					behind := false
					for range 100 {
						time.Sleep(lagInterval / 5)
						behind = behind || d.Behind()
					}
					all.Wait()
					require.False(t, behind)
					time.Sleep(2 * lagInterval) // then what was is past
					all.Go(func() { deliver(0, lagTarget+1) })
					synctest.Wait()
					require.True(t, d.Behind())
					all.Wait()
				})
			})
		}
	}
}
