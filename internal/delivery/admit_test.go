package delivery

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/admission"
)

var hook = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// fill takes all places of a webhook.
func fill(t *testing.T, g *gate) (permits []*permit) {
	t.Helper()
	for range admission.FirstWindow {
		p, ok := g.enter(t.Context(), hook, "bot")
		require.True(t, ok)
		permits = append(permits, p)
	}
	return permits
}

// TestGate_Enter runs on a clock of its own, which advances when everybody waits.
func TestGate_Enter(t *testing.T) {
	type end struct {
		granted bool
		after   time.Duration
	}
	enter := func(ctx context.Context, g *gate) <-chan end {
		ended := make(chan end, 1)
		began := time.Now()
		go func() {
			p, ok := g.enter(ctx, hook, "bot")
			ended <- end{ok, time.Since(began)}
			if ok {
				p.release(admission.Taken)
			}
		}()
		synctest.Wait()
		return ended
	}
	for name, f := range map[string]func(t *testing.T, g *gate){
		"WaitsHalfASecond": func(t *testing.T, g *gate) {
			permits := fill(t, g)
			require.Equal(t, end{false, admissionPatience}, <-enter(t.Context(), g))
			for _, p := range permits {
				p.release(admission.Taken)
			}
		},
		"GetsAPlaceInTurn": func(t *testing.T, g *gate) {
			permits := fill(t, g)
			first := enter(t.Context(), g)
			time.Sleep(100 * time.Millisecond) // by the bubble's clock
			second := enter(t.Context(), g)
			time.Sleep(100 * time.Millisecond) // by the bubble's clock
			permits[0].release(admission.NotMade)
			require.Equal(t, end{true, 200 * time.Millisecond}, <-first)
			require.Equal(t, end{true, 100 * time.Millisecond}, <-second, "after the first, which gave its place back")
			for _, p := range permits[1:] {
				p.release(admission.Taken)
			}
		},
		"LeavesAtOnceWhenTheWebhookTurnsQueued": func(t *testing.T, g *gate) {
			permits := fill(t, g)
			var waiting []<-chan end
			for range 10 {
				waiting = append(waiting, enter(t.Context(), g))
			}
			g.leave(uuid.New())               // another webhook
			time.Sleep(admissionPatience / 2) // by the bubble's clock
			g.leave(hook)
			for _, ended := range waiting {
				require.Equal(t, end{false, admissionPatience / 2}, <-ended)
			}
			for _, p := range permits {
				p.release(admission.Failed)
			}
		},
		"LeavesWithItsCaller": func(t *testing.T, g *gate) {
			permits := fill(t, g)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.Equal(t, end{false, time.Millisecond}, <-enter(ctx, g))
			for _, p := range permits {
				p.release(admission.Taken)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate()
				f(t, g)
				synctest.Wait()
				inFlight, waiting := g.load()
				require.Equal(t, []int{0, 0}, []int{inFlight, waiting})
			})
		})
	}
}

// TestGate_SlowReceivers: however many bots have receivers that take everything, but in half a second each, they leave the
// others room, and none waits for longer than any.
func TestGate_SlowReceivers(t *testing.T) {
	for _, bots := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(bots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { slowReceivers(t, bots) })
		})
	}
}

func slowReceivers(t *testing.T, bots int) {
	const webhooks, deliveries = 50, groupRoom
	g := newGate()
	ids := make([]uuid.UUID, webhooks*bots)
	for i := range ids {
		ids[i] = uuid.New()
	}
	begun := time.Now()
	left := make(chan time.Duration, deliveries*bots)
	var all sync.WaitGroup
	for i := range deliveries * bots {
		all.Go(func() {
			p, ok := g.enter(t.Context(), ids[i%len(ids)], fmt.Sprint("slow", i%bots))
			if !ok {
				left <- time.Since(begun)
				return
			}
			// Not all at one moment: it would be one of those at which a wait is looked at.
			time.Sleep(450*time.Millisecond + time.Duration(i%10)*10*time.Millisecond) // by the bubble's clock
			p.release(admission.Taken)
		})
	}
	synctest.Wait()
	inFlight, waiting := g.load()
	room := groupRoom - inFlight - waiting
	// Nearly the same for each: in which order they come decides the rest.
	require.InEpsilon(t, (groupRoom-inFlight)/(bots+1), room, 0.05, "the next bot has room, and those who are slow have the rest")
	all.Wait()
	close(left)
	for after := range left {
		require.LessOrEqual(t, after, longestAdmission+admissionPatience)
	}
}
