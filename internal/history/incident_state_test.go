package history

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
)

func TestQueue_SetIncidentState(t *testing.T) {
	t.Parallel()
	set := func(t *testing.T, o *outage, id uuid.UUID, state string) {
		t.Helper()
		i, err := o.SetIncidentState(t.Context(), id, state)
		require.NoError(t, err)
		require.Equal(t, state, i.State)
	}

	t.Run("PauseEnablesAndBeginsNothing", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		for range 55 {
			o.disable(t, "bot", "timeout", "timeout", 10*time.Minute)
		}
		id := o.start(t, lastHour())
		_, begun, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
		require.NoError(t, err)
		set(t, o, id, IncidentPaused)
		set(t, o, id, IncidentPaused)
		step := o.step(t, id)
		require.Equal(t, []int{50, 1, 0}, []int{step.Enabled, step.Recovering, step.Recovered})
		require.Equal(t, pausedRest, step.Wait, "a recovery runs on")
		_, err = o.RecoverPage(t.Context(), begun[0].WebhookID)
		require.NoError(t, err)
		step = o.step(t, id)
		require.Equal(t, []int{50, 0, 1}, []int{step.Enabled, step.Recovering, step.Recovered})
		require.Zero(t, step.Wait)
		require.False(t, step.Ended)
		execute(t, o.pool, "UPDATE incidents SET updated_at = now() - interval '1 minute'")
		stalled, err := o.StalledIncidents(t.Context())
		require.NoError(t, err)
		require.Empty(t, stalled)
		set(t, o, id, IncidentRunning)
		require.Equal(t, 55, o.finish(t, id).Recovered)
		require.Equal(t, []int{1, 1}, []int{count(t, o.pool, "audit_log WHERE action = 'incident.paused'"), count(t, o.pool, "audit_log WHERE action = 'incident.resumed'")})
	})

	t.Run("CancelEndsTheRecoveriesThatRun", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		for range 55 {
			o.disable(t, "bot", "timeout", "timeout", 10*time.Minute)
		}
		id := o.start(t, lastHour())
		_, _, err := o.RecoverIncident(t.Context(), id, IncidentOptions{})
		require.NoError(t, err)
		set(t, o, id, IncidentCancelled)
		execute(t, o.pool, "UPDATE incidents SET updated_at = now() - interval '1 minute'")
		stalled, err := o.StalledIncidents(t.Context())
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{id}, stalled, "its recoveries are yet to be cancelled")
		done := o.finish(t, id)
		require.Equal(t, []any{IncidentCancelled, 50, 0, 1}, []any{done.State, done.Enabled, done.Recovering, done.Failed})
		require.Equal(t, 50, count(t, o.pool, "webhooks WHERE is_active"), "what is enabled stays enabled")
		require.Equal(t, 1, count(t, o.pool, "recoveries WHERE state = 'cancelled'"))
		for _, state := range []string{IncidentRunning, IncidentPaused} {
			_, err := o.SetIncidentState(t.Context(), id, state)
			require.True(t, problem.Is(err, problem.Conflict), "%v", err)
		}
		set(t, o, id, IncidentCancelled)
		stalled, err = o.StalledIncidents(t.Context())
		require.NoError(t, err)
		require.Empty(t, stalled)
	})

	t.Run("CancelLeavesAnOwnersRecovery", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		webhook := o.disable(t, "bot", "timeout", "timeout", 10*time.Minute)
		id := o.start(t, lastHour())
		o.step(t, id)
		_, err := o.RecoverPage(t.Context(), webhook) // the incident's is completed, which it has yet to see
		require.NoError(t, err)
		ended := latest(t, o.pool, webhook)
		require.Equal(t, RecoveryCompleted, ended.State)
		startRecovery(t, o.Queue, lastDay(webhook))
		require.NoError(t, o.cancelRecovery(t.Context(), webhook, ended.ID), "as where it was looked up while it ran")
		set(t, o, id, IncidentCancelled)
		require.Equal(t, 1, o.step(t, id).Recovered)
		require.Equal(t, RecoveryRunning, latest(t, o.pool, webhook).State)
	})

	t.Run("APauseWaitsForTheChangeInProgress", func(t *testing.T) {
		t.Parallel()
		o := newOutage(t)
		webhook := o.disable(t, "bot", "timeout", "timeout", 10*time.Minute)
		id := o.start(t, lastHour())
		tx := begin(t, o.pool)
		require.NoError(t, db.LockWebhook(t.Context(), tx, webhook)) // holds the step up before it claims the webhook
		done := make(chan IncidentStep)
		go func() {
			step, _, err := o.RecoverIncident(context.Background(), id, IncidentOptions{})
			if err != nil {
				t.Error(err)
			}
			done <- step
		}()
		waitsForLock(t, o.pool, 1)
		set(t, o, id, IncidentPaused)
		require.NoError(t, tx.Commit(t.Context()))
		require.Zero(t, (<-done).Enabled)
		require.False(t, o.active(t, webhook))
	})
}
