package db_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

// TestSubscriptionsFollowTheWebhooks, however these are changed.
func TestSubscriptionsFollowTheWebhooks(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	run := func(statement string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	types := func() (found []string) {
		t.Helper()
		rows, err := pool.Query(t.Context(), "SELECT event_type FROM subscriptions WHERE bot_id = 'b' ORDER BY 1")
		require.NoError(t, err)
		found, err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return found
	}
	run("INSERT INTO bots (id, name) VALUES ('b', 'b')")
	run("INSERT INTO webhooks (id, bot_id, url, origin, events) VALUES (gen_random_uuid(), 'b', 'https://example.com', 'https://example.com', '{one,two}')")
	require.Equal(t, []string{"one", "two"}, types())
	run("UPDATE webhooks SET events = '{two,three}'")
	require.Equal(t, []string{"three", "two"}, types())
	run("UPDATE webhooks SET is_active = false, events = '{four}'")
	require.Empty(t, types())
	run("UPDATE webhooks SET url = 'https://example.org', failure_count = 0")
	require.Empty(t, types())
	run("UPDATE webhooks SET is_active = true")
	require.Equal(t, []string{"four"}, types())
	run("INSERT INTO bots (id, name) VALUES ('c', 'c')")
	run("UPDATE webhooks SET bot_id = 'c'")
	require.Empty(t, types())
	run("UPDATE webhooks SET bot_id = 'b'")
	require.Equal(t, []string{"four"}, types())
	ordered := func() (n int) {
		t.Helper()
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM subscriptions WHERE ordered").Scan(&n))
		return n
	}
	require.Zero(t, ordered())
	run("UPDATE webhooks SET queued = true, ordered = true")
	require.Equal(t, 1, ordered())
	run("UPDATE webhooks SET ordered = false")
	require.Zero(t, ordered())
	run("DELETE FROM webhooks")
	require.Empty(t, types())
}
