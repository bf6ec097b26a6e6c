package db_test

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestTheAudienceIsReadFromIndexes: what a lookup reads does not grow with the webhooks of other event types, nor, page
// by page, with the audience; whether Postgres plans for the very arguments or for any.
func TestTheAudienceIsReadFromIndexes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, statement := range []string{
		"INSERT INTO bots (id, name) SELECT 'b' || n, 'bot' FROM generate_series(0, 999) n",
		`INSERT INTO webhooks (id, bot_id, url, events)
			SELECT gen_random_uuid(), 'b' || n % 1000, 'https://example.com/' || n, CASE WHEN n < 20 THEN '{rare}' WHEN n < 10000 THEN '{common}' ELSE '{other,another}' END::text[]
			FROM generate_series(0, 19999) n`,
		"VACUUM ANALYZE webhooks, subscriptions",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	_, err = conn.Conn().Prepare(t.Context(), "lookup", db.ListSubscribersSQL)
	require.NoError(t, err)
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
		require.NoError(t, err)
		for _, c := range []struct {
			name      string
			eventType string
			bots      string // an SQL literal
			page      int
			rows      int
		}{
			{"a small audience", "rare", "NULL", 251, 20},
			{"a page of a large audience", "common", "NULL", 20, 20},
			{"nobody", "none", "NULL", 251, 0},
			{"two bots of a large audience", "common", "'{b100,b101}'", 251, 20},
			{"nobody of a bot", "none", "'{b100}'", 251, 0},
		} {
			var explained []byte
			err := conn.QueryRow(t.Context(), fmt.Sprintf("EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE lookup (%s, '%s', '%s', '%s', '{}', %d)",
				c.bots, c.eventType, uuid.Nil, uuid.Max, c.page), pgx.QueryExecModeSimpleProtocol).Scan(&explained)
			require.NoError(t, err)
			var plans []struct {
				Plan struct {
					Rows float64 `json:"Actual Rows"`
					Hit  int     `json:"Shared Hit Blocks"`
					Read int     `json:"Shared Read Blocks"`
				}
			}
			require.NoError(t, json.Unmarshal(explained, &plans))
			require.InDelta(t, c.rows, plans[0].Plan.Rows, 0.1, c.name)
			// A look-up by id touches three or four blocks; all webhooks together fill 300.
			require.LessOrEqual(t, plans[0].Plan.Hit+plans[0].Plan.Read, 20+5*c.rows, "%s, %s: %s", c.name, mode, explained)
		}
	}
}

// TestWhatIsOverAgeIsFoundByIndexes: a step of a removal reads what it removes, however much is kept; whether Postgres
// plans for the very arguments or for any.
func TestWhatIsOverAgeIsFoundByIndexes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, statement := range []string{
		`INSERT INTO events (id, type, payload, run_id, accepted_at)
			SELECT 'e' || n, 'post.created', 'x', 'r', now() - n * interval '1 minute' FROM generate_series(1, 50000) n`,
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, generation, success, duration_ms, attempted_at)
			SELECT gen_random_uuid(), md5((w * 1000 + n % 1000)::text)::uuid, 'e' || n, 1, 0, true, 1, now() - n * interval '1 minute'
			FROM generate_series(1, 50000) n, generate_series(1, 3) w`,
		"VACUUM ANALYZE events, deliveries",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	const ids = "'{e49000,e49001,e49002,e49003,e49004,e49005,e49006,e49007,e49008,e49009}'"
	for _, c := range []struct {
		name, sql, arguments string
		blocks               int
	}{
		// 100 events, each with three deliveries: 1,000 blocks or so of 3,000 in all tables.
		{"expired", db.ListExpiredSQL, "now() - interval '30 days', '0001-01-01', '', 100", 1500},
		{"deliveries", db.RemoveDeliveriesOfSQL, ids + ", 1000", 500},
		{"events", db.RemoveEventsSQL, ids, 200},
	} {
		_, err = conn.Conn().Prepare(t.Context(), c.name, c.sql)
		require.NoError(t, err)
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			_, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
			require.NoError(t, err)
			tx, err := conn.Begin(t.Context())
			require.NoError(t, err)
			var explained []byte
			require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE "+c.name+" ("+c.arguments+")", pgx.QueryExecModeSimpleProtocol).Scan(&explained))
			require.NoError(t, tx.Rollback(t.Context()))
			var plans []struct {
				Plan struct {
					Hit  int `json:"Shared Hit Blocks"`
					Read int `json:"Shared Read Blocks"`
				}
			}
			require.NoError(t, json.Unmarshal(explained, &plans))
			require.NotContains(t, string(explained), `"Seq Scan"`, "%s, %s", c.name, mode)
			require.LessOrEqual(t, plans[0].Plan.Hit+plans[0].Plan.Read, c.blocks, "%s, %s: %s", c.name, mode, explained)
		}
	}
}

// TestFrequentStatementsAreNotPlannedAnew: planning them takes longer than running them.
func TestFrequentStatementsAreNotPlannedAnew(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, statement := range []string{
		"INSERT INTO bots (id, name) VALUES ('b', 'b')",
		"INSERT INTO webhooks (id, bot_id, url, events) SELECT gen_random_uuid(), 'b', 'https://example.com', '{common}' FROM generate_series(1, 5000)",
		"VACUUM ANALYZE webhooks, subscriptions",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	for name, c := range map[string]struct{ sql, arguments string }{
		"record": {db.InsertSuccessesSQL, "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'"},
		"lookup": {db.ListSubscribersSQL, fmt.Sprintf("NULL, 'rare', '%s', '%s', '{}', 251", uuid.Nil, uuid.Max)},
	} {
		_, err = conn.Conn().Prepare(t.Context(), name, c.sql)
		require.NoError(t, err)
		for range 10 {
			_, err := conn.Exec(t.Context(), "EXECUTE "+name+" ("+c.arguments+")", pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
		}
		var generic int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT generic_plans FROM pg_prepared_statements WHERE name = $1", name).Scan(&generic))
		require.Equal(t, 5, generic, "%s: Postgres looks five times what planning for the very arguments gains", name)
	}
}

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
	run("INSERT INTO webhooks (id, bot_id, url, events) VALUES (gen_random_uuid(), 'b', 'https://example.com', '{one,two}')")
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
	run("DELETE FROM webhooks")
	require.Empty(t, types())
}

// TestTheHistoryIsReadFromIndexes: the last failures are found among any number of successes, and statistics and filters
// read no more of a long history than they may; whether Postgres plans for the very arguments or for any.
func TestTheHistoryIsReadFromIndexes(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	id := uuid.New()
	for _, statement := range []string{
		"INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'common', '{}', 'run' FROM generate_series(0, 999) n",
		fmt.Sprintf(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, generation, success, duration_ms, attempted_at)
			SELECT gen_random_uuid(), '%s', 'e' || n %% 1000, n, 0, n %% 1000 <> 0, 1, now() FROM generate_series(1, 60000) n ORDER BY n`, id),
		"VACUUM ANALYZE deliveries, events",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	for name, sql := range map[string]string{"page": db.PageOfDeliveriesSQL, "stats": db.RecentStatsSQL} {
		_, err = conn.Conn().Prepare(t.Context(), name, sql)
		require.NoError(t, err)
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
		require.NoError(t, err)
		for name, c := range map[string]struct {
			execute string
			rows    float64
			most    int // blocks
		}{
			"the newest":          {fmt.Sprintf("page (NULL, NULL, '%s', %d, 10000, 51)", id, math.MaxInt64), 51, 200},
			"the last failures":   {fmt.Sprintf("page (false, NULL, '%s', %d, 10000, 51)", id, math.MaxInt64), 51, 400},
			"none of an event":    {fmt.Sprintf("page (NULL, 'rare', '%s', %d, 10000, 51)", id, math.MaxInt64), 1, 45_000},
			"failures of none":    {fmt.Sprintf("page (false, 'rare', '%s', %d, 10000, 51)", id, math.MaxInt64), 0, 400},
			"the day's statistic": {fmt.Sprintf("stats ('%s', 10000, now() - interval '1 day')", id), 1, 1000},
		} {
			var explained []byte
			require.NoError(t, conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE "+c.execute, pgx.QueryExecModeSimpleProtocol).Scan(&explained))
			var plans []struct {
				Plan struct {
					Rows float64 `json:"Actual Rows"`
					Hit  int     `json:"Shared Hit Blocks"`
					Read int     `json:"Shared Read Blocks"`
				}
			}
			require.NoError(t, json.Unmarshal(explained, &plans))
			require.InDelta(t, c.rows, plans[0].Plan.Rows, 0.1, name)
			require.LessOrEqual(t, plans[0].Plan.Hit+plans[0].Plan.Read, c.most, "%s, %s: %s", name, mode, explained)
		}
	}
}
