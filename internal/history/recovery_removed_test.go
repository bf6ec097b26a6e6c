package history

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

// TestQueue_RecoverPage_WhatWasRemoved: what a bot's budget has removed since a recovery began, which may take hours, is not taken for
// missed.
func TestQueue_RecoverPage_WhatWasRemoved(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET created_at = now() - interval '2 days', disabled_at = now() - interval '2 hours', enabled_at = now() - interval '1 hour' WHERE id = $1", id)
	addEvents(t, pool, "taken", "post.created", 4, 3*time.Hour)
	addEvents(t, pool, "missed", "post.created", 2, 90*time.Minute)
	for n := range 4 {
		a := outcome(id, true)
		a.StartedAt = time.Now().Add(-3 * time.Hour)
		record(t, r, a.of(t, pool, fmt.Sprintf("taken-%d", n+1), 1))
	}
	startRecovery(t, queue, lastDay(id))
	budget := Budget{Pool: pool, Deliveries: 1, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, budget.Pass(t.Context()))
	require.Zero(t, count(t, pool, "deliveries"))
	for !latest(t, pool, id).LookedThrough {
		recoverPage(t, queue, id)
	}
	require.Equal(t, []string{"missed-1", "missed-2"}, eventsOf(queueOf(t, pool, id)), "what was taken is not sent again")

	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	startRecovery(t, queue, lastDay(id))
	execute(t, pool, "UPDATE history_usage SET removed_before = now()")
	require.Equal(t, 2, recoverPage(t, queue, id).Found, "nothing was sent while it was disabled")
}
