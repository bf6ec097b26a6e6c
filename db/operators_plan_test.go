package db_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestOperatorsListsAreReadFromIndexes: what a page of an operator's list reads does not grow with the webhooks, bots and keys
// that are not on it, nor with what waits in queues; whether Postgres plans for the very arguments or for any.
func TestOperatorsListsAreReadFromIndexes(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		"INSERT INTO bots (id, name, is_active) SELECT 'b' || n, 'bot', n % 500 <> 0 FROM generate_series(0, 9999) n",
		"INSERT INTO api_keys (id, bot_id, key_hash, prefix) SELECT gen_random_uuid(), 'b' || n, sha256(n::text::bytea), 'bot_' || lpad(n::text, 6, '0') FROM generate_series(0, 9999) n",
		`INSERT INTO webhooks (id, bot_id, url, origin, events, queued, suspended, is_active, disabled_at, disabled_reason)
			SELECT md5(n::text)::uuid, 'b' || n % 10000, repeat('x', 100)::bytea, 'https://host' || n % 1000 || '.example', '{common}', n % 1000 = 1, n % 1000 = 2,
				n % 4 > 0, CASE WHEN n % 4 = 0 THEN now() - n * interval '1 s' END, CASE WHEN n % 1000 = 0 THEN 'failures' WHEN n % 4 = 0 THEN 'owner' END
			FROM generate_series(0, 19999) n`,
		`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT md5(((n % 20) * 1000 + 1)::text)::uuid, 'e' || n, 1, 1, 'event', now() + (n - 50000) * interval '1 s' FROM generate_series(0, 99999) n`,
		`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now()")+`, md5(((n % 20) * 1000 + 1)::text)::uuid, 'e' || n, 1, n > 20, CASE WHEN n <= 20 THEN 'timeout' END, 1, now() FROM generate_series(0, 49999) n`,
		"VACUUM ANALYZE bots, api_keys, webhooks, queue, deliveries",
	)
	queued := make([]string, 20)
	for i := range queued {
		queued[i] = fmt.Sprintf("md5('%d')::uuid", i*1000+1)
	}
	// A row costs a block of its own, and an index a few; all webhooks fill 700 blocks, the queues 1,200.
	for name, c := range map[string]struct {
		sql, arguments string
		rows, most     int
	}{
		"OfABot":             {db.WebhooksOfBotAfterSQL, fmt.Sprintf("'b7', '%s', 50", uuid.Nil), 2, 20},
		"AtAHost":            {db.WebhooksAtHostAfterSQL, fmt.Sprintf("'host7.example', '%s', 50", uuid.Nil), 20, 60},
		"Queued":             {db.QueuedWebhooksSQL, "50", 20, 60},
		"Suspended":          {db.SuspendedWebhooksAfterSQL, fmt.Sprintf("'%s', 50", uuid.Nil), 20, 60},
		"Disabled":           {db.DisabledBeforeSQL, fmt.Sprintf("now() + interval '1 h', '%s', 50", uuid.Max), 50, 120},
		"DisabledByFailures": {db.DisabledForBeforeSQL, fmt.Sprintf("'failures', now() + interval '1 h', '%s', 50", uuid.Max), 20, 60},
		"DisabledToday":      {db.CountDisabledSinceSQL, "now() - interval '2500 s', 50", 1, 20},
		"Queues":             {db.QueuesSQL, "10000", 20, 20 * 20},
		"TenQueues":          {db.QueuesSQL, "10", 10, 10 * 20},
		"CountQueues":        {db.CountQueuesSQL, "100, ARRAY[" + strings.Join(queued, ",") + "]", 20, 20 * 40},
		"Troubles":           {db.WebhookTroublesSQL, "100, ARRAY[" + strings.Join(queued, ",") + "]", 20, 20 * 40},
		"Bots":               {db.BotsAfterSQL, "'b5', 50", 50, 60},
		"SuspendedBots":      {db.SuspendedBotsAfterSQL, "'', 50", 20, 60},
		"WebhooksOfBots":     {db.CountWebhooksOfBotsSQL, "ARRAY['b1','b2','b3'], 100", 3, 40},
		"KeysByBeginning":    {db.KeysByPrefixSQL, `'bot_00000', 100`, 10, 60},
	} {
		prepare(t, conn, strings.ToLower(name), c.sql)
		eachMode(t, conn, func(mode string) {
			p := explain(t, conn, fmt.Sprintf("%s (%s)", strings.ToLower(name), c.arguments))
			require.InDelta(t, c.rows, p.Rows, 0.1, "%s: %s", name, p.text)
			require.LessOrEqual(t, p.blocks(), c.most, "%s, %s: %s", name, mode, p.text)
		})
	}
}

// TestAnIncidentReadsThoseThatAreNextInTurn: what begins an incident's recoveries, each second, does not grow with its bots.
func TestAnIncidentReadsThoseThatAreNextInTurn(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		"INSERT INTO bots (id, name) SELECT 'b' || n, 'bot' FROM generate_series(0, 9999) n",
		`INSERT INTO webhooks (id, bot_id, url, origin, events)
			SELECT md5(n::text)::uuid, 'b' || n % 10000, 'sealed', 'https://host' || n % 1000 || '.example', '{common}' FROM generate_series(0, 19999) n`,
		`INSERT INTO incidents (id, disabled_since, disabled_until, errors, bot_ids, plan, actor_kind, actor_id, actor_name, client, request)
			VALUES ('`+uuid.Max.String()+`', now(), now(), '{}', '{}', '{}', '', '', '', '', '')`,
		`INSERT INTO incident_webhooks (incident_id, webhook_id, bot_id, generation, turn, state)
			SELECT i.id, w.id, w.bot_id, 0, row_number() OVER (PARTITION BY w.bot_id), 'enabled' FROM webhooks w, incidents i`,
		`INSERT INTO recoveries (id, webhook_id, since, until, begin_at, upto, after_time)
			SELECT gen_random_uuid(), webhook_id, now(), now(), now(), now(), now() FROM incident_webhooks ORDER BY turn, bot_id LIMIT 20`,
		"VACUUM ANALYZE bots, webhooks, incidents, incident_webhooks, recoveries",
	)
	prepare(t, conn, "next", db.IncidentToRecoverSQL)
	eachMode(t, conn, func(mode string) {
		p := explain(t, conn, fmt.Sprintf("next ('%s', 60, 10)", uuid.Max))
		require.InDelta(t, 10, p.Rows, 0.1, "%s: %s", mode, p.text)
		require.LessOrEqual(t, p.rowsOf("incident_webhooks"), 400.0, "%s: %s", mode, p.text)
		require.LessOrEqual(t, p.blocks(), 4000, "%s: %s", mode, p.text)
	})
}

// TestAFailureWritesNoIndexOfWebhooks: what an attempt changes of a webhook stands in no index, unless it turns it queued or
// direct, or disables it.
func TestAFailureWritesNoIndexOfWebhooks(t *testing.T) {
	t.Parallel()
	conn := planned(t,
		"INSERT INTO bots (id, name) VALUES ('b', 'bot')",
		"INSERT INTO webhooks (id, bot_id, url, origin, events, queued) VALUES (gen_random_uuid(), 'b', '', '', '{common}', true)",
		"BEGIN",
		"UPDATE webhooks SET failure_count = failure_count + 1, early_failures = 1, failure_run = 1, failure_class = 'dns', queued = true, resume_at = now()",
	)
	var hot int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'webhooks'").Scan(&hot))
	require.Equal(t, 1, hot)
	_, err := conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}
