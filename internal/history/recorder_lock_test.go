package history

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// TestRecorder_Record_OfSeveralRecoveries: recordings at once that count in the same recoveries do not wait for each other in a circle,
// which Postgres ends after a second, in which nobody's attempts are recorded. Whoever waits for the first recovery holds none of the
// others.
func TestRecorder_Record_OfSeveralRecoveries(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue := Queue{Pool: pool}
	recorder, _ := newTestRecorder(t, pool)
	var attempts []Attempt
	for range 20 {
		id := addWebhookOf(t, pool, uuid.NewString(), "https://example.com")
		a := outcome(id, true)
		a.Trigger, a.RecoveryID = webhook.TriggerRecover, startRecovery(t, queue, lastDay(id)).ID
		attempts = append(attempts, a)
	}
	execute(t, pool, "DELETE FROM recoveries WHERE id = $1", attempts[0].RecoveryID) // the first stands behind the others now
	execute(t, pool, `INSERT INTO recoveries (id, webhook_id, since, until, begin_at, upto, after_time) VALUES ($1, $2, now(), now(), now(), now(), now())`,
		attempts[0].RecoveryID, attempts[0].WebhookID)

	other := begin(t, pool)
	_, err := other.Exec(t.Context(), "SELECT FROM recoveries WHERE id = $1 FOR UPDATE", attempts[0].RecoveryID)
	require.NoError(t, err)
	batch := make([]*recording, len(attempts))
	for i, a := range attempts {
		batch[i] = &recording{attempt: a, done: make(chan struct{})}
	}
	recorded := make(chan error, 1)
	go func() { recorded <- recorder.rest(batch) }()
	require.Eventually(t, func() bool {
		return count(t, pool, "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == 1
	}, time.Minute, 5*time.Millisecond)
	var free int
	require.NoError(t, other.QueryRow(t.Context(), "SELECT count(*) FROM (SELECT FROM recoveries WHERE id <> $1 FOR UPDATE SKIP LOCKED) AS free",
		attempts[0].RecoveryID).Scan(&free))
	require.Equal(t, len(attempts)-1, free)
	require.NoError(t, other.Rollback(t.Context()))
	require.NoError(t, <-recorded)
	require.Equal(t, len(attempts), count(t, pool, "recoveries WHERE delivered = 1"))
}
