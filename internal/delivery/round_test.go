package delivery

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func (r *rig) round(t testing.TB, round Round) RoundResult {
	t.Helper()
	result, err := r.RunRound(t.Context(), round)
	require.NoError(t, err)
	return result
}

func TestDeliverer_RunRound(t *testing.T) {
	t.Parallel()

	t.Run("SendsInOrderOfAcceptance", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		var want, got []string
		for range 6 {
			want = append(want, r.accepted(t).ID)
		}
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Len(t, state.Due, 1)
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1})
		require.Equal(t, []int{6, 0, 4}, []int{result.Made, result.Failed, result.Window}, "it goes on while all are taken: 1, 2, and 3 of 4")
		for _, req := range to.requests() {
			got = append(got, req.header.Get("webhook-id"))
		}
		for _, window := range [][2]int{{0, 1}, {1, 3}, {3, 6}} { // those of a window are sent at once
			require.ElementsMatch(t, want[window[0]:window[1]], got[window[0]:window[1]])
		}
		require.Zero(t, r.count(t, "queue"))
		require.False(t, r.isQueued(t, id), "with nothing left it is direct again")
	})

	t.Run("SendsAWindowAtOnce", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		for range 12 {
			r.accepted(t)
		}
		_, release := to.held(t)
		state, err := r.Look(t.Context(), id, 8)
		require.NoError(t, err)
		go func() {
			to.arrived(t, 8) // more than a direct webhook's window
			release()
		}()
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 32})
		require.Equal(t, 8, result.Made)
		require.Len(t, result.State.Due, 4)
	})

	t.Run("WhatGetsNoPlaceStaysPlanned", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, func(cfg *Config) {
			cfg.Egress = egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true, MaxInFlight: 2, Timeout: time.Minute})
			t.Cleanup(cfg.Egress.Close)
		}), newReceiver(t, 200)
		direct, id := r.subscribe(t, to.url, ""), r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		event := r.accepted(t)
		_, release := to.held(t)
		first := r.start(First(event.ID, direct)) // has the one place that the bot may have
		to.arrived(t, 1)
		began := time.Now()
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{{EventID: event.ID, Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}}, Window: 1})
		require.Zero(t, result.Made)
		require.GreaterOrEqual(t, time.Since(began), roundPatience)
		require.Equal(t, 1, r.count(t, "queue"))
		release()
		require.NoError(t, (<-first).err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: result.State.Due, Window: 1}).Made)
	})

	t.Run("AfterAFailureComesOne", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		for range 6 {
			r.accepted(t)
		}
		state, err := r.Look(t.Context(), id, 2)
		require.NoError(t, err)
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 4})
		require.Equal(t, []int{2, 2}, []int{result.Made, result.Failed})
		require.Equal(t, []int{1, 2}, []int{len(result.State.Due), result.State.FailureCount})
		require.Equal(t, "HTTP 500", result.State.LastError)
		require.Equal(t, 6, r.count(t, "queue"), "those that failed wait for their retries")
		require.Positive(t, result.State.ResumeIn, "after a pause, which Look waits out")
	})

	t.Run("RepeatedAfterACrashSendsNothingAgain", func(t *testing.T) {
		t.Parallel()
		r, well, bad := newRig(t), newReceiver(t, 200), newReceiver(t, 500)
		for _, to := range []*receiver{well, bad} {
			id := r.subscribe(t, to.url, "")
			round := Round{WebhookID: id, BotID: "bot", Rows: []history.Row{r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerEvent, 0)}, Window: 1}
			first := r.round(t, round)
			require.Equal(t, 1, first.Made)
			again := newRigOn(t, r.pool).round(t, round)
			require.Zero(t, again.Failed)
			require.EqualValues(t, 1, to.hits.Load())
			require.Equal(t, 1, r.deliveries(t, id))
		}
	})

	t.Run("WhatIsSkippedLeavesTheQueue", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		for name, change := range map[string]string{
			"unsubscribed": "UPDATE webhooks SET events = '{mention}' WHERE id = $1",
			"disabled":     "UPDATE webhooks SET is_active = false WHERE id = $1",
			"event gone":   "DELETE FROM events WHERE $1::uuid IS NOT NULL",
			"deleted":      "DELETE FROM webhooks WHERE id = $1",
		} {
			id := r.subscribe(t, to.url, "")
			row := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerEvent, 0)
			r.execute(t, change, id)
			result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1})
			require.Zero(t, result.Made, name)
			require.Empty(t, r.planned(t, id), name)
			require.Equal(t, name == "deleted", result.State.Gone)
		}
		require.Empty(t, to.requests())
	})

	t.Run("WhatIsPlannedNoMoreIsNotSent", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		cleared := history.Row{EventID: r.storedElsewhere(t).ID, Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}
		later := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerEvent, 0)
		r.execute(t, "UPDATE queue SET attempt = 2")
		for _, row := range []history.Row{cleared, later} {
			require.Equal(t, Result{Status: Skipped, Error: NotPlanned}, r.mustRun(t, queued(id, row)))
		}
		require.Zero(t, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{cleared, later}, Window: 1}).Made)
		require.Empty(t, to.requests())
		require.Len(t, r.planned(t, id), 1, "a later attempt's plan stays")
	})

	t.Run("WhatIsRecordedLeavesTheQueue", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		e := r.accepted(t)
		r.mustRun(t, First(e.ID, id)) // a recovery had planned it while it was in flight
		row := r.plan(t, id, e.ID, webhook.TriggerRecover, 0)
		r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1})
		require.Empty(t, r.planned(t, id))
		require.Len(t, to.requests(), 1)
	})

	t.Run("NothingInThePauseOfAFailureMeanwhile", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		for range 8 {
			r.accepted(t)
		}
		state, err := r.Look(t.Context(), id, 8)
		require.NoError(t, err)
		round := Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 8}
		r.set(t, id, "failure_count = 1, early_failures = 1, failure_run = 1, resume_at = now() + interval '1 h'")
		require.Zero(t, r.round(t, round).Made)
		r.set(t, id, "resume_at = NULL")
		require.Equal(t, 1, r.round(t, round).Failed, "then one")
		require.Len(t, to.requests(), 1)
		require.Equal(t, 2, r.failures(t, id))
	})

	t.Run("WhatFailsTogetherCountsFive", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		for range LargestWindow {
			r.accepted(t)
		}
		state, err := r.Look(t.Context(), id, LargestWindow)
		require.NoError(t, err)
		require.Equal(t, LargestWindow, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: LargestWindow}).Failed)
		require.Equal(t, 5, r.failures(t, id), "however long Postgres takes to prepare the last of them")
		require.Len(t, to.requests(), LargestWindow)
	})

	t.Run("WhatWasTakenIsNotRecovered", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		e := r.accepted(t)
		r.mustRun(t, First(e.ID, id))
		row := r.plan(t, id, e.ID, webhook.TriggerRecover, 0)
		row.Attempt = 2
		r.execute(t, "UPDATE queue SET attempt = 2")
		require.Equal(t, Result{Status: Skipped, Error: AlreadyTaken}, r.mustRun(t, queued(id, row)))
		r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1})
		require.Empty(t, r.planned(t, id))
		require.Len(t, to.requests(), 1)
	})

	t.Run("OwnFaultPutsItOff", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withoutSockets(t))
		id := r.subscribe(t, unresolved, "")
		row := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerEvent, -time.Minute)
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1})
		require.Equal(t, []int{0, 0, 0}, []int{result.Made, result.Failed, len(result.State.Due)})
		rows := r.planned(t, id)
		require.Len(t, rows, 1)
		require.Equal(t, row, rows[0].Row)
		require.InDelta(t, ownFaultDelay, rows[0].DueIn, float64(ownFaultDelay)*0.2+float64(3500*time.Millisecond))
		require.Zero(t, r.deliveries(t, id))
		require.Zero(t, r.failures(t, id))
	})

	t.Run("BusyBotIsTurnedAway", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		row := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerEvent, 0)
		for range maxRoundsPerBot {
			_, begun := r.rounds.begin("bot", time.Now())
			require.True(t, begun)
		}
		result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1})
		require.GreaterOrEqual(t, result.BusyFor, shortestBusy)
		require.Equal(t, RoundResult{BusyFor: result.BusyFor}, result)
		require.Empty(t, to.requests())
		r.rounds.end("bot")
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1}).Made)
	})
}

// TestBotRounds: those who are turned away come again one after the other, as far apart as it takes.
func TestBotRounds(t *testing.T) {
	t.Parallel()
	rounds, now := newBotRounds(), time.Now()
	for range maxRoundsPerBot {
		_, begun := rounds.begin("bot", now)
		require.True(t, begun)
	}
	var last time.Duration
	for i := range 100 {
		wait, begun := rounds.begin("bot", now)
		require.False(t, begun)
		require.Equal(t, shortestBusy+time.Duration(i)*webhook.AttemptTimeout/maxRoundsPerBot, wait)
		last = wait
	}
	for range 10_000 {
		last, _ = rounds.begin("bot", now)
	}
	require.Equal(t, longestBusy, last)
	wait, begun := rounds.begin("bot", now.Add(time.Hour))
	require.Equal(t, []any{shortestBusy, false}, []any{wait, begun}, "times that are past do not count")
	_, begun = rounds.begin("another", now)
	require.True(t, begun)
	require.Equal(t, maxRoundsPerBot+1, rounds.total())
	rounds.end("another")
	for range maxRoundsPerBot {
		rounds.end("bot")
	}
	require.Empty(t, rounds.bots, "nothing is remembered for ever")
}

func TestDeliverer_Look(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	add := func(t *testing.T, resume string, due time.Duration) uuid.UUID {
		id := r.subscribe(t, "https://example.com", "")
		r.set(t, id, "queued = true, failure_count = 3, failure_run = 1, resume_at = now() + interval '"+resume+"'")
		r.plan(t, id, "e", webhook.TriggerEvent, due)
		return id
	}
	look := func(t *testing.T, id uuid.UUID) history.QueueState {
		s, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		return s
	}
	t.Run("WaitsOutAPause", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		s := look(t, add(t, "500 ms", -time.Second))
		require.Zero(t, s.ResumeIn)
		require.Len(t, s.Due, 1)
		require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
	})
	t.Run("DoesNotWaitForALongOne", func(t *testing.T) {
		t.Parallel()
		s := look(t, add(t, "30 s", -time.Second))
		require.Greater(t, s.ResumeIn, 20*time.Second)
	})
	t.Run("NorWithNothingDue", func(t *testing.T) {
		t.Parallel()
		s := look(t, add(t, "3 s", time.Hour))
		require.NotZero(t, s.ResumeIn)
	})
	t.Run("NorForAPersonsAttempt", func(t *testing.T) {
		t.Parallel()
		id := add(t, "3 s", time.Hour)
		r.plan(t, id, "a test", webhook.TriggerTest, -time.Hour)
		s := look(t, id)
		require.NotZero(t, s.ResumeIn)
		require.Len(t, s.Due, 1)
	})
	t.Run("NorWhenNobodyWaits", func(t *testing.T) {
		t.Parallel()
		id := add(t, "3 s", -time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, err := r.Look(ctx, id, 1)
		require.ErrorIs(t, err, context.Canceled)
	})
}
