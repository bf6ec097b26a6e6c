package activities

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// TestEachDisablingIsNoticedOnce, in the transaction that disables, where the owner asks for it.
func TestEachDisablingIsNoticedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hook := addWebhook(t, r.pool)
	fail := func(n int) (last Attempt) {
		for range n {
			last = outcome(hook, false)
			require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT generation FROM webhooks").Scan(&last.Generation))
			_, err := r.recorder.Record(t.Context(), last)
			require.NoError(t, err)
		}
		return last
	}
	notices := func() (list []db.ListNoticesRow) {
		list, err := db.New().ListNotices(t.Context(), r.pool, 100)
		require.NoError(t, err)
		return list
	}
	enable := func() {
		execute(t, r.pool, "UPDATE webhooks SET is_active = true, failure_count = 0, generation = generation + 1")
	}
	fail(webhook.MaxFailures)
	require.Empty(t, notices(), "nobody asked")
	enable()
	execute(t, r.pool, "UPDATE bots SET notify_url = 'https://example.org/', notify_secret = 'x'")
	require.Empty(t, r.recorder.noticed)
	fail(webhook.MaxFailures - 1)
	require.Empty(t, notices())
	last := fail(1)
	require.Len(t, r.recorder.noticed, 1, "it is handed over at once")
	require.Len(t, notices(), 1)
	n := notices()[0]
	require.WithinDuration(t, time.Now(), n.DisabledAt, time.Minute)
	n.DisabledAt = time.Time{}
	require.Equal(t, db.ListNoticesRow{
		WebhookID: hook, Generation: 1, FailureCount: webhook.MaxFailures, EventID: last.EventID, LastError: "HTTP 500", BotID: "bot", URL: "https://example.com",
	}, n)
	_, err := r.recorder.Record(t.Context(), last) // a repeated recording
	require.NoError(t, err)
	fail(3) // tests of the disabled webhook
	require.Len(t, notices(), 1)
	enable()
	fail(webhook.MaxFailures)
	require.Len(t, notices(), 2, "another disabling, another notice")

	enable()
	execute(t, r.pool, "UPDATE webhooks SET is_active = false, disabled_at = now()") // as the owner does
	require.Len(t, notices(), 2)

	// Those that cannot be handed over stay; those that can leave.
	ctx, cancel := context.WithCancel(t.Context())
	var started []webhook.Disabling
	r.Notices().Run(ctx, func(_ context.Context, d webhook.Disabling) error {
		if started = append(started, d); len(started) == 2 {
			cancel()
			return context.Canceled
		}
		return nil
	})
	require.Equal(t, []int{1, 2}, []int{started[0].Generation, started[1].Generation})
	require.Equal(t, "example.com", started[0].Host)
	require.Len(t, notices(), 1)
	execute(t, r.pool, "DELETE FROM webhooks")
	require.Empty(t, notices(), "of a deleted webhook there is nothing to say")
}

func TestANoticeIsSignedWithTheBotsPresentSecret(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, requests := receiver(t, answering(200))
	d := webhook.Disabling{WebhookID: uuid.New(), Generation: 1, BotID: "bot", Host: "example.com", FailureCount: 10, DisabledAt: time.Now(), LastError: "HTTP 500", EventID: "e1"}
	notify := func(attempt int) Result {
		result, err := r.NotifyOwner(t.Context(), Notice{Disabling: d, Attempt: attempt})
		require.NoError(t, err)
		return result
	}
	require.Equal(t, Result{Status: Skipped, Error: BotGone}, notify(1))
	execute(t, r.pool, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	require.Equal(t, Result{Status: Skipped, Error: NoticesUnwanted}, notify(1))
	sealed, err := r.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	execute(t, r.pool, "UPDATE bots SET notify_url = $1, notify_secret = $2", url, sealed)
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, notify(1))
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, notify(2))
	got := *requests
	require.Len(t, got, 2)
	require.Equal(t, string(got[0].body), string(got[1].body))
	require.Equal(t, d.NoticeID(), got[1].header.Get("webhook-id"))
	require.Equal(t, "webhook.disabled", got[1].header.Get("X-Mathub-Event"))
	require.Equal(t, webhook.DeliveryID(d.NoticeID(), d.WebhookID, 2).String(), got[1].header.Get("X-Mathub-Delivery"))
	require.Equal(t, webhook.Sign("s3cret", got[1].body), got[1].header.Get("X-Mathub-Signature"))
	require.NotEmpty(t, got[1].header.Get("webhook-signature"))
	var sent struct {
		Data struct{ EventID, LastError string }
	}
	require.NoError(t, json.Unmarshal(got[0].body, &sent))
	require.Equal(t, "e1", sent.Data.EventID)

	execute(t, r.pool, "UPDATE bots SET notify_url = 'http://10.0.0.1/'")
	blocked := notify(1)
	require.Equal(t, Failed, blocked.Status, "the egress guard stands before it too")
	require.Positive(t, blocked.RetryInMs)
	var rows int
	require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&rows))
	require.Zero(t, rows, "it counts for nothing")
}
