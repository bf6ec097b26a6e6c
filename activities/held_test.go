package activities

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestABotInTroubleIsHeldBackAndNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, _ := receiver(t, answering(200))
	mine := map[uuid.UUID]bool{}
	for range maxInHandInTrouble + 4 {
		mine[r.subscribe(t, url, "")] = true
	}
	execute(t, r.pool, "INSERT INTO bots (id, name) VALUES ('other', 'other')")
	other := r.subscribe(t, url, "")
	execute(t, r.pool, "UPDATE webhooks SET bot_id = 'other' WHERE id = $1", other)

	var turns []*turn
	for range maxLingering {
		turns = append(turns, mustFast(t, r.lanes, uuid.New(), "bot"))
	}
	require.Empty(t, r.accept(t, anEvent(), "run").Held, "there is no telling yet")
	time.Sleep(lingeringAfter)
	e := anEvent()
	audience := r.accept(t, e, "run")
	require.Equal(t, []string{"bot"}, audience.Held)
	require.Len(t, audience.Targets, 1)
	require.Equal(t, other, audience.Targets[0].WebhookID)

	// Then it gets as much as a bot in trouble may have in hand, and the rest when that has gone through.
	time.Sleep(handoffFresh) // nothing of the first event is on its way any more
	for _, turn := range turns {
		turn.end(true, true)
	}
	in := HeldInput{EventID: e.ID, BotID: "bot", Upto: uuid.Max}
	for _, want := range []int{maxInHandInTrouble, 4} {
		admitted, err := r.AdmitHeld(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, admitted.Targets, want)
		for _, target := range admitted.Targets {
			require.True(t, mine[target.WebhookID], "another's, or the same again")
			delete(mine, target.WebhookID)
			in.After = target.WebhookID
			result, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: target.WebhookID, Attempt: 1})
			require.NoError(t, err)
			require.Equal(t, Delivered, result.Status)
		}
	}
	require.Empty(t, mine)
}

func TestABotThatStaysInTroubleIsAskedAboutRarely(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	id := r.subscribe(t, "https://example.com", "")
	for range maxLingering {
		defer mustFast(t, r.lanes, uuid.New(), "bot").end(true, false)
	}
	time.Sleep(lingeringAfter)
	e := anEvent()
	require.Equal(t, []string{"bot"}, r.accept(t, e, "run").Held)
	in := HeldInput{EventID: e.ID, BotID: "bot", Upto: uuid.Max, Round: 1}
	admitted, err := r.AdmitHeld(t.Context(), in)
	require.NoError(t, err)
	require.Empty(t, admitted.Targets)
	require.InDelta(t, 4*heldFirst.Milliseconds(), admitted.AgainInMs, float64(heldFirst.Milliseconds()))

	// Once its webhooks are disabled, nothing is left to wait for.
	execute(t, r.pool, "UPDATE webhooks SET is_active = false WHERE id = $1", id)
	began := time.Now()
	admitted, err = r.AdmitHeld(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, Admitted{}, admitted)
	require.Less(t, time.Since(began), heldLook+time.Second)
}

// TestABacklogOfAHealthyBotIsNotHeldBack: it passes quickly, however much it is.
func TestABacklogOfAHealthyBotIsNotHeldBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, _ := receiver(t, answering(200))
	r.subscribe(t, url, "")
	for range 2 * maxInHandPerBot {
		r.handoff.put(uuid.New(), job{botID: "bot", readAt: time.Now()})
	}
	audience := r.accept(t, anEvent(), "run")
	require.Empty(t, audience.Held)
	require.Len(t, audience.Targets, 1)
}

func TestTheDelayOfAHeldBotIsBounded(t *testing.T) {
	for round := range 50 {
		d := heldDelay(round, true)
		require.Equal(t, time.Second, heldDelay(round, false))
		require.GreaterOrEqual(t, d, heldFirst*4/5)
		require.LessOrEqual(t, d, heldMost*6/5)
	}
}

// TestWhoIsTurnedAwayComesAgainOneAfterTheOther: appointments are as far apart as the lane needs.
func TestWhoIsTurnedAwayComesAgainOneAfterTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T, l *lanes) {
		const many = 160
		var last time.Duration
		for range many {
			d := l.appoint("bot")
			require.GreaterOrEqual(t, d, max(last, turnedAway))
			last = d
		}
		require.Equal(t, turnedAway+(many-1)*webhook.AttemptTimeout/maxSlowPerBot, last)
		require.Equal(t, turnedAway, l.appoint("another"))
		for range 10_000 {
			last = l.appoint("bot")
		}
		require.Equal(t, latestAppointment, last)
		time.Sleep(2 * time.Hour)
	})
}
