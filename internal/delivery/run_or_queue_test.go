package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/webhook"
)

// TestDeliverer_RunOrQueue: which attempts are made at once, and which are left to the queue.
func TestDeliverer_RunOrQueue(t *testing.T) {
	t.Parallel()

	t.Run("QueuedWebhooksAttemptIsLeftToItsQueue", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		e := r.storedElsewhere(t) // accepted while it was direct
		r.execute(t, "UPDATE events SET accepted_at = now() - interval '1 minute'")
		for range 2 {
			require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)))
			rows := r.planned(t, id)
			require.Len(t, rows, 1)
			require.InDelta(t, -time.Minute, rows[0].DueIn, float64(10*time.Second), "its turn is that of its acceptance")
		}
		require.Equal(t, []uuid.UUID{id}, r.taken())
		require.Empty(t, to.requests())
	})

	t.Run("PlannedAttemptIsLeftToTheQueue", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		e := r.storedElsewhere(t)
		r.plan(t, id, e.ID, webhook.TriggerEvent, time.Minute) // by a fault of our own
		require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)))
		require.Empty(t, to.requests())
	})

	t.Run("FullWindowIsLeftToTheQueue", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		_, release := to.held(t)
		var inFlight []<-chan runEnd
		for range admission.FirstWindow {
			inFlight = append(inFlight, r.start(First(r.accepted(t).ID, id)))
		}
		to.arrived(t, admission.FirstWindow)
		e := r.accepted(t)
		began := time.Now()
		require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)))
		require.GreaterOrEqual(t, time.Since(began), admissionPatience)
		require.True(t, r.isQueued(t, id))
		require.Equal(t, e.ID, r.planned(t, id)[0].EventID)
		require.Equal(t, []uuid.UUID{id}, r.taken())
		require.EqualValues(t, admission.FirstWindow, to.hits.Load(), "what hangs holds four places, however much there is to send")
		require.Zero(t, r.failures(t, id), "that is no failure")
		release()
		for _, ended := range inFlight {
			require.Equal(t, Delivered, (<-ended).Status)
		}
	})

	// Those who wait leave as soon as their webhook turns queued, without their half second.
	t.Run("FailureSendsThoseAwayWhoWait", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		hold, release := to.held(t)
		var attempts []Attempt
		for range admission.FirstWindow + 10 {
			attempts = append(attempts, First(r.accepted(t).ID, id))
		}
		run := func(a Attempt, ended chan<- Result) {
			result, _ := r.Run(context.Background(), a)
			ended <- result
		}
		inFlight, waiters := make(chan Result, admission.FirstWindow), make(chan Result, 10)
		for _, a := range attempts[:admission.FirstWindow] {
			go run(a, inFlight)
		}
		to.arrived(t, admission.FirstWindow)
		for _, a := range attempts[admission.FirstWindow:] {
			go run(a, waiters)
		}
		require.Eventually(t, func() bool { _, waiting := r.gate.load(); return waiting+len(waiters) == 10 }, 3*time.Minute, time.Millisecond)
		hold <- struct{}{}
		require.Equal(t, Failed, (<-inFlight).Status)
		_, waiting := r.gate.load()
		require.Zero(t, waiting, "they have left by now")
		for range 9 { // one may get the place of the failed one, and hang
			require.Equal(t, Result{Status: Queued}, <-waiters)
		}
		defer func() { <-waiters }()
		defer release()
		require.LessOrEqual(t, to.hits.Load(), int32(admission.FirstWindow+1))
		require.Equal(t, 1, r.failures(t, id))
		still, _ := r.gate.load()
		require.LessOrEqual(t, still, admission.FirstWindow)
	})

	t.Run("BurstToAQuickReceiverStaysDirect", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		const burst = 200
		var ended []<-chan runEnd
		for range burst {
			ended = append(ended, r.start(First(r.accepted(t).ID, id)))
		}
		for _, e := range ended {
			require.Equal(t, Delivered, (<-e).Status)
		}
		require.Zero(t, r.count(t, "queue"))
		require.False(t, r.isQueued(t, id))
		require.Equal(t, burst, r.deliveries(t, id))
	})
}
