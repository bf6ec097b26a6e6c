package faults_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/standalone/testkit"
)

// What these tests read from and write to the product's tables stands here, so that a change of the schema is made in one
// place.

// failureCounts reads the failureCount of all webhooks, by their ids.
func failureCounts(ctx context.Context, t *testing.T, stack *testkit.Stack) (map[string]int, error) {
	rows, err := stack.Database(t).Query(ctx, "SELECT id::text, failure_count FROM webhooks")
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	var id string
	var failures int
	_, err = pgx.ForEachRow(rows, []any{&id, &failures}, func() error {
		all[id] = failures
		return nil
	})
	return all, err
}

// attempts counts a webhook's recorded attempts: those that failed, and the events that it took.
func attempts(t *testing.T, stack *testkit.Stack, webhookID string) (failed, taken int) {
	t.Helper()
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE NOT success), count(DISTINCT event_id) FILTER (WHERE success)
		FROM deliveries WHERE webhook_id = $1`, webhookID).Scan(&failed, &taken))
	return failed, taken
}

// recorded is how many attempts at an event are recorded, of all webhooks.
func recorded(t *testing.T, stack *testkit.Stack, eventID string) (rows int) {
	t.Helper()
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE event_id = $1", eventID).Scan(&rows))
	return rows
}

// stored says whether an event is in the database.
func stored(t *testing.T, stack *testkit.Stack, eventID string) (is bool) {
	t.Helper()
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM events WHERE id = $1)", eventID).Scan(&is))
	return is
}

// acceptedFor are the events to a bot, in the order of their acceptance.
func acceptedFor(t *testing.T, stack *testkit.Stack, botID string) (ids []string) {
	t.Helper()
	require.NoError(t, stack.Database(t).QueryRow(t.Context(),
		"SELECT array_agg(id ORDER BY accepted_at, id) FROM events WHERE $1 = ANY (bot_ids)", botID).Scan(&ids))
	return ids
}

// everQueued is how many rows anyone has tried to insert into the table queue since the database was made: a sequence
// numbers them, and numbers are used up also by what is rolled back or removed.
func everQueued(t *testing.T, stack *testkit.Stack) (rows int) {
	t.Helper()
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), everQueuedSQL).Scan(&rows))
	return rows
}

const everQueuedSQL = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM queue_seq_seq"

// insertDelivered inserts so many events of the last hour that went to the webhook at the first attempt.
func insertDelivered(t *testing.T, stack *testkit.Stack, hook testkit.Webhook, events int) {
	t.Helper()
	db := stack.Database(t)
	_, err := db.Exec(t.Context(), "UPDATE webhooks SET created_at = now() - interval '2 hours' WHERE id = $1", hook.ID) // what came before, it did not miss
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `
		INSERT INTO events (id, type, payload, bot_ids, run_id, accepted_at)
		SELECT 'past-' || n, 'post.created', '{"event":"post.created","timestamp":"2026-01-01T00:00:00.000Z","data":{}}', ARRAY[$1::text], 'past',
			now() - interval '1 hour' + n * interval '59 minutes' / $2::bigint
		FROM generate_series(1, $2::bigint) n`, hook.BotID, events)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), `
		INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("accepted_at")+`, $1::uuid, id, 1, true, 204, 1, accepted_at FROM events WHERE run_id = 'past' ORDER BY accepted_at`, hook.ID)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), "ANALYZE events, deliveries")
	require.NoError(t, err)
}

// forget removes what is recorded of the deliveries of every n-th event that insertDelivered inserted: it was missed.
func forget(t *testing.T, stack *testkit.Stack, n int) {
	t.Helper()
	_, err := stack.Database(t).Exec(t.Context(),
		"DELETE FROM deliveries d USING events e WHERE d.event_id = e.id AND e.run_id = 'past' AND substr(e.id, 6)::bigint % $1 = 0", n)
	require.NoError(t, err)
}
