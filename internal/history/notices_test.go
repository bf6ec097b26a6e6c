package history

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// TestNotices_Run: each disabling is noticed once, in the transaction that disables, where the owner asks for it.
func TestNotices_Run(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	r, _ := newTestRecorder(t, pool)
	hook := addWebhook(t, pool)
	fail := func(n int) (last Attempt) {
		for range n {
			last = prepared(t, pool, hook, false)
			record(t, r, last)
		}
		return last
	}
	notices := func() (list []db.ListNoticesRow) {
		list, err := db.New().ListNotices(t.Context(), pool, db.ListNoticesParams{Seconds: noticesLost.Seconds(), PageSize: 100})
		require.NoError(t, err)
		return list
	}
	enable := func() {
		execute(t, pool, "UPDATE webhooks SET is_active = true, failure_count = 0, generation = generation + 1")
	}
	fail(webhook.MaxFailures)
	require.Empty(t, notices(), "nobody asked")
	enable()
	execute(t, pool, "UPDATE bots SET notify_url = 'https://example.org/', notify_secret = 'x'")
	require.Empty(t, r.noticed)
	fail(webhook.MaxFailures - 1)
	require.Empty(t, notices())
	last := fail(1)
	require.Len(t, r.noticed, 1, "it is handed over at once")
	require.Len(t, notices(), 1)
	require.Equal(t, db.ListNoticesRow{WebhookID: hook, Kind: "disabled", Generation: 1, Host: "example.com", BotID: "bot"}, notices()[0])
	n, err := db.New().GetNotice(t.Context(), pool, db.GetNoticeParams{WebhookID: hook, Kind: "disabled", Generation: 1})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), n.NoticedAt, time.Minute)
	require.Equal(t, []any{"example.com", int32(webhook.MaxFailures), last.EventID, "HTTP 500"}, []any{n.Host, n.FailureCount, n.EventID, n.LastError})
	record(t, r, last) // a repeated recording
	fail(3)            // tests of the disabled webhook
	require.Len(t, notices(), 1)
	enable()
	fail(webhook.MaxFailures)
	require.Len(t, notices(), 2, "another disabling, another notice")

	enable()
	execute(t, pool, "UPDATE webhooks SET is_active = false, disabled_at = now()") // as the owner does
	require.Len(t, notices(), 2)

	// Those that cannot be handed over stay; those that can are marked.
	ctx, cancel := context.WithCancel(t.Context())
	var started []webhook.Notice
	r.RunNotices(ctx, func(_ context.Context, d webhook.Notice) error {
		if started = append(started, d); len(started) == 2 {
			cancel()
			return context.Canceled
		}
		return nil
	})
	require.Equal(t, []int{1, 2}, []int{started[0].Generation, started[1].Generation})
	require.Equal(t, "example.com", started[0].Host)
	require.Len(t, notices(), 1)

	// One that is still there long after is handed over again, as its workflow may have been terminated.
	execute(t, pool, "UPDATE notices SET started_at = now() - interval '9 minutes' WHERE generation = 1")
	require.Len(t, notices(), 1)
	execute(t, pool, "UPDATE notices SET started_at = now() - interval '11 minutes' WHERE generation = 1")
	require.Len(t, notices(), 2)
	execute(t, pool, "DELETE FROM webhooks")
	require.Empty(t, notices(), "of a deleted webhook there is nothing to say")
}
