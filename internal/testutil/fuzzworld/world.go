// Package fuzzworld is the rows that stand before each input of a fuzz target, and the pages that show them.
package fuzzworld

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// The rows of a World. The examples of openapi.yaml are about them.
const (
	Hook     = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"
	Delivery = "5e0f4a3c-6f0e-5a52-9d0b-7f2f6f0a1c11"
	Event    = "post-p1-created"
	Bot      = "bot-lemma"
	OtherKey = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e02"
	Session  = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e03"
	Incident = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e04"

	key      = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e01"
	recovery = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e05"
)

// World is a database with one row of everything, which stands before each input.
type World struct {
	Pool *pgxpool.Pool
	// Key is a bot's, Cookie one of its portal's sessions.
	Key, Cookie string
	// Secrets may stand in no answer: those of the rows, and how an internal error would look.
	Secrets []string
	// Changed says that the rows must be made again before the next input.
	Changed bool

	rows       []statement
	recovering bool
	stands     string // what the rows say since they were made
}

type statement struct {
	sql  string
	args []any
}

// NewWorld plans the rows; Restore makes them. The webhook and the notices lead to the receiver, a URL.
func NewWorld(t testing.TB, pool *pgxpool.Pool, keyset *db.Keyset, receiver string) *World {
	t.Helper()
	ofBots := &bots.Service{Pool: pool, Keyset: keyset}
	first, err := ofBots.Create(t.Context(), bots.New{ID: Bot, Name: "Lemma"})
	require.NoError(t, err)
	w := &World{Pool: pool, Changed: true}
	made, text, err := ofBots.CreateKey(t.Context(), first.ID, "")
	require.NoError(t, err)
	w.Key = text
	w.Cookie, err = ofBots.OpenPortalWithKey(t.Context(), first.ID, made.ID)
	require.NoError(t, err)
	const hookSecret, notifySecret = "whsec_c2VjcmV0LW9mLXRoZS13ZWJob29rLWluLWZ1enppbmc=", "whsec_c2VjcmV0LW9mLW5vdGljZXMtaW4tZnV6emluZy4uLi4=" //nolint:gosec // of this test alone
	w.Secrets = []string{hookSecret, notifySecret, w.Key, w.Cookie, "goroutine ", "SQLSTATE", "runtime error"}
	w.plan(t, keyset, receiver, hookSecret, notifySecret)
	return w
}

func (w *World) add(sql string, args ...any) { w.rows = append(w.rows, statement{sql, args}) }

func (w *World) plan(t testing.TB, keyset *db.Keyset, receiver, hookSecret, notifySecret string) {
	t.Helper()
	sealed := func(raw []byte, err error) []byte {
		require.NoError(t, err)
		return raw
	}
	id := uuid.MustParse(Hook)
	incident, err := json.Marshal(history.IncidentPlan{Errors: []history.IncidentError{}})
	require.NoError(t, err)
	for _, table := range []string{"bots", "events", "deliveries", "queue", "incidents", "pauses", "audit_log", "fuses", "allowances"} {
		w.add("DELETE FROM " + table)
	}
	w.add("INSERT INTO bots (id, name, notify_url, notify_secret) VALUES ($1, 'Lemma', $2, $3), ('bot-euler-1', 'Euler', NULL, NULL)",
		Bot, sealed(keyset.SealNotifyURL(Bot, receiver+"/notify")), sealed(keyset.SealNotify(Bot, notifySecret)))
	w.add("INSERT INTO api_keys (id, bot_id, key_hash, name, prefix) VALUES ($1, $2, $3, 'first', 'bot_first'), ($4, $2, sha256('other'), 'other', 'bot_other')",
		key, Bot, bots.HashKey(w.Key), OtherKey)
	w.add("INSERT INTO portal_sessions (id, token_hash, bot_id, role) VALUES ($1, sha256('another'), $2, 'view'), (gen_random_uuid(), $3, $2, 'manage')", Session, Bot, bots.HashKey(w.Cookie))
	w.add("INSERT INTO webhooks (id, bot_id, url, origin, name, events, secret) VALUES ($1, $2, $3, $4, 'Mentions', '{post.created,mention}', $5)",
		id, Bot, sealed(keyset.SealURL(id, receiver+"/hook")), webhook.OriginOf(receiver), sealed(keyset.Seal(id, hookSecret)))
	w.add(`INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ($1, 'post.created', '{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"postId":"p1"}}', 'run', '2020-01-03 14:05:48Z')`, Event) // as the delivery's id says
	w.add("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, error, response_body, duration_ms, attempted_at) VALUES ($1, $2, $3, 1, false, 503, 'HTTP 503', 'away', 41, now())", Delivery, id, Event)
	w.add("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 2, 2, 'retry', now() + interval '1 h')", id, Event)
	w.add(`INSERT INTO incidents (id, disabled_since, disabled_until, errors, bot_ids, plan, actor_kind, actor_id, actor_name, client, request)
		VALUES ($1, now(), now(), '{}', '{}', $2, 'service', '', '', '', '')`, Incident, incident)
	w.add("INSERT INTO pauses (scope, value, reason) VALUES ('host', 'bots.example.org', 'away')")
	w.add("INSERT INTO fuses (class) VALUES ('dns')")
}

// Restore makes the rows again if they have changed, with a recovery that runs or without.
func (w *World) Restore(t testing.TB, recovering bool) {
	t.Helper()
	for began := time.Now(); w.Changed || w.recovering != recovering; {
		var batch pgx.Batch
		for _, row := range w.rows {
			batch.Queue(row.sql, row.args...)
		}
		if recovering {
			batch.Queue("INSERT INTO recoveries (id, webhook_id, since, until, begin_at, upto, after_time) VALUES ($1, $2, now(), now(), now(), now(), now())", recovery, Hook)
		}
		err := w.Pool.SendBatch(context.Background(), &batch).Close()
		var conflict interface{ SQLState() string } // with a delivery of an input before
		if errors.As(err, &conflict) && slices.Contains([]string{"40P01", "40001", "23505"}, conflict.SQLState()) && time.Since(began) < time.Minute {
			continue
		}
		require.NoError(t, err)
		w.Changed, w.recovering, w.stands = false, recovering, w.state(t)
	}
}

// RequireUnchanged since Restore, but for what deliveries change.
func (w *World) RequireUnchanged(t testing.TB, said string) {
	t.Helper()
	require.Equal(t, w.stands, w.state(t), "refused, it has changed something: %s", said)
}

func (w *World) state(t testing.TB) (sum string) {
	t.Helper()
	require.NoError(t, w.Pool.QueryRow(context.Background(), `SELECT concat_ws('|',
		(SELECT string_agg(concat_ws(',', id, md5(url), name, events, filter, md5(secret), md5(extras), is_active, ordered), ';') FROM webhooks),
		(SELECT string_agg(concat_ws(',', id, name, md5(notify_url), md5(notify_secret), is_active, suspended_reason), ';' ORDER BY id) FROM bots),
		(SELECT string_agg(concat_ws(',', scope, value, reason), ';' ORDER BY scope, value) FROM pauses),
		(SELECT count(*) FROM api_keys), (SELECT count(*) FROM portal_sessions), (SELECT count(*) FROM portal_links), (SELECT count(*) FROM incidents),
		(SELECT count(*) FROM fuses WHERE reset_at IS NULL), (SELECT count(*) FROM recoveries))`).Scan(&sum))
	return sum
}
