package history

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
)

// outage is an incident of ours as a test sees it.
type outage struct {
	Queue
	pool *pgxpool.Pool
}

func newOutage(t testing.TB) *outage {
	pool := dbtest.New(t)
	return &outage{Queue{Pool: pool}, pool}
}

// disable adds a webhook of a bot that a failure with the error has disabled so long ago.
func (o *outage) disable(t testing.TB, bot, class, text string, ago time.Duration) uuid.UUID {
	t.Helper()
	id, delivery := addWebhookOf(t, o.pool, bot, "https://"+bot+".example/hook"), uuid.New()
	execute(t, o.pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at) VALUES ($1, $2, $3, 1, false, $4, 1, now())`,
		delivery, id, "failed-"+id.String(), text)
	execute(t, o.pool, `UPDATE webhooks SET is_active = false, failure_count = 10, failure_class = $2, disabled_reason = 'failures', disabled_by = $3,
		disabled_at = now() - make_interval(secs => $4) WHERE id = $1`, id, class, delivery, ago.Seconds())
	return id
}

func (o *outage) reader() *Reader { return &Reader{Pool: o.pool} }

func lastHour(texts ...string) IncidentFilter {
	now := time.Now()
	return IncidentFilter{Since: now.Add(-time.Hour), Until: now, Errors: texts}
}

func (o *outage) start(t testing.TB, f IncidentFilter) uuid.UUID {
	t.Helper()
	i, err := o.StartIncident(t.Context(), f, IncidentPlan{})
	require.NoError(t, err)
	return i.ID
}

// step makes a step, and then as much of each recovery that runs as there is: none finds an event.
func (o *outage) step(t testing.TB, id uuid.UUID) IncidentStep {
	t.Helper()
	step, err := o.tryStep(id)
	require.NoError(t, err)
	return step
}

func (o *outage) tryStep(id uuid.UUID) (IncidentStep, error) {
	step, begun, err := o.RecoverIncident(context.Background(), id, IncidentOptions{})
	for _, w := range begun {
		if err == nil {
			_, err = o.RecoverPage(context.Background(), w.WebhookID)
		}
	}
	return step, err
}

// finish makes steps until the incident ends.
func (o *outage) finish(t testing.TB, id uuid.UUID) IncidentStep {
	t.Helper()
	step, err := o.tryFinish(id)
	require.NoError(t, err)
	return step
}

func (o *outage) tryFinish(id uuid.UUID) (step IncidentStep, err error) {
	for until := time.Now().Add(time.Minute); err == nil && time.Now().Before(until); {
		if step, err = o.tryStep(id); step.Ended {
			return step, err
		}
	}
	return step, errors.Join(err, fmt.Errorf("it has not ended: %+v", step))
}

func (o *outage) active(t testing.TB, id uuid.UUID) bool {
	t.Helper()
	return stateOf(t, o.pool, id).Active
}

func TestQueue_RecoverIncident(t *testing.T) {
	t.Parallel()

	t.Run("EnablesAndRecoversAll", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		var ids []uuid.UUID
		for i := range 130 {
			ids = append(ids, o.disable(t, fmt.Sprintf("bot-%d", i%13), "timeout", "timeout", 10*time.Minute))
		}
		owners := o.disable(t, "bot-0", "timeout", "timeout", 10*time.Minute)
		execute(t, o.pool, "UPDATE webhooks SET disabled_reason = 'owner', disabled_by = NULL WHERE id = $1", owners)
		ctx := audit.As(t.Context(), audit.Actor{Kind: audit.Service, Name: "ada"})
		i, err := o.StartIncident(ctx, lastHour(), IncidentPlan{})
		require.NoError(t, err)
		id := i.ID
		first := o.step(t, id)
		require.Equal(t, 50, first.Enabled, "a page at a time")
		require.Equal(t, 13, first.Recovering, "one of each bot")
		require.Equal(t, time.Second, first.Wait)
		done := o.finish(t, id)
		require.Equal(t, IncidentStep{Ended: true, IncidentProgress: IncidentProgress{
			State: IncidentCompleted, Found: 130, Enabled: 130, Recovered: 130, Reasons: []IncidentReason{},
		}}, done)
		for _, id := range ids {
			s := stateOf(t, o.pool, id)
			require.True(t, s.Active)
			require.Equal(t, []int32{0, 1}, []int32{s.FailureCount, s.Generation})
			require.Equal(t, 1, count(t, o.pool, "recoveries WHERE webhook_id = $1 AND state = 'completed'", id))
		}
		require.False(t, o.active(t, owners))
		const entries = "audit_log WHERE actor_kind = 'service' AND actor_name = 'ada' AND action = $1"
		require.Equal(t, 1, count(t, o.pool, entries+" AND subject = $2", "incident.started", id.String()))
		require.Equal(t, 130, count(t, o.pool, entries+" AND convert_from(after, 'utf8')::jsonb @> jsonb_build_object('isActive', true, 'incident', $2::text)", "webhook.enabled", id.String()))
		require.Equal(t, 130, count(t, o.pool, entries, "recovery.started"))
		require.Equal(t, done, o.step(t, id), "it may be repeated")
		execute(t, o.pool, "DELETE FROM incident_webhooks")
		i, err = db.New().GetIncident(t.Context(), o.pool, id)
		require.NoError(t, err)
		progress, err := Progress(t.Context(), o.pool, i)
		require.NoError(t, err)
		require.Equal(t, done.IncidentProgress, progress, "of one that has ended nothing is counted")
	})

	t.Run("RunsThirtyRecoveriesAtOnce", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		for i := range 45 {
			o.disable(t, fmt.Sprintf("bot-%d", i), "timeout", "timeout", 10*time.Minute)
		}
		id := o.start(t, lastHour())
		for range 2 {
			step, _, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
			require.NoError(t, err)
			require.Equal(t, []int{45, 30}, []int{step.Enabled, step.Recovering})
		}
	})

	t.Run("SkipsWhatOthersHaveChanged", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		webhooks := map[string]uuid.UUID{}
		for _, name := range []string{"deleted", "enabled", "again", "suspended", "left"} {
			webhooks[name] = o.disable(t, name, "timeout", "timeout", 10*time.Minute)
		}
		id := o.start(t, lastHour())
		execute(t, o.pool, "DELETE FROM webhooks WHERE id = $1", webhooks["deleted"])
		execute(t, o.pool, "UPDATE webhooks SET is_active = true, disabled_reason = NULL, generation = generation + 1 WHERE id = $1", webhooks["enabled"])
		execute(t, o.pool, "UPDATE webhooks SET generation = generation + 1 WHERE id = $1", webhooks["again"]) // and disabled again
		execute(t, o.pool, "UPDATE webhooks SET suspended = true WHERE id = $1", webhooks["suspended"])
		done := o.finish(t, id)
		require.Equal(t, IncidentProgress{State: IncidentCompleted, Found: 5, Enabled: 1, Skipped: 4, Recovered: 1, Reasons: []IncidentReason{
			{"skipped", "enabled meanwhile", 2}, {"skipped", "bot suspended", 1}, {"skipped", "webhook deleted", 1},
		}}, done.IncidentProgress)
		require.False(t, o.active(t, webhooks["again"]))
		require.False(t, o.active(t, webhooks["suspended"]))
	})

	t.Run("WhatHappensBetweenEnablingAndRecoveryIsNoticed", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		var ids []uuid.UUID
		for range 6 {
			ids = append(ids, o.disable(t, "bot", "timeout", "timeout", 10*time.Minute))
		}
		id := o.start(t, lastHour())
		step, begun, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
		require.NoError(t, err)
		require.Equal(t, []int{6, 1}, []int{step.Enabled, step.Recovering})
		require.Equal(t, ids[0], begun[0].WebhookID, "the first that was disabled")
		execute(t, o.pool, "DELETE FROM webhooks WHERE id = ANY ($1)", ids[:2])
		execute(t, o.pool, "UPDATE webhooks SET is_active = false WHERE id = $1", ids[2])
		execute(t, o.pool, "UPDATE webhooks SET suspended = true WHERE id = $1", ids[3])
		tx := begin(t, o.pool)
		require.NoError(t, db.LockWebhook(t.Context(), tx, ids[4]))
		require.NoError(t, tx.Commit(t.Context()))
		done := o.finish(t, id)
		require.Equal(t, []int{4, 2, 2, 2}, []int{done.Enabled, done.Skipped, done.Recovered, done.Failed})
		require.Equal(t, []IncidentReason{{"skipped", "webhook deleted", 2}, {"failed", "bot suspended", 1}, {"failed", "webhook disabled", 1}}, done.Reasons)
	})

	t.Run("AnOwnersRecoveryGoesFirst", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		other := addWebhookOf(t, o.pool, "bot", "https://bot.example/other")
		o.disable(t, "bot", "timeout", "timeout", 10*time.Minute)
		startRecovery(t, o.Queue, lastDay(other))
		id := o.start(t, lastHour())
		for range 2 {
			step := o.step(t, id)
			require.Equal(t, []int{1, 0}, []int{step.Enabled, step.Recovering})
		}
		require.NoError(t, o.CancelRecovery(t.Context(), other))
		require.Equal(t, 1, o.finish(t, id).Recovered)
	})

	t.Run("RecoveriesThatOnlyWaitTakeNoPlace", func(t *testing.T) {
		t.Parallel()
		for name, hold := range map[string]string{
			"a retry is planned":     "UPDATE queue SET due_at = now() + interval '1 hour' WHERE webhook_id = ANY ($1)",
			"the webhook rests":      "UPDATE webhooks SET resume_at = now() + interval '1 hour' WHERE id = ANY ($1)",
			"an operator has paused": "INSERT INTO pauses (scope, value, reason) SELECT 'bot', bot_id, 'a reason' FROM webhooks WHERE id = ANY ($1)",
		} {
			o := newOutage(t)
			var held []uuid.UUID
			for i := range incidentRecoveries {
				held = append(held, o.disable(t, fmt.Sprintf("a-%02d", i), "timeout", "timeout", 10*time.Minute))
			}
			execute(t, o.pool, "UPDATE webhooks SET events = '{post.created}', created_at = now() - interval '1 day'")
			addEvent(t, o.pool, "missed", 5*time.Minute)
			id := o.start(t, lastHour())
			require.Equal(t, incidentRecoveries, o.step(t, id).Recovering)
			for _, webhook := range held {
				_, err := o.RecoverPage(t.Context(), webhook) // the rest of the span
				require.NoError(t, err)
			}
			execute(t, o.pool, "UPDATE recoveries SET looked_through = true")
			other := o.disable(t, "b", "timeout", "timeout", 10*time.Minute)
			execute(t, o.pool, "INSERT INTO incident_webhooks (incident_id, webhook_id, bot_id, generation, turn) VALUES ($1, $2, 'b', 0, 1)", id, other)
			require.Equal(t, incidentRecoveries, o.step(t, id).Recovering, "%s: all are busy", name)
			require.Zero(t, count(t, o.pool, "recoveries WHERE webhook_id = $1", other))
			execute(t, o.pool, hold, held)
			o.step(t, id)
			require.Equal(t, 1, count(t, o.pool, "recoveries WHERE webhook_id = $1", other), name)
		}
	})

	t.Run("ABotsRecoveryThatOnlyWaitsHoldsUpNoneOfItsOthers", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		own := addWebhookOf(t, o.pool, "a", "https://own.example/hook")
		addEvent(t, o.pool, "missed", 5*time.Minute)
		startRecovery(t, o.Queue, lastDay(own)) // its owner's
		for !latest(t, o.pool, own).LookedThrough {
			recoverPage(t, o.Queue, own)
		}
		// The one that was disabled first has its turn first.
		again := o.disable(t, "a", "timeout", "timeout", 20*time.Minute)
		other := o.disable(t, "a", "timeout", "timeout", 10*time.Minute)
		id := o.start(t, lastHour())
		require.Equal(t, []int{2, 0}, []int{o.step(t, id).Enabled, o.step(t, id).Recovering}, "the owner's has work")

		execute(t, o.pool, "UPDATE queue SET due_at = now() + interval '1 hour' WHERE webhook_id = $1", own)
		r, err := o.StartRecovery(t.Context(), lastDay(again)) // and another, that of a webhook of the incident
		require.NoError(t, err)
		execute(t, o.pool, "UPDATE recoveries SET looked_through = true WHERE id = $1", r.ID)
		require.Equal(t, 1, o.step(t, id).Recovering)
		require.Equal(t, 1, count(t, o.pool, "recoveries WHERE webhook_id = $1", other))
		require.Equal(t, 1, count(t, o.pool, "recoveries WHERE webhook_id = $1", again))
	})

	t.Run("WhatIsPausedWaitsForItsEnd", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		o.disable(t, "paused", "timeout", "timeout", 10*time.Minute)
		o.disable(t, "other", "timeout", "timeout", 10*time.Minute)
		begin1(t, o.pool, PauseHost, "paused.example")
		id := o.start(t, lastHour())
		for range 3 {
			o.step(t, id)
		}
		step := o.step(t, id)
		require.Equal(t, []int{2, 0, 1}, []int{step.Enabled, step.Recovering, step.Recovered})
		require.Equal(t, incidentRest, step.Wait)
		end1(t, o.pool, PauseHost, "paused.example")
		require.Equal(t, 2, o.finish(t, id).Recovered)
	})

	t.Run("RecoveriesThatStopAreFailed", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		a, b := o.disable(t, "bot-a", "timeout", "timeout", 10*time.Minute), o.disable(t, "bot-b", "timeout", "timeout", 10*time.Minute)
		id := o.start(t, lastHour())
		_, _, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
		require.NoError(t, err)
		require.NoError(t, o.CancelRecovery(t.Context(), a))
		tx := begin(t, o.pool)
		require.NoError(t, StopWebhooks(t.Context(), tx, []uuid.UUID{b}))
		require.NoError(t, tx.Commit(t.Context()))
		done := o.finish(t, id)
		require.Equal(t, []IncidentReason{{"failed", "recovery cancelled", 1}, {"failed", "webhook disabled", 1}}, done.Reasons)
		require.Equal(t, []int{2, 2}, []int{done.Enabled, done.Failed})
	})

	t.Run("AnEndpointThatMustBeVerifiedIsEnabledOnly", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		unverified := o.disable(t, "bot-a", "timeout", "timeout", 10*time.Minute)
		execute(t, o.pool, "UPDATE webhooks SET verified_at = now() WHERE id = $1", o.disable(t, "bot-b", "timeout", "timeout", 10*time.Minute))
		id := o.start(t, lastHour())
		step, begun, err := o.RecoverIncident(t.Context(), id, IncidentOptions{MustBeVerified: true})
		require.NoError(t, err)
		require.Len(t, begun, 1)
		require.Equal(t, []IncidentReason{{"failed", "endpoint not verified", 1}}, step.Reasons)
		require.True(t, o.active(t, unverified))
	})

	t.Run("OneThatCannotBeChangedKeepsNoOther", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		bad := o.disable(t, "bot-0", "timeout", "timeout", 10*time.Minute)
		good := o.disable(t, "bot-1", "timeout", "timeout", 5*time.Minute)
		execute(t, o.pool, fmt.Sprintf("ALTER TABLE webhooks ADD CONSTRAINT refuse CHECK (NOT is_active OR id <> '%s')", bad))
		done := o.finish(t, o.start(t, lastHour()))
		require.Equal(t, []int{1, 1, 1}, []int{done.Enabled, done.Recovered, done.Skipped})
		require.Contains(t, done.Reasons[0].Reason, "refused: ")
		require.True(t, o.active(t, good))
		require.False(t, o.active(t, bad))
	})

	t.Run("TwoOverTheSameSpanDoEachOnce", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		for i := range 60 {
			o.disable(t, fmt.Sprintf("bot-%d", i%20), "timeout", "timeout", 10*time.Minute)
		}
		both := []uuid.UUID{o.start(t, lastHour()), o.start(t, lastHour())}
		ended := make(chan IncidentStep, 4)
		for i := range 4 { // and each is worked on by two processes at once
			go func() {
				step, err := o.tryFinish(both[i%2])
				if err != nil {
					t.Error(err)
				}
				ended <- step
			}()
		}
		total := 0
		for range 4 {
			total += (<-ended).Recovered
		}
		require.Equal(t, 2*60, total, "each incident counted twice")
		require.Equal(t, 60, count(t, o.pool, "webhooks WHERE is_active AND generation = 1"))
		require.Equal(t, 60, count(t, o.pool, "recoveries"))
	})
}
