package db_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// plan is how Postgres carried a statement out.
type plan struct {
	NodeType string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Rows     float64 `json:"Actual Rows"`
	Loops    float64 `json:"Actual Loops"`
	Hit      int     `json:"Shared Hit Blocks"`
	Read     int     `json:"Shared Read Blocks"`
	Plans    []plan

	text string
}

// explain runs a prepared statement, such as "lookup (1, 2)", and takes back what it changes.
func explain(t *testing.T, conn *pgxpool.Conn, execute string) plan {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	var explained []byte
	require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) EXECUTE "+execute, pgx.QueryExecModeSimpleProtocol).Scan(&explained))
	var plans []struct{ Plan plan }
	require.NoError(t, json.Unmarshal(explained, &plans))
	plans[0].Plan.text = string(explained)
	return plans[0].Plan
}

// blocks are the pages of 8 KiB that it looked at.
func (p plan) blocks() int { return p.Hit + p.Read }

// rowsOf is how many rows it read of a table.
func (p plan) rowsOf(table string) (n float64) {
	if p.Relation == table || table == "deliveries" && strings.HasPrefix(p.Relation, "deliveries_") { // a partition
		n = p.Rows * p.Loops
	}
	for _, child := range p.Plans {
		n += child.rowsOf(table)
	}
	return n
}

// eachMode runs f for plans that Postgres makes for the very arguments, and for any.
func eachMode(t *testing.T, conn *pgxpool.Conn, f func(mode string)) {
	t.Helper()
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
		require.NoError(t, err)
		f(mode)
	}
}

// planned is a connection to a database in which the statements were carried out.
func planned(t *testing.T, statements ...string) *pgxpool.Conn {
	t.Helper()
	if testing.Short() {
		t.Skip("filling its tables takes seconds: make test runs it")
	}
	conn, err := dbtest.New(t).Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	for _, statement := range statements {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	return conn
}

func prepare(t *testing.T, conn *pgxpool.Conn, name, sql string) {
	t.Helper()
	_, err := conn.Conn().Prepare(t.Context(), name, sql)
	require.NoError(t, err)
}

// TestTheAudienceIsReadFromIndexes: what a lookup reads does not grow with the webhooks of other event types, with what
// waits in queues, nor, page by page, with the audience; whether Postgres plans for the very arguments or for any.
func TestTheAudienceIsReadFromIndexes(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		"INSERT INTO bots (id, name) SELECT 'b' || n, 'bot' FROM generate_series(0, 999) n",
		`INSERT INTO webhooks (id, bot_id, url, origin, events, queued, filter)
			SELECT gen_random_uuid(), 'b' || n % 1000, convert_to('https://example.com/' || n, 'UTF8'), 'https://example.com',
				CASE WHEN n < 20 THEN '{rare}' WHEN n < 40 THEN '{troubled}' WHEN n < 60 THEN '{narrow}' WHEN n < 10000 THEN '{common}' ELSE '{other,another}' END::text[], n BETWEEN 20 AND 59,
				CASE WHEN n BETWEEN 40 AND 59 THEN '{"projectSlug":["a"]}'::jsonb END
			FROM generate_series(0, 19999) n`,
		"INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'common', '{}', 'run' FROM generate_series(1, 1000) n",
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT w.id, 'e' || n, 1, 1, 'event', now() FROM webhooks w, generate_series(1, 1000) n WHERE w.queued`,
		`INSERT INTO webhooks (id, bot_id, url, origin, events, queued, ordered)
			SELECT ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'b' || n, convert_to('https://example.com/' || n, 'UTF8'), 'https://example.com',
				CASE WHEN n < 10 THEN '{other}' ELSE '{sequence}' END::text[], true, true
			FROM generate_series(0, 29) n`,
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT w.id, 'e' || n, 1, 1, 'event', now() FROM webhooks w, generate_series(1, 1000) n WHERE w.ordered`,
		"INSERT INTO events (id, type, payload, run_id) VALUES ('new', 'common', '{}', 'run'), ('large', 'common', '{}', 'run')",
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now()")+`, gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'large' ELSE 'e' || n % 1000 END, 1, true, 1, now() FROM generate_series(1, 100000) n`,
		"VACUUM ANALYZE webhooks, subscriptions, queue, events, deliveries",
	)
	prepare(t, conn, "lookup", db.AddressEventsSQL)
	_, err := conn.Exec(t.Context(), "SELECT lock_order(array_agg(id)) FROM webhooks WHERE ordered") // to read a function's code is done once
	require.NoError(t, err)
	eachMode(t, conn, func(mode string) {
		for _, c := range []struct {
			name      string
			eventType string
			bots      string
			page      int
			event     string
			rows      int
			each      int // blocks
		}{
			// A look-up by id touches three or four blocks; all webhooks together fill 300.
			{"a small audience", "rare", "", 251, "new", 20, 5},
			{"a page of a large audience", "common", "", 20, "new", 20, 5},
			{"nobody", "none", "", 251, "new", 0, 5},
			{"those with filters, whose queues are left alone", "narrow", "", 251, "new", 20, 5},
			{"two bots of a large audience", "common", "{b100,b101}", 251, "new", 20, 5},
			{"nobody of a bot", "none", "{b100}", 251, "new", 0, 5},
			// A row in a queue touches a dozen more; the queues fill 400 blocks.
			{"those that are queued", "troubled", "", 251, "new", 20, 25},
			{"those that are queued, of an event that many have", "troubled", "", 251, "large", 20, 25},
			{"those that are queued, of two events", "troubled", "", 251, "new','large", 20, 50},
			// Ten ordered ones beyond the page get their rows too. A place in order touches some thirty.
			{"a page of a large audience with ordered webhooks", "other", "", 20, "new", 20, 35},
			{"ordered ones", "sequence", "", 251, "new", 20, 60},
		} {
			p := explain(t, conn, fmt.Sprintf("lookup ('%s', '%s', '{0}', ARRAY['%s'], ARRAY['%s'], %d, true, ARRAY['%s'], ARRAY[0%[7]s], ARRAY[0%[7]s], 'run')", uuid.Nil, uuid.Max, c.eventType, c.bots, c.page, c.event, strings.Repeat(",0", strings.Count(c.event, ","))))
			require.InDelta(t, c.rows, p.Rows, 0.1, c.name)
			require.LessOrEqual(t, p.blocks(), 20+c.each*c.rows, "%s, %s: %s", c.name, mode, p.text)
		}
	})
}

// TestAQueueIsReadFromItsIndex: what is due of a webhook is found, and its queue looked at, whatever stands in the queues of
// others, and whatever of its own is due later; whether Postgres plans for the very arguments or for any.
func TestAQueueIsReadFromItsIndex(t *testing.T) {
	t.Parallel()
	const id = "00000000-0000-7000-8000-000000000001"
	conn := planned(t,
		"INSERT INTO bots (id, name) VALUES ('b', 'bot')",
		"INSERT INTO webhooks (id, bot_id, url, origin, events, queued) SELECT md5(n::text)::uuid, 'b', 'https://example.com', 'https://example.com', '{common}', true FROM generate_series(1, 500) n",
		"INSERT INTO webhooks (id, bot_id, url, origin, events, queued) VALUES ('"+id+"', 'b', 'https://example.com', 'https://example.com', '{common}', true)",
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT md5((1 + n % 500)::text)::uuid, 'e' || n, 1, 1, 'event', now() - interval '1 h' FROM generate_series(1, 100000) n`,
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT '`+id+`', 'later' || n, 1, 1, 'event', now() + interval '1 h' + n * interval '1 ms' FROM generate_series(1, 100000) n`,
		"VACUUM ANALYZE queue, webhooks, deliveries",
	)
	for name, sql := range map[string]string{
		"take": db.TakeDueSQL, "state": db.QueueStateSQL, "direct": db.SetDirectSQL, "unwoken": db.UnwokenSQL, "overdue": db.OverdueQueuesSQL,
	} {
		prepare(t, conn, name, sql)
	}
	look := func(due int) {
		eachMode(t, conn, func(mode string) {
			for name, c := range map[string]struct {
				execute string
				rows    int
				most    int // blocks; the queues fill 2,500
			}{
				"what is due":       {"take ('" + id + "', 32, NULL)", min(due, 32), 20 + 2*due},
				"how it stands":     {"state (1000, '" + id + "')", 1, 100},
				"whether it turns":  {"direct ('" + id + "')", 0, 60},
				"whether it wakes":  {"unwoken ('{" + id + "}', '{9999999}', '{2020-01-01}')", 1 - min(due, 1), 20},
				"which are overdue": {"overdue (10, 1000, 1000, '00000000-0000-0000-0000-000000000000')", 500 + min(due, 1), 10 * 501 * 2},
			} {
				p := explain(t, conn, c.execute)
				require.InDelta(t, c.rows, p.Rows, 0.1, "%s with %d due", name, due)
				require.LessOrEqual(t, p.blocks(), c.most, "%s with %d due, %s: %s", name, due, mode, p.text)
			}
		})
	}
	look(0)
	_, err := conn.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT '"+id+"', 'due' || n, 1, 1, 'event', now() - interval '1 min' FROM generate_series(1, 40) n")
	require.NoError(t, err)
	look(40)
}

// TestARecoverysPageIsBounded: it reads as many events as it may, whatever there is, and whatever of it was missed; whether
// Postgres plans for the very arguments or for any.
func TestARecoverysPageIsBounded(t *testing.T) {
	t.Parallel()
	const id = "00000000-0000-7000-8000-000000000001"
	conn := planned(t,
		"INSERT INTO bots (id, name) VALUES ('b', 'bot')",
		"INSERT INTO webhooks (id, bot_id, url, origin, events) VALUES ('"+id+"', 'b', 'https://example.com', 'https://example.com', '{missed,taken}')",
		`INSERT INTO events (id, type, payload, run_id, accepted_at)
			SELECT 'e' || n, CASE n / 25000 WHEN 0 THEN 'other' WHEN 1 THEN 'taken' ELSE 'missed' END, '{}', 'run', '2025-03-20'::timestamptz + n * interval '1 s' FROM generate_series(0, 99999) n`,
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("accepted_at")+`, '`+id+`', id, 1, type = 'taken', 1, accepted_at FROM events WHERE type <> 'other'`,
		"VACUUM ANALYZE events, deliveries, queue, webhooks",
	)
	prepare(t, conn, "missed", db.ListMissedSQL)
	eachMode(t, conn, func(mode string) {
		for _, c := range []struct {
			name string
			from int // of the events
			rows int
		}{{"of other types", 100, 1}, {"taken", 30_000, 1}, {"missed", 60_000, 2000}} {
			p := explain(t, conn, fmt.Sprintf("missed ('%s', '', '', 0, '2025-03-20'::timestamptz + %d * interval '1 s', '2026-01-01', '', 2000)", id, c.from))
			require.InDelta(t, c.rows, p.Rows, 0.1, c.name)
			require.InDelta(t, 2000, p.rowsOf("events"), 0.1, "%s, %s: %s", c.name, mode, p.text)
			require.LessOrEqual(t, p.rowsOf("deliveries"), 2*2000.0, "%s, %s: %s", c.name, mode, p.text)
			require.LessOrEqual(t, p.blocks(), 2000*10, "%s, %s: %s", c.name, mode, p.text)
		}
	})

	// Before each of its attempts it is looked up whether that was recorded.
	prepare(t, conn, "recorded", db.RecordedDeliverySQL)
	eachMode(t, conn, func(mode string) {
		for event, rows := range map[string]int{"e60000": 1, "e100": 0, "none": 0} {
			p := explain(t, conn, fmt.Sprintf("recorded ('%s', '%s', 1)", event, id))
			require.InDelta(t, rows, p.Rows, 0.1, "%s, %s: %s", event, mode, p.text)
			require.LessOrEqual(t, p.rowsOf("deliveries"), 3.0, "%s, %s: %s", event, mode, p.text)
			require.LessOrEqual(t, p.blocks(), 30, "%s, %s: %s", event, mode, p.text)
		}
	})
}

// TestWhatIsOverAgeIsFoundByIndexes: a step of a removal reads what it removes, however much is kept; whether Postgres
// plans for the very arguments or for any.
func TestWhatIsOverAgeIsFoundByIndexes(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		`INSERT INTO events (id, type, payload, run_id, accepted_at)
			SELECT 'e' || n, 'post.created', 'x', 'r', now() - n * interval '1 minute' FROM generate_series(1, 50000) n`,
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now() - n * interval '1 minute'")+`, md5((w * 1000 + n % 1000)::text)::uuid, 'e' || n, 1, true, 1, now() - n * interval '1 minute'
			FROM generate_series(1, 50000) n, generate_series(1, 3) w`,
		"VACUUM ANALYZE events, deliveries",
	)
	const ids = "'{e49000,e49001,e49002,e49003,e49004,e49005,e49006,e49007,e49008,e49009}'"
	for _, c := range []struct {
		name, sql, arguments string
		blocks               int
	}{
		// 100 events, each with three deliveries: 1,000 blocks or so of 3,000 in all tables.
		{"expired", db.ListExpiredSQL, "true, now() - interval '30 days', '0001-01-01', '', 100", 1500},
		{"deliveries", db.RemoveDeliveriesOfSQL, ids + ", 1000", 500},
		{"events", db.RemoveExpiredEventsSQL, ids, 200},
	} {
		prepare(t, conn, c.name, c.sql)
		eachMode(t, conn, func(mode string) {
			p := explain(t, conn, c.name+" ("+c.arguments+")")
			require.NotContains(t, p.text, `"Seq Scan"`, "%s, %s", c.name, mode)
			require.LessOrEqual(t, p.blocks(), c.blocks, "%s, %s: %s", c.name, mode, p.text)
		})
	}
}

// TestAnEventsWebhooksAreReadFromIndexes: what is read of an event does not grow with other events, nor beyond its bound with
// the event's own audience; whether Postgres plans for the very arguments or for any.
func TestAnEventsWebhooksAreReadFromIndexes(t *testing.T) {
	t.Parallel()
	const mostRead = 2000
	conn := planned(t,
		"INSERT INTO bots (id, name) VALUES ('b', 'bot')",
		`INSERT INTO webhooks (id, bot_id, url, origin, events, is_active)
			SELECT md5(n::text)::uuid, 'b', convert_to('https://example.com/' || n, 'UTF8'), 'https://example.com', '{}', n % 10 <> 0 FROM generate_series(1, 20000) n`,
		"INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'common', '{}', 'run' FROM generate_series(1, 1000) n",
		"INSERT INTO events (id, type, payload, run_id) VALUES ('large', 'common', '{}', 'run'), ('small', 'common', '{}', 'run'), ('queued', 'common', '{}', 'run')",
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now()")+`, md5((1 + n / 2 % 20000)::text)::uuid, CASE WHEN n < 40000 THEN 'large' WHEN n < 40010 THEN 'small' ELSE 'e' || n % 1000 END,
				1 + n % 2, n % 6 = 1, 'HTTP 503', 1, now()
			FROM generate_series(0, 140000) n`,
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT md5(n::text)::uuid, e, 1, 1, 'event', now() FROM generate_series(1, 20000) n, unnest('{large,queued,e1,e2}'::text[]) e WHERE n % 3 = 0 OR e <> 'large'`,
		"VACUUM ANALYZE deliveries, queue, events, webhooks",
	)
	prepare(t, conn, "count_webhooks", db.CountEventWebhooksSQL)
	prepare(t, conn, "list_webhooks", db.ListEventWebhooksSQL)
	eachMode(t, conn, func(mode string) {
		for _, c := range []struct {
			execute  string
			rows     float64
			mostRead float64
			most     int // blocks: all tables fill more than 6,000
		}{
			{"count_webhooks ('large', %d)", 1, mostRead, 10 * mostRead},
			{"count_webhooks ('queued', %d)", 1, mostRead, 6 * mostRead},
			{"count_webhooks ('small', %d)", 1, 10, 100},
			{"count_webhooks ('none', %d)", 1, 0, 20},
			{"list_webhooks (101, 'large', '00000000-0000-0000-0000-000000000000', %d, '')", 101, mostRead, 10 * mostRead},
			{"list_webhooks (101, 'large', '80000000-0000-0000-0000-000000000000', %d, 'failed')", 101, mostRead, 10 * mostRead},
			{"list_webhooks (101, 'queued', '80000000-0000-0000-0000-000000000000', %d, 'delivered')", 1, mostRead, 6 * mostRead},
			{"list_webhooks (101, 'small', '00000000-0000-0000-0000-000000000000', %d, '')", 5, 10, 100},
			{"list_webhooks (101, 'none', '00000000-0000-0000-0000-000000000000', %d, '')", 0, 0, 20},
		} {
			p := explain(t, conn, fmt.Sprintf(c.execute, mostRead))
			require.InDelta(t, c.rows, p.Rows, 0.1, "%s, %s", c.execute, mode)
			require.NotContains(t, p.text, `"Seq Scan"`, "%s, %s", c.execute, mode)
			require.LessOrEqual(t, p.rowsOf("deliveries"), c.mostRead+3, "%s, %s: %s", c.execute, mode, p.text) // one more of each partition
			require.LessOrEqual(t, p.rowsOf("queue"), c.mostRead, "%s, %s: %s", c.execute, mode, p.text)
			require.LessOrEqual(t, p.rowsOf("webhooks"), 2*c.mostRead, "%s, %s: %s", c.execute, mode, p.text)
			require.LessOrEqual(t, p.blocks(), c.most, "%s, %s: %s", c.execute, mode, p.text)
		}
	})
}

// TestFrequentStatementsAreNotPlannedAnew: planning them takes longer than running them.
func TestFrequentStatementsAreNotPlannedAnew(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		"INSERT INTO bots (id, name) VALUES ('b', 'b')",
		"INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT gen_random_uuid(), 'b', 'https://example.com', 'https://example.com', '{common}' FROM generate_series(1, 5000)",
		"VACUUM ANALYZE webhooks, subscriptions",
	)
	for name, c := range map[string]struct{ sql, arguments string }{
		"record": {db.InsertSuccessesSQL, "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'"},
		"accept": {db.InsertEventsSQL, "'run', NULL, '{}', '{}', '{}', '{}', '{}'"},
		"lookup": {db.AddressEventsSQL, fmt.Sprintf("'%s', '%s', '{0}', '{rare}', ARRAY[''], 251, true, '{e}', '{0}', '{0}', 'run'", uuid.Nil, uuid.Max)},
	} {
		prepare(t, conn, name, c.sql)
		for range 10 {
			_, err := conn.Exec(t.Context(), "EXECUTE "+name+" ("+c.arguments+")", pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
		}
		var generic int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT generic_plans FROM pg_prepared_statements WHERE name = $1", name).Scan(&generic))
		require.Equal(t, 5, generic, "%s: Postgres looks five times what planning for the very arguments gains", name)
	}
}

// TestTheHistoryIsReadFromIndexes: the last failures are found among any number of successes, and statistics and filters
// read no more of a long history than they may; whether Postgres plans for the very arguments or for any.
func TestTheHistoryIsReadFromIndexes(t *testing.T) {
	t.Parallel()
	id := uuid.New()
	conn := planned(t,
		"INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'common', '{}', 'run' FROM generate_series(0, 999) n",
		fmt.Sprintf(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now()")+`, '%s', 'e' || n %% 1000, n, n %% 1000 <> 0, 1, now() FROM generate_series(1, 60000) n ORDER BY n`, id),
		fmt.Sprintf(`INSERT INTO delivery_stats (webhook_id, step, start, tally)
			SELECT w, 86400, date_trunc('day', now()) - n * interval '1 day', '{}' FROM unnest(array_append(ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 1000)), '%s')) w, generate_series(1, 100) n`, id),
		fmt.Sprintf("INSERT INTO history_usage (webhook_id, counted_upto) SELECT '%s', max(seq) - 500 FROM deliveries", id),
		"VACUUM ANALYZE deliveries, events, delivery_stats, history_usage",
	)
	for name, sql := range map[string]string{"page": db.PageOfDeliveriesSQL, "span": db.SeqsOfSpanSQL, "summaries": db.WebhookSummariesSQL, "stats": db.StatsOfSQL} {
		prepare(t, conn, name, sql)
	}
	page := func(each int, event, success, eventType string) string {
		return fmt.Sprintf("page (51, '{%s}', '{0}', '{%d}', '%s', %s, %d, %d, '', '', 0, '-infinity', 'infinity', %s)", id, math.MaxInt64, event, success, math.MaxInt64, each, eventType)
	}
	eachMode(t, conn, func(mode string) {
		for name, c := range map[string]struct {
			execute string
			rows    float64
			most    int // blocks
		}{
			"the newest":          {page(51, "", "NULL", "NULL"), 51, 400},
			"the last failures":   {page(51, "", "false", "NULL"), 51, 600},
			"none of an event":    {page(10000, "", "NULL", "'rare'"), 1, 45_000},
			"failures of none":    {page(10000, "", "false", "'rare'"), 0, 400},
			"those of an event":   {page(51, "e7", "NULL", "NULL"), 51, 600},
			"a span's place":      {fmt.Sprintf("span (now(), now(), '{%s}')", id), 1, 600},
			"a webhook's summary": {fmt.Sprintf("summaries (now() - interval '1 day', '{0,16}', 1000, '{%s}')", id), 1, 400},
			"a month's days":      {fmt.Sprintf("stats ('{%s}', 86400, now() - interval '1 month', now())", id), 30, 50},
		} {
			explain(t, conn, c.execute) // the first of a function reads catalogs as well, so many blocks as are not cached
			p := explain(t, conn, c.execute)
			require.InDelta(t, c.rows, p.Rows, 0.1, name)
			require.LessOrEqual(t, p.blocks(), c.most, "%s, %s: %s", name, mode, p.text)
		}
	})
}
