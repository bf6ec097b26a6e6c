package history

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// addHistory gives a webhook n deliveries of size bytes each beside their rows; every tenth is a failure, every second stands
// outside of partitions.
func addHistory(t testing.TB, pool *pgxpool.Pool, hook uuid.UUID, n, size int) {
	t.Helper()
	execute(t, pool, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'post.created', '{}', 'r') ON CONFLICT DO NOTHING", "of-"+hook.String())
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, response_body, exchange, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now() - n % 2 * interval '31 days'")+`, $1, $2, n, n % 10 <> 0, decode(repeat('00', $3::integer - 1), 'hex'), '\x01', 1, now() - interval '1 hour' + n * interval '1 millisecond'
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
	rows, err := pool.Query(t.Context(), `SELECT webhook_id, span, h.deliveries, h.bytes, d.deliveries, d.bytes
		FROM (SELECT * FROM history_sizes WHERE deliveries > 0) AS h
		FULL JOIN (
			SELECT webhook_id, span_of(id) AS span, count(*) AS deliveries, sum(delivery_bytes(response_body, exchange)) AS bytes
			FROM deliveries WHERE webhook_id IN (SELECT webhook_id FROM history_usage) GROUP BY 1, 2
		) AS d USING (webhook_id, span)
		WHERE (h.deliveries, h.bytes) IS DISTINCT FROM (d.deliveries, d.bytes)`)
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

			// A second pass finds nothing to do, and touches nothing.
			log.Reset()
			untouched := count(t, pool, "history_usage WHERE xmax::text::bigint = 0")
			require.NoError(t, b.Pass(t.Context()))
			require.Equal(t, untouched, count(t, pool, "history_usage WHERE xmax::text::bigint = 0"))
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
		SELECT `+dbtest.DeliveryID("now()")+`, $1, 'test-' || greatest(n % 1501, 1), n, true, 1, now() FROM generate_series(1, 1501) n ORDER BY n`, hook)
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
	const outside = "UPDATE deliveries SET id = overlay(id::text placing left(first_delivery(now() - interval '31 days')::text, 8) from 1 for 8)::uuid"
	execute(t, r.Pool, outside)
	b := &Budget{Pool: r.Pool, Bytes: 1 << 30, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, b.Pass(t.Context()))
	addHistory(t, r.Pool, hooks[0], 7, 100) // not counted yet
	execute(t, r.Pool, outside)
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

// TestBudget_Pass_LateCommit: what is committed after deliveries that were recorded later is counted too.
func TestBudget_Pass_LateCommit(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	b := &Budget{Pool: pool, Bytes: 1 << 30, Log: slog.New(slog.DiscardHandler)}
	late := begin(t, pool)
	_, err := late.Exec(t.Context(), `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		VALUES (`+dbtest.DeliveryID("now()")+`, $1, 'late', 1, true, 1, now())`, hook)
	require.NoError(t, err)
	addHistory(t, pool, hook, 5, 100)
	require.ErrorContains(t, b.Pass(t.Context()), "count deliveries")
	require.NoError(t, late.Commit(t.Context()))
	require.NoError(t, b.Pass(t.Context()))
	requireCounted(t, pool)
	require.Equal(t, 6, count(t, pool, "history_sizes s, generate_series(1, s.deliveries) n"))
}

// TestBudget_Pass_AtOnce: passes of several processes neither count twice nor remove what is within the budget.
func TestBudget_Pass_AtOnce(t *testing.T) {
	t.Parallel()
	const n, budget = 8000, 5000
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	addHistory(t, pool, hook, n, 100)
	var all sync.WaitGroup
	for range 4 {
		b := &Budget{Pool: pool, Deliveries: budget, Log: slog.New(slog.DiscardHandler)}
		all.Go(func() {
			if err := b.Pass(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	requireCounted(t, pool)
	kept := count(t, pool, "deliveries")
	require.LessOrEqual(t, kept, budget)
	require.Greater(t, kept, budget-trimmedAtOnce)
}

// TestBudget_Pass_InTurn: a pass begins when the last one has done nothing for a while, and that one does nothing more.
func TestBudget_Pass_InTurn(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	b := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	made := func() (n int) {
		require.NoError(t, b.pass(t.Context(), passRest))
		scan(t, pool, "SELECT pass FROM history_passes", nil, &n)
		return n
	}
	require.Equal(t, 1, made())
	execute(t, pool, "UPDATE history_passes SET renewed_at = now() - interval '14 seconds'")
	require.Equal(t, 1, made())
	first := &pass{Budget: b, number: 1}
	require.NoError(t, first.step(t.Context(), func(*db.Queries, pgx.Tx) error { return nil }))
	execute(t, pool, "UPDATE history_passes SET renewed_at = renewed_at - interval '16 seconds'")
	require.Equal(t, 2, made())
	require.ErrorIs(t, first.step(t.Context(), func(*db.Queries, pgx.Tx) error { panic("it is not made") }), errSuperseded)
}

// TestBudget_Pass_EachPartByItself: what a deleted webhook has left may not be removable: budgets are kept all the same.
func TestBudget_Pass_EachPartByItself(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	gone, hook := addWebhook(t, pool), addWebhook(t, pool)
	addHistory(t, pool, gone, 10, 10)
	addHistory(t, pool, hook, 10, 10)
	execute(t, pool, "INSERT INTO history_usage (webhook_id) VALUES ($1)", gone)
	execute(t, pool, "DELETE FROM webhooks WHERE id = $1", gone)
	execute(t, pool, `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$it stays$$; END'`)
	execute(t, pool, "CREATE TRIGGER keep BEFORE DELETE ON deliveries FOR EACH ROW WHEN (OLD.webhook_id = '"+gone.String()+"') EXECUTE FUNCTION keep()")
	b := &Budget{Pool: pool, Deliveries: 5, Log: slog.New(slog.DiscardHandler)}
	require.ErrorContains(t, b.Pass(t.Context()), "it stays")
	require.Zero(t, count(t, pool, "deliveries WHERE webhook_id = $1 AND success", hook))
}

// TestBudget_Pass_SaysWhatItRemoved: and nothing where it could remove nothing.
func TestBudget_Pass_SaysWhatItRemoved(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	addHistory(t, pool, addWebhook(t, pool), 10, 10)
	var log bytes.Buffer
	b := &Budget{Pool: pool, Deliveries: 5, Log: slog.New(slog.NewTextHandler(&log, nil))}
	others := begin(t, pool)
	_, err := others.Exec(t.Context(), "SELECT FROM deliveries FOR UPDATE")
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, b.Pass(t.Context()))
	require.Empty(t, log.String())
	require.Less(t, time.Since(began), trimTime, "it does not try on and on")
	require.NoError(t, others.Rollback(t.Context()))
	execute(t, pool, "UPDATE history_usage SET removed_upto = 0")
	require.NoError(t, b.Pass(t.Context()))
	require.Contains(t, log.String(), "over its budget")
}

// TestBudget_Pass_LooksBack: deliveries of old events alone, as of a recovery, are counted by a pass now and then.
func TestBudget_Pass_LooksBack(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		VALUES (`+dbtest.DeliveryID("now() - interval '20 days'")+`, $1, 'old', 1, true, 1, now())`, hook)
	b := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	for number, counted := range map[int]int{passesToLookBack + 1: 0, passesToLookBack: 1} {
		execute(t, pool, "UPDATE history_passes SET pass = $1::bigint - 1, renewed_at = '-infinity'", number)
		execute(t, pool, "DELETE FROM history_usage")
		execute(t, pool, "DELETE FROM history_sizes")
		require.NoError(t, b.pass(t.Context(), passRest))
		require.Equal(t, counted, count(t, pool, "history_sizes"), number)
	}
}
