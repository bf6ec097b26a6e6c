package history

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

// TestQueue_RecoverPage_WhileAnEventIsAccepted: one that found the webhook disabled, and is committed after the recovery has begun, is
// part of what was missed.
func TestQueue_RecoverPage_WhileAnEventIsAccepted(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	accepting := begin(t, pool)
	_, err := accepting.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id) VALUES ('late', 'post.created', '{}', 'run')")
	require.NoError(t, err)
	r := startRecovery(t, queue, lastDay(id))
	step := recoverPage(t, queue, id)
	require.False(t, step.Planned || step.Ended)
	require.Equal(t, r.AfterTime, latest(t, pool, id).AfterTime, "it has not looked yet")

	next := begin(t, pool) // another's event, accepted from now on, is not waited for
	_, err = next.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id) VALUES ('next', 'post.created', '{}', 'run')")
	require.NoError(t, err)
	require.NoError(t, accepting.Commit(t.Context()))
	require.True(t, recoverPage(t, queue, id).Planned)
	require.Equal(t, 1, count(t, pool, "queue WHERE event_id = 'late' AND recovery_id = $1", r.ID))

	// What has been open for longer accepts nothing.
	execute(t, pool, "UPDATE recoveries SET state = 'completed'")
	execute(t, pool, "DELETE FROM queue")
	startRecovery(t, queue, lastDay(id))
	require.False(t, recoverPage(t, queue, id).Planned)
	execute(t, pool, "UPDATE recoveries SET created_at = created_at - interval '15 seconds'")
	require.True(t, recoverPage(t, queue, id).Planned)
}
