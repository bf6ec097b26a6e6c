package delivery

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func (r *rig) pause(t testing.TB, scope history.PauseScope, value string) {
	t.Helper()
	_, err := (&history.Pauses{Pool: r.pool}).Begin(t.Context(), scope, value, "a reason")
	require.NoError(t, err)
}

func (r *rig) resume(t testing.TB, scope history.PauseScope, value string) {
	t.Helper()
	require.NoError(t, (&history.Pauses{Pool: r.pool}).End(t.Context(), scope, value))
}

// TestAccept_Paused: what comes in for a paused webhook stands in its queue, in order, and nobody is woken for it. The webhook
// becomes queued, so that once the pause is over nothing overtakes what waits. Others are delivered to as ever.
func TestAccept_Paused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scope history.PauseScope
		value string
	}{"all": {history.PauseAll, ""}, "bot": {history.PauseBot, "bot"}, "host": {history.PauseHost, "127.0.0.1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			id := r.subscribe(t, "https://127.0.0.1:8443/hook", "")
			r.execute(t, "INSERT INTO bots (id, name) VALUES ('another', 'bot')")
			other := r.subscribe(t, "https://other.example/hook", "")
			r.set(t, other, "bot_id = 'another'")
			r.pause(t, c.scope, c.value)
			var ids []string
			for range 3 {
				e := anEvent()
				ids = append(ids, e.ID)
				a := r.accept(t, e, "run")
				if c.scope == history.PauseAll {
					require.Equal(t, 2, a.Queued)
					continue
				}
				require.Equal(t, 1, a.Queued)
				require.Equal(t, other, a.Targets[0].WebhookID)
			}
			var waiting []string
			for _, row := range r.planned(t, id) {
				waiting = append(waiting, row.EventID)
			}
			require.Equal(t, ids, waiting)
			require.Empty(t, r.taken())
			require.True(t, r.isQueued(t, id))
			require.Equal(t, c.scope == history.PauseAll, r.isQueued(t, other))

			r.resume(t, c.scope, c.value)
			require.Equal(t, 1, r.accept(t, anEvent(), "run").Queued-r.count(t, "webhooks WHERE queued AND id = $1", other))
			require.Len(t, r.planned(t, id), 4)
		})
	}
}

// TestRun_PausedMeanwhile: a direct attempt that a pause finds waiting turns to the queue, in its place of the order, as soon
// as what it has read is older than two seconds; what it reads anew, at once.
func TestRun_PausedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, prefetched := range map[string]bool{"read long ago": true, "not read yet": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, receiver := newRig(t), newReceiver(t, 200)
			id := r.subscribe(t, receiver.url, "")
			var e webhook.Event
			if prefetched {
				e = r.accepted(t)
				r.prefetch.mu.Lock()
				for key, in := range r.prefetch.inputs {
					in.readAt = in.readAt.Add(-inputFresh)
					r.prefetch.inputs[key] = in
				}
				r.prefetch.mu.Unlock()
			} else {
				e = r.storedElsewhere(t)
			}
			r.pause(t, history.PauseAll, "")
			require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)))
			require.Zero(t, receiver.hits.Load())
			require.Equal(t, e.ID, r.planned(t, id)[0].EventID)
			require.Negative(t, r.planned(t, id)[0].DueIn, "since it was accepted")
			require.True(t, r.isQueued(t, id))
			require.Empty(t, r.taken())
		})
	}
}

// TestRenew_Paused: an attempt that has waited for its turn looks again before it is made, whoever asked for it.
func TestRenew_Paused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.subscribe(t, "https://127.0.0.1/hook", "")
	e := r.storedElsewhere(t)
	row := r.plan(t, id, e.ID, webhook.TriggerRetry, 0)
	before, skipped, err := r.load(t.Context(), queued(id, row))
	require.NoError(t, err)
	require.Empty(t, skipped)
	before.readAt = before.readAt.Add(-inputFresh)
	r.pause(t, history.PauseBot, "bot")
	for name, c := range map[string]struct {
		attempt Attempt
		want    Result
	}{
		"the queue's": {queued(id, row), Result{Status: Queued}},
		"a person's":  {Attempt{EventID: e.ID, WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver}, Result{Status: Skipped, Error: Paused}},
		"a direct":    {First(e.ID, id), Result{Status: Queued}},
	} {
		_, done, err := r.renew(t.Context(), c.attempt, before)
		require.NoError(t, err)
		require.Equal(t, c.want, *done, name)
	}
	require.Equal(t, row, r.planned(t, id)[0].Row, "it stands where it stood")
}

// TestRenew_NotVerified: an attempt of the queue that has waited for its turn until its webhook had another URL stays planned, as what
// comes after it does.
func TestRenew_NotVerified(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Verification = webhook.VerificationRequire })
	id := r.subscribe(t, "https://127.0.0.1/hook", "")
	r.set(t, id, "verified_at = now()")
	e := r.storedElsewhere(t)
	row := r.plan(t, id, e.ID, webhook.TriggerRetry, 0)
	before, skipped, err := r.load(t.Context(), queued(id, row))
	require.NoError(t, err)
	require.Empty(t, skipped)
	before.readAt = before.readAt.Add(-inputFresh)
	r.move(t, id, "https://127.0.0.1/elsewhere")
	_, done, err := r.renew(t.Context(), queued(id, row), before)
	require.NoError(t, err)
	require.Equal(t, &Result{Status: Queued}, done)
}

// TestRunRound_Paused: a round makes no attempt at a paused webhook, not even what a person asked for, and leaves everything
// as it was: rows, counts, modes. Once the pause is over it goes on.
func TestRunRound_Paused(t *testing.T) {
	t.Parallel()
	r, receiver := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, receiver.url, "")
	r.set(t, id, "failure_count = 3, failure_run = 1, queued = true")
	var rows []history.Row
	for _, trigger := range []webhook.Trigger{webhook.TriggerEvent, webhook.TriggerRetry, webhook.TriggerRecover, webhook.TriggerTest} {
		rows = append(rows, r.plan(t, id, r.storedElsewhere(t).ID, trigger, -time.Minute))
	}
	slices.Reverse(rows) // a person's first
	r.pause(t, history.PauseHost, "127.0.0.1")
	before := r.planned(t, id)
	result, err := r.RunRound(t.Context(), Round{WebhookID: id, BotID: "bot", Rows: rows, Window: 4})
	require.NoError(t, err)
	require.Zero(t, result.Made)
	require.Equal(t, 4, result.Window)
	require.Equal(t, QueueStep{Kind: AwaitTime, Wait: pausedSleep}, NextStep(result.State, result.Window))
	require.Equal(t, "a reason", result.State.Paused.Reason)
	require.Equal(t, rowsOf(before), rowsOf(r.planned(t, id)))
	for _, row := range rows { // of a round that was narrowed before the pause
		require.Equal(t, Result{Status: Queued}, r.mustRun(t, queued(id, row)))
	}
	require.Equal(t, rowsOf(before), rowsOf(r.planned(t, id)))
	require.Zero(t, receiver.hits.Load())
	require.Equal(t, 3, r.failures(t, id))
	require.Zero(t, r.deliveries(t, id))

	r.resume(t, history.PauseHost, "127.0.0.1")
	result, err = r.RunRound(t.Context(), Round{WebhookID: id, BotID: "bot", Rows: rows[:1], Window: 1})
	require.NoError(t, err)
	require.Equal(t, 4, result.Made)
}

// TestLook_Paused: it does not wait for the rest of a failing webhook, as nothing comes after it.
func TestLook_Paused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.subscribe(t, "https://127.0.0.1/hook", "")
	r.set(t, id, "failure_count = 3, queued = true, resume_at = now() + interval '3 seconds'")
	r.plan(t, id, "e", webhook.TriggerEvent, -time.Minute)
	r.pause(t, history.PauseAll, "")
	state, err := r.Look(t.Context(), id, 1)
	require.NoError(t, err)
	require.Greater(t, state.ResumeIn, time.Second)
}

// TestPrepareManual_Paused: of what a person asks for nothing is stored, planned or sent.
func TestPrepareManual_Paused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.subscribe(t, "https://127.0.0.1/hook", "")
	e := r.storedElsewhere(t)
	r.sentBefore(t, id, e.ID, 1)
	r.pause(t, history.PauseBot, "bot")
	in := TestEvent{WebhookID: id, EventID: "t1", WorkflowID: "test-t1", RunID: "run", At: time.Now()}
	paused := Route{Ended: &Result{Status: Skipped, Error: Paused}}
	for name, prepare := range map[string]func() (Route, error){
		"test":         func() (Route, error) { return r.PrepareTest(t.Context(), in) },
		"verification": func() (Route, error) { return r.PrepareVerification(t.Context(), in) },
		"redelivery": func() (Route, error) {
			return r.PrepareRedelivery(t.Context(), Attempt{EventID: e.ID, WebhookID: id, Number: 2})
		},
	} {
		route, err := prepare()
		require.NoError(t, err)
		require.Equal(t, paused, route, name)
	}
	require.Zero(t, r.count(t, "events WHERE id = 't1'"))
	require.Empty(t, r.planned(t, id))
	require.Equal(t, Result{Status: Skipped, Error: Paused}, r.mustRun(t, Attempt{EventID: e.ID, WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver}))
}

// TestRun_KeptForAPause: what waited for a pause for longer than events are kept is sent all the same.
func TestRun_KeptForAPause(t *testing.T) {
	t.Parallel()
	r, receiver := newRig(t, func(c *Config) { c.Retention = webhook.Retention(24 * time.Hour) }), newReceiver(t, 200)
	id := r.subscribe(t, receiver.url, "")
	run := func() Result {
		e := r.storedElsewhere(t)
		r.execute(t, "UPDATE events SET accepted_at = now() - interval '25 hours' WHERE id = $1", e.ID)
		return r.mustRun(t, queued(id, r.plan(t, id, e.ID, webhook.TriggerEvent, -time.Hour)))
	}
	require.Equal(t, EventGone, run().Error)
	r.pause(t, history.PauseAll, "")
	require.Equal(t, Queued, run().Status)
	r.resume(t, history.PauseAll, "")
	require.Equal(t, Delivered, run().Status)
	r.execute(t, "UPDATE queue_sweeps SET resumed_at = now() - interval '25 hours'")
	require.Equal(t, EventGone, run().Error)
}

// TestQueueDelay: what a pause has held up is late from its end on only.
func TestQueueDelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Meter = metric.NewMeterProvider().Meter("test") })
	first := First("e", uuid.New())
	ofQueue := queued(first.WebhookID, history.Row{EventID: "e", Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent})
	now := time.Now()
	delay := func(a Attempt, waited time.Duration) time.Duration {
		return r.queueDelay(t.Context(), a, attemptInput{event: storedEvent{AcceptedAt: now.Add(-waited)}}, now).Round(time.Second)
	}
	require.Equal(t, time.Hour, delay(ofQueue, time.Hour))
	r.pause(t, history.PauseAll, "")
	r.resume(t, history.PauseAll, "")
	require.Zero(t, delay(ofQueue, time.Hour))
	r.execute(t, "UPDATE queue_sweeps SET resumed_at = now() - interval '2 minutes'")
	require.Equal(t, 2*time.Minute, delay(ofQueue, time.Hour))
	require.Equal(t, time.Minute, delay(ofQueue, time.Minute))
	require.Equal(t, time.Hour, delay(first, time.Hour), "which no pause has held up")
	ofQueue.Trigger = webhook.TriggerRetry
	require.Negative(t, r.queueDelay(t.Context(), ofQueue, attemptInput{event: storedEvent{AcceptedAt: now}}, now))
}
