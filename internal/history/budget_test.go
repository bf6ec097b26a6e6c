package history

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// addHistory gives a webhook n deliveries of size bytes each beside their rows; every tenth is a failure.
func addHistory(t testing.TB, pool *pgxpool.Pool, hook uuid.UUID, n, size int) {
	t.Helper()
	execute(t, pool, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'post.created', '{}', 'r') ON CONFLICT DO NOTHING", "of-"+hook.String())
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, response_body, exchange, duration_ms, attempted_at)
		SELECT gen_random_uuid(), $1, $2, n, n % 10 <> 0, decode(repeat('00', $3::integer - 1), 'hex'), '\x01', 1, now() - interval '1 hour' + n * interval '1 millisecond'
		FROM generate_series(1, $4::integer) n ORDER BY n`, hook, "of-"+hook.String(), size, n)
}

type kept struct{ whole, stripped, failed int }

func keptOf(t testing.TB, pool *pgxpool.Pool, hook uuid.UUID) (k kept) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE success AND exchange IS NOT NULL), count(*) FILTER (WHERE success AND exchange IS NULL),
		count(*) FILTER (WHERE NOT success AND exchange IS NOT NULL) FROM deliveries WHERE webhook_id = $1`, hook).Scan(&k.whole, &k.stripped, &k.failed))
	return k
}

// usage is what is counted of a webhook, and what it should be.
func requireCounted(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT u.webhook_id, u.deliveries, u.bytes, d.deliveries, d.bytes
		FROM history_usage u
		CROSS JOIN LATERAL (SELECT count(*) AS deliveries, coalesce(sum(delivery_bytes(response_body, exchange)), 0) AS bytes FROM deliveries WHERE webhook_id = u.webhook_id) AS d
		WHERE (u.deliveries, u.bytes) IS DISTINCT FROM (d.deliveries, d.bytes)`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		require.NoError(t, err)
		t.Errorf("counted otherwise than it is: %v", values)
	}
	require.NoError(t, rows.Err())
}

// TestBudget_Pass: of a bot's history over its budget the oldest responses of successes go first, then their rows, and
// failures last; nobody else's history is touched.
func TestBudget_Pass(t *testing.T) {
	t.Parallel()
	const n, size = 3000, 1000 // each delivery counts 1,500 bytes, stripped 500
	for name, c := range map[string]struct {
		bytes, rows int64
		least, most kept
	}{
		"within":                    {bytes: 2 * n * 1500, least: kept{2700, 0, 300}, most: kept{2700, 0, 300}},
		"no budget":                 {least: kept{2700, 0, 300}, most: kept{2700, 0, 300}},
		"a third too many bytes":    {bytes: n * 1000, least: kept{300, 1500, 300}, most: kept{1200, 2400, 300}},
		"more than responses":       {bytes: n * 400, least: kept{0, 0, 300}, most: kept{0, 1500, 300}},
		"more than all successes":   {bytes: 100 * 1500, least: kept{0, 0, 0}, most: kept{0, 0, 100}},
		"half too many rows":        {rows: n / 2, least: kept{200, 0, 300}, most: kept{1200, 0, 300}},
		"rows less than failures":   {rows: 100, least: kept{0, 0, 0}, most: kept{0, 0, 100}},
		"both":                      {bytes: n * 1000, rows: n / 2, least: kept{0, 0, 300}, most: kept{1200, 1200, 300}},
		"far more rows than budget": {rows: 2 * n, bytes: 1, least: kept{0, 0, 0}, most: kept{0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := dbtest.New(t)
			hook, other := addWebhook(t, pool), addWebhook(t, pool)
			addHistory(t, pool, hook, n, size)
			addHistory(t, pool, other, 50, size)
			execute(t, pool, "INSERT INTO bots (id, name) VALUES ('other', 'other')")
			execute(t, pool, "UPDATE webhooks SET bot_id = 'other' WHERE id = $1", other)
			var log bytes.Buffer
			b := &Budget{Pool: pool, Bytes: c.bytes, Deliveries: c.rows, Log: slog.New(slog.NewTextHandler(&log, nil))}
			if c.bytes == 1 {
				execute(t, pool, "DELETE FROM deliveries WHERE webhook_id = $1", other)
			}
			require.NoError(t, b.Pass(t.Context()))
			requireCounted(t, pool)
			k := keptOf(t, pool, hook)
			require.GreaterOrEqual(t, k.whole, c.least.whole, "%+v", k)
			require.LessOrEqual(t, k.whole, c.most.whole, "%+v", k)
			require.GreaterOrEqual(t, k.stripped, c.least.stripped, "%+v", k)
			require.LessOrEqual(t, k.stripped, c.most.stripped, "%+v", k)
			require.GreaterOrEqual(t, k.failed, c.least.failed, "%+v", k)
			require.LessOrEqual(t, k.failed, c.most.failed, "%+v", k)
			if c.bytes != 1 {
				require.Equal(t, kept{45, 0, 5}, keptOf(t, pool, other))
			}
			// What is kept whole is what is newest.
			var inOrder bool
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT coalesce(max(seq) FILTER (WHERE exchange IS NULL) < min(seq) FILTER (WHERE success AND exchange IS NOT NULL), true)
				FROM deliveries WHERE webhook_id = $1`, hook).Scan(&inOrder))
			require.True(t, inOrder)
			var removed *time.Time
			require.NoError(t, pool.QueryRow(t.Context(), "SELECT removed_before FROM history_usage WHERE webhook_id = $1", hook).Scan(&removed))
			require.Equal(t, k.whole+k.stripped+k.failed < n, removed != nil)

			// A second pass finds nothing to do.
			log.Reset()
			require.NoError(t, b.Pass(t.Context()))
			require.Empty(t, log.String())
			require.Equal(t, k, keptOf(t, pool, hook))
		})
	}
}

// TestBudget_Pass_Flood: several webhooks that are recorded to as fast as a bot may have tests sent are held to the budget.
func TestBudget_Pass_Flood(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	b := &Budget{Pool: pool, Bytes: 4 << 20, Log: slog.New(slog.DiscardHandler)}
	hooks := []uuid.UUID{addWebhook(t, pool), addWebhook(t, pool), addWebhook(t, pool)}
	for minute := range 5 {
		for _, hook := range hooks {
			addHistory(t, pool, hook, 200, 8000) // 5 MB in all
		}
		require.NoError(t, b.Pass(t.Context()))
		requireCounted(t, pool)
		var bytes int64
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT sum(delivery_bytes(response_body, exchange)) FROM deliveries").Scan(&bytes))
		require.LessOrEqual(t, bytes, b.Bytes, minute)
	}
}

// TestBudget_Pass_TestEvents go with their deliveries, but for one that was sent again; who polls misses nothing.
func TestBudget_Pass_TestEvents(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	execute(t, pool, `INSERT INTO events (id, type, payload, run_id, position) SELECT 'test-' || n, 'test', '{}', 'r', 9e18::bigint + n FROM generate_series(1, 1500) n`)
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT gen_random_uuid(), $1, 'test-' || greatest(n % 1501, 1), n, true, 1, now() FROM generate_series(1, 1501) n ORDER BY n`, hook)
	b := &Budget{Pool: pool, Deliveries: 600, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, b.Pass(t.Context()))
	var events int
	var again, pollsOn bool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*), bool_or(id = 'test-1'), (SELECT removed < 9e18 FROM event_log) FROM events`).Scan(&events, &again, &pollsOn))
	require.Equal(t, 501, events)
	require.True(t, again)
	require.True(t, pollsOn)
}

// TestBudget_Pass_Retention: what retention removes counts no longer.
func TestBudget_Pass_Retention(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	hooks := []uuid.UUID{addWebhook(t, r.Pool), addWebhook(t, r.Pool)}
	for i, hook := range hooks {
		addHistory(t, r.Pool, hook, 100*(i+1), 100)
	}
	b := &Budget{Pool: r.Pool, Bytes: 1 << 30, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, b.Pass(t.Context()))
	addHistory(t, r.Pool, hooks[0], 7, 100) // not counted yet
	execute(t, r.Pool, "UPDATE events SET accepted_at = now() - interval '31 days'")
	execute(t, r.Pool, "UPDATE deliveries SET attempted_at = now() - interval '31 days'")
	addHistory(t, r.Pool, hooks[1], 20, 100)
	execute(t, r.Pool, "UPDATE deliveries SET event_id = 'young' WHERE attempted_at > now() - interval '1 day'")
	require.Equal(t, 307, r.remove(t, time.Now().Add(-time.Duration(webhook.DefaultRetention))).Deliveries)
	require.NoError(t, b.Pass(t.Context()))
	requireCounted(t, r.Pool)
}

// TestBudget_Pass_DeletedWebhooks: what their deletion did not wait for is removed.
func TestBudget_Pass_DeletedWebhooks(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	gone, stays := addWebhook(t, pool), addWebhook(t, pool)
	addHistory(t, pool, gone, 2500, 10)
	addHistory(t, pool, stays, 10, 10)
	b := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, b.Pass(t.Context()))
	execute(t, pool, "DELETE FROM webhooks WHERE id = $1", gone)
	require.NoError(t, b.Pass(t.Context()))
	var left, counted string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT (SELECT string_agg(DISTINCT webhook_id::text, ',') FROM deliveries), (SELECT string_agg(webhook_id::text, ',') FROM history_usage)`).Scan(&left, &counted))
	require.Equal(t, []string{stays.String(), stays.String()}, []string{left, counted})
}
