package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func TestQueue_RecoverPage_CompletesNoOtherThanItRead(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	before := startRecovery(t, queue, lastDay(id))
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	startRecovery(t, queue, lastDay(id))
	require.NoError(t, db.New().CompleteRecovery(t.Context(), pool, before.ID)) // by one who read it while it ran
	require.Equal(t, RecoveryRunning, latest(t, pool, id).State)
}

// TestQueue_RecoverPage_ByPostgresClock: a process whose clock is an hour behind would plan what is new in an hour, and the next page in two.
func TestQueue_RecoverPage_ByPostgresClock(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	dbtest.SetClock(t, pool, time.Hour)
	queue := Queue{Pool: pool}
	id := addWebhook(t, pool)
	execute(t, pool, "UPDATE webhooks SET disabled_at = now()")
	addEvent(t, pool, "new", 0)
	w, err := db.New().WebhookOfAny(t.Context(), pool, id)
	require.NoError(t, err)
	span, _, err := RecoverySpan(t.Context(), pool, w, time.Time{})
	require.NoError(t, err)
	execute(t, pool, "UPDATE webhooks SET enabled_at = created_at")
	r := startRecovery(t, queue, span)
	execute(t, pool, "UPDATE recoveries SET created_at = now() WHERE id = $1", r.ID) // its default is this machine's time
	for step := (RecoveryStep{}); step.Found == 0; {
		step = recoverPage(t, queue, id)
		require.Zero(t, step.Wait)
		require.False(t, step.Ended, "it covers all until now")
	}
	var dueIn float64
	scan(t, pool, "SELECT extract(epoch FROM due_at - now())::float8 FROM queue", nil, &dueIn)
	require.InDelta(t, directTime.Seconds(), dueIn, 60)
}

// TestQueue_CancelRecovery_BegunBefore: one that waited while another began and ended is the one that runs, though its time is earlier.
func TestQueue_CancelRecovery_BegunBefore(t *testing.T) {
	t.Parallel()
	queue := Queue{Pool: dbtest.New(t)}
	id := addWebhook(t, queue.Pool)
	r := startRecovery(t, queue, lastDay(id))
	execute(t, queue.Pool, "UPDATE recoveries SET state = 'completed', created_at = now() + interval '1 minute' WHERE id = $1", r.ID)
	startRecovery(t, queue, lastDay(id))
	require.NoError(t, queue.CancelRecovery(t.Context(), id))
	startRecovery(t, queue, lastDay(id))
	require.Equal(t, RecoveryCompleted, recoverPage(t, queue, id).State)
}
