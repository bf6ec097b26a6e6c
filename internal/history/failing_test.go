package history

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// failingRig looks for failing webhooks of a bot whose owner wants notices.
type failingRig struct {
	*Recorder
	pool *pgxpool.Pool
}

func newFailingRig(t *testing.T) failingRig {
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	addWebhook(t, pool)
	execute(t, pool, "UPDATE bots SET notify_url = 'https://example.org/', notify_secret = 'x'")
	return failingRig{r, pool}
}

// fails adds a webhook whose run of failures began so long ago.
func (f failingRig) fails(t *testing.T, since time.Duration) uuid.UUID {
	id := addWebhook(t, f.pool)
	execute(t, f.pool, "UPDATE webhooks SET queued = true, failure_count = 7, failing_since = now() - make_interval(secs => $2), failed_at = now() - interval '5 hours', enabled_at = now() - interval '30 days' WHERE id = $1", id, since.Seconds())
	return id
}

// attempts counts attempts of an hour, so long ago.
func (f failingRig) attempts(t *testing.T, id uuid.UUID, ago time.Duration, delivered, failed int) {
	execute(t, f.pool, `INSERT INTO delivery_stats VALUES ($1, 3600, date_trunc('hour', now() - make_interval(secs => $2)), jsonb_build_object('delivered', $3::int, 'failed', $4::int))
		ON CONFLICT (webhook_id, step, start) DO UPDATE SET tally = excluded.tally`, id, ago.Seconds(), delivered, failed)
}

// pass makes a pass, and returns what kinds of notices the webhook has waiting.
func (f failingRig) pass(t *testing.T, id uuid.UUID) (kinds []string) {
	t.Helper()
	execute(t, f.pool, "UPDATE failing_passes SET passed_at = '-infinity'")
	require.NoError(t, f.lookForFailing(t.Context()))
	rows, err := f.pool.Query(t.Context(), "SELECT kind FROM notices WHERE webhook_id = $1 ORDER BY generation, kind", id)
	require.NoError(t, err)
	for rows.Next() {
		var kind string
		require.NoError(t, rows.Scan(&kind))
		kinds = append(kinds, kind)
	}
	return kinds
}

// later makes what was noticed a day older.
func (f failingRig) later(t *testing.T) {
	execute(t, f.pool, "UPDATE failing_webhooks SET noticed_at = noticed_at - interval '1 day', recovered_at = recovered_at - interval '1 day'")
}

// TestNotices_Failing: a webhook that fails for a day is noticed once, however many processes look, and once more when it works.
func TestNotices_Failing(t *testing.T) {
	t.Parallel()
	f := newFailingRig(t)
	require.Empty(t, f.pass(t, f.fails(t, 23*time.Hour)))
	id := f.fails(t, 25*time.Hour)
	f.attempts(t, id, 2*time.Hour, 0, 7)
	execute(t, f.pool, "UPDATE failing_passes SET passed_at = now() - interval '6 minutes'")
	var looking sync.WaitGroup
	for range 8 {
		looking.Go(func() {
			if err := f.lookForFailing(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	looking.Wait()
	require.Equal(t, 1, count(t, f.pool, "notices"))
	n, err := db.New().GetNotice(t.Context(), f.pool, db.GetNoticeParams{WebhookID: id, Kind: "failing", Generation: 1})
	require.NoError(t, err)
	require.Equal(t, []any{"example.com", int32(7), "failures_in_a_row", int64(0), int64(7)}, []any{n.Host, n.FailureCount, n.Reason, n.Delivered, n.Failed})
	require.WithinDuration(t, time.Now().Add(-25*time.Hour), n.Since, time.Minute)
	require.Equal(t, []string{"failing"}, f.pass(t, id))
	f.later(t)
	require.Equal(t, []string{"failing"}, f.pass(t, id), "it is said once while it lasts")

	f.attempts(t, id, 0, 1, 5)
	require.Equal(t, []string{"failing"}, f.pass(t, id))
	execute(t, f.pool, "UPDATE webhooks SET failure_count = 0, failing_since = NULL WHERE id = $1", id)
	require.Equal(t, []string{"failing"}, f.pass(t, id), "one success among five failures is no recovery")
	f.attempts(t, id, 0, 5, 5)
	require.Equal(t, []string{"failing", "recovered"}, f.pass(t, id))

	execute(t, f.pool, "UPDATE webhooks SET failure_count = 7, failing_since = now() - interval '2 days', failed_at = now() WHERE id = $1", id)
	require.Len(t, f.pass(t, id), 3, "it was noticed two days ago")
	execute(t, f.pool, "UPDATE webhooks SET failure_count = 0, failing_since = NULL WHERE id = $1", id)
	require.Len(t, f.pass(t, id), 3, "its owner heard today already that it recovered")
	execute(t, f.pool, "UPDATE webhooks SET failure_count = 7, failing_since = now() - interval '2 days' WHERE id = $1", id)
	require.Len(t, f.pass(t, id), 3, "and today that it fails")
	f.later(t)
	require.Len(t, f.pass(t, id), 3, "which is what its owner knows")
	execute(t, f.pool, "UPDATE webhooks SET failure_count = 0, failing_since = NULL WHERE id = $1", id)
	require.Equal(t, []string{"failing", "recovered", "failing", "recovered"}, f.pass(t, id), "it is said a day later")
	execute(t, f.pool, "UPDATE webhooks SET failure_count = 7, failing_since = now() - interval '2 days', failed_at = now() WHERE id = $1", id)
	f.later(t)
	require.Len(t, f.pass(t, id), 5)
	execute(t, f.pool, "UPDATE webhooks SET is_active = false WHERE id = $1", id)
	f.later(t)
	require.Len(t, f.pass(t, id), 5, "of a disabled webhook its owner is notified otherwise")
	require.Equal(t, 1, count(t, f.pool, "failing_webhooks WHERE ended_at IS NOT NULL"))

	require.NoError(t, f.lookForFailing(t.Context()))
	execute(t, f.pool, "UPDATE webhooks SET is_active = true WHERE id = $1", id)
	require.NoError(t, f.lookForFailing(t.Context()), "less than five minutes later")
	require.Equal(t, 5, count(t, f.pool, "notices"))
	execute(t, f.pool, "UPDATE failing_passes SET passed_at = now() + interval '1 year'")
	execute(t, f.pool, "UPDATE webhooks SET failing_since = now() - interval '2 days', failed_at = now() WHERE id = $1", id)
	f.later(t)
	require.NoError(t, f.lookForFailing(t.Context()))
	require.Equal(t, 6, count(t, f.pool, "notices"), "a clock that was ahead stops nothing")
}

// TestNotices_Failing_SuccessRate: half of at least twenty attempts of a day.
func TestNotices_Failing_SuccessRate(t *testing.T) {
	t.Parallel()
	f := newFailingRig(t)
	id := f.fails(t, time.Hour)
	f.attempts(t, id, 26*time.Hour, 0, 100)
	f.attempts(t, id, 3*time.Hour, 4, 9)
	f.attempts(t, id, 0, 3, 3)
	require.Empty(t, f.pass(t, id), "19 attempts")
	f.attempts(t, id, 0, 6, 1)
	require.Empty(t, f.pass(t, id), "half of 20")
	f.attempts(t, id, 0, 5, 2)
	require.Equal(t, []string{"failing"}, f.pass(t, id))
	n, err := db.New().GetNotice(t.Context(), f.pool, db.GetNoticeParams{WebhookID: id, Kind: "failing", Generation: 1})
	require.NoError(t, err)
	require.Equal(t, []any{"success_rate", int64(9), int64(11)}, []any{n.Reason, n.Delivered, n.Failed})
	require.WithinDuration(t, time.Now().Add(-24*time.Hour), n.Since, time.Minute)
}

// TestNotices_Failing_Verifications: an endpoint that does not know of verifications fails at none of its deliveries, and one that agrees
// takes none.
func TestNotices_Failing_Verifications(t *testing.T) {
	t.Parallel()
	f := newFailingRig(t)
	id := f.fails(t, time.Hour)
	deliver := func(trigger string, success bool, n int) {
		execute(t, f.pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, error, duration_ms, attempted_at)
			SELECT `+dbtest.DeliveryID("now()")+`, $1, 'e', n, $2::text::delivery_trigger, $3::boolean, CASE WHEN NOT $3::boolean THEN 'HTTP 503' END, 1, now() FROM generate_series(1, $4::integer) n`, id, trigger, success, n)
		require.NoError(t, (&Budget{Pool: f.pool, Log: slog.New(slog.DiscardHandler)}).Pass(t.Context()))
	}
	deliver("verify", false, 30)
	deliver("event", true, 10)
	deliver("event", false, 9)
	require.Empty(t, f.pass(t, id), "9 of 19 failed")
	deliver("event", false, 2)
	require.Equal(t, []string{"failing"}, f.pass(t, id))
	n, err := db.New().GetNotice(t.Context(), f.pool, db.GetNoticeParams{WebhookID: id, Kind: "failing", Generation: 1})
	require.NoError(t, err)
	require.Equal(t, []int64{10, 11}, []int64{n.Delivered, n.Failed})

	execute(t, f.pool, "UPDATE webhooks SET failure_count = 0, failing_since = NULL WHERE id = $1", id)
	deliver("verify", true, 5)
	require.Len(t, f.pass(t, id), 1, "more failed than were delivered")
	deliver("event", true, 1)
	require.Len(t, f.pass(t, id), 2)
}

// TestNotices_Failing_Enabled: of a webhook that was enabled again, nothing from before counts.
func TestNotices_Failing_Enabled(t *testing.T) {
	t.Parallel()
	f := newFailingRig(t)
	id := f.fails(t, 48*time.Hour)
	f.attempts(t, id, 6*time.Hour, 0, 30)
	execute(t, f.pool, "UPDATE webhooks SET enabled_at = now() - interval '4 hours' WHERE id = $1", id)
	require.Empty(t, f.pass(t, id), "no attempt failed since")
	execute(t, f.pool, "UPDATE webhooks SET failed_at = now() WHERE id = $1", id)
	require.Empty(t, f.pass(t, id), "one did")
	f.attempts(t, id, 2*time.Hour, 0, 20)
	require.Equal(t, []string{"failing"}, f.pass(t, id))
	n, err := db.New().GetNotice(t.Context(), f.pool, db.GetNoticeParams{WebhookID: id, Kind: "failing", Generation: 1})
	require.NoError(t, err)
	require.Equal(t, []any{"success_rate", int64(20)}, []any{n.Reason, n.Failed})
}

// TestNotices_Failing_Ours: nothing that may be our own fault, or that its owner or an operator wants, is noticed.
func TestNotices_Failing_Ours(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ begin, end string }{
		"a fuse is there":         {"INSERT INTO fuses (class) VALUES ('dns')", "DELETE FROM fuses"},
		"a fuse was blown":        {"SELECT", "SELECT"},
		"a worker has no access":  {"INSERT INTO outages (worker, cause) VALUES ('w', 'dns: timeout')", "DELETE FROM outages"},
		"all is paused":           {"INSERT INTO pauses (scope, value, reason) VALUES ('all', '', 'a reason')", "DELETE FROM pauses"},
		"it was in an incident":   {"INSERT INTO incidents VALUES (gen_random_uuid(), now() - interval '3 hours', now() - interval '1 hour', '{}', '{}', '{}', 'running', 'service', '', '', '', ''); INSERT INTO incident_webhooks (incident_id, webhook_id, bot_id, generation, turn) SELECT i.id, w.id, w.bot_id, 0, 1 FROM incidents i, webhooks w", "DELETE FROM incidents"},
		"it is suspended":         {"UPDATE webhooks SET suspended = true", "UPDATE webhooks SET suspended = false"},
		"it is disabled":          {"UPDATE webhooks SET is_active = false", "UPDATE webhooks SET is_active = true"},
		"nobody wants to know it": {"UPDATE bots SET notify_url = NULL, notify_secret = NULL", "UPDATE bots SET notify_url = 'x', notify_secret = 'x'"},
		"nothing failed lately":   {"UPDATE webhooks SET failed_at = now() - interval '25 hours'", "UPDATE webhooks SET failed_at = now()"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFailingRig(t)
			id := f.fails(t, 48*time.Hour)
			execute(t, f.pool, c.begin)
			if name == "a fuse was blown" {
				require.NoError(t, db.New().BlowFuse(t.Context(), f.pool, "dns"))
				execute(t, f.pool, "DELETE FROM fuses")
			}
			require.Empty(t, f.pass(t, id))
			execute(t, f.pool, c.end)
			if strings.HasPrefix(name, "a fuse") {
				require.Empty(t, f.pass(t, id), "what it was about is still in the day's attempts")
				execute(t, f.pool, "UPDATE failing_passes SET fuse_at = now() - interval '25 hours'")
			}
			require.Equal(t, []string{"failing"}, f.pass(t, id), "afterwards it is")
		})
	}
}

// TestFailingSince: a webhook's run of failures has a beginning, and no other.
func TestFailingSince(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	id := addWebhook(t, pool)
	since := func() (at *time.Time) {
		scan(t, pool, "SELECT failing_since FROM webhooks WHERE id = $1", []any{id}, &at)
		return at
	}
	require.Nil(t, since())
	record(t, r, prepared(t, pool, id, false))
	first := since()
	require.WithinDuration(t, time.Now(), *first, time.Minute)
	record(t, r, prepared(t, pool, id, false))
	require.Equal(t, first, since())
	record(t, r, prepared(t, pool, id, true))
	require.Nil(t, since())
	record(t, r, prepared(t, pool, id, false))
	require.True(t, since().After(*first))
}
