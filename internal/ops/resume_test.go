package ops

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestWhatAFilterLeavesOutIsNotUnfinished: an event that no webhook lacks is not begun again.
func TestWhatAFilterLeavesOutIsNotUnfinished(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	run := func(sql string, args ...any) {
		t.Helper()
		_, err := pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	unfinished := func() (ids []string) {
		t.Helper()
		rows, err := db.New().UnfinishedEvents(t.Context(), pool, db.UnfinishedEventsParams{Most: resumePage})
		require.NoError(t, err)
		for _, e := range rows {
			if isWanted(e) {
				ids = append(ids, e.ID)
			}
		}
		return ids
	}
	run("INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	for _, project := range []string{"a", "b", "c"} {
		run(`INSERT INTO webhooks (id, bot_id, url, origin, events, created_at, filter) VALUES (gen_random_uuid(), 'bot', 'sealed', 'https://example.com', '{thread.created}', now() - interval '1 day', $1::text::jsonb)`,
			`{"projectSlug":["`+project+`"]}`)
		run(`INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'thread.created', $2, 'run')`, project,
			[]byte(`{"event":"thread.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"projectSlug":"`+project+`"}}`))
	}
	run(`INSERT INTO events (id, type, payload, run_id) VALUES ('d', 'thread.created', '{"event":"thread.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}', 'run')`)
	require.Equal(t, []string{"a", "b", "c"}, unfinished(), "nobody waits for the last")
	run(`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT id, 'a', 1, 1, 'event', now() FROM webhooks WHERE filter @> '{"projectSlug":["a"]}'`)
	require.Equal(t, []string{"b", "c"}, unfinished())
	run(`UPDATE webhooks SET filter = NULL WHERE filter @> '{"projectSlug":["c"]}'`)
	require.Equal(t, []string{"a", "b", "c", "d"}, unfinished(), "one without a filter lacks all of them")
}
