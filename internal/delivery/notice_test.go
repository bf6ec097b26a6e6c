package delivery

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestDeliverer_NotifyOwner: a notice is signed with the bot's present secret.
func TestDeliverer_NotifyOwner(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	d := webhook.Notice{Kind: webhook.NoticeDisabled, WebhookID: r.subscribe(t, to.url, ""), Generation: 1}
	notify := func(attempt int) Result {
		result, err := r.NotifyOwner(t.Context(), Notice{WebhookID: d.WebhookID, Generation: 1, Attempt: attempt})
		require.NoError(t, err)
		return result
	}
	waits := func() {
		r.execute(t, `INSERT INTO notices (webhook_id, generation, host, failure_count, noticed_at, event_id, last_error)
			VALUES ($1, 1, 'example.com', 10, '2025-03-20T10:30:00Z', 'e1', 'HTTP 500') ON CONFLICT DO NOTHING`, d.WebhookID)
	}
	require.Equal(t, Result{Status: Skipped, Error: NoticeGone}, notify(1), "what a workflow says that was started by hand is not sent")
	waits()
	require.Equal(t, Result{Status: Skipped, Error: NoticesUnwanted}, notify(1))
	require.Zero(t, r.count(t, "notices"), "it has ended")
	r.notifyAt(t, to.url)
	r.execute(t, "UPDATE bots SET is_active = false")
	waits()
	require.Equal(t, Result{Status: Skipped, Error: BotSuspended}, notify(1))
	r.execute(t, "UPDATE bots SET is_active = true")
	for attempt := range 2 {
		waits()
		require.Equal(t, Result{Status: Delivered, StatusCode: 200}, notify(attempt+1))
	}
	require.Zero(t, r.count(t, "notices"), "it was taken")
	got := to.requests()
	require.Len(t, got, 2)
	require.Equal(t, string(got[0].body), string(got[1].body))
	require.Equal(t, d.NoticeID(), got[1].header.Get("webhook-id"))
	require.Equal(t, "webhook.disabled", got[1].header.Get("X-Mathub-Event"))
	require.Equal(t, webhook.AttemptKey(d.NoticeID(), d.WebhookID, 2).String(), got[1].header.Get("X-Mathub-Delivery"))
	require.Equal(t, webhook.Sign("s3cret", got[1].body), got[1].header.Get("X-Mathub-Signature"))
	require.NotEmpty(t, got[1].header.Get("webhook-signature"))
	var sent struct {
		Data struct{ EventID, LastError string }
	}
	require.NoError(t, json.Unmarshal(got[0].body, &sent))
	require.Equal(t, "e1", sent.Data.EventID)

	r.notifyAt(t, "http://10.0.0.1/")
	waits()
	blocked := notify(1)
	require.Equal(t, Failed, blocked.Status, "the egress guard stands before it too")
	require.InDelta(t, webhook.DefaultSchedule[0], blocked.RetryIn, 0.2*float64(webhook.DefaultSchedule[0]))
	require.Equal(t, 1, r.count(t, "notices"), "it is attempted again")
	require.Zero(t, notify(len(webhook.DefaultSchedule)+1).RetryIn)
	require.Zero(t, r.count(t, "notices"), "it is attempted no more")
	require.Zero(t, r.count(t, "deliveries"), "it counts for nothing")
}

// notifyAt has the bot's owner be notified at a URL.
func (r *rig) notifyAt(t *testing.T, url string) {
	t.Helper()
	secret, err := r.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	sealed, err := r.keyset.SealNotifyURL("bot", url)
	require.NoError(t, err)
	r.execute(t, "UPDATE bots SET notify_url = $1, notify_secret = $2", sealed, secret)
}

// TestDeliverer_NotifyOwner_Over: an owner whose endpoint was away is not told of what has changed since: that a webhook fails that
// has recovered, or that it has recovered when it fails again or is disabled.
func TestDeliverer_NotifyOwner_Over(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 503)
	id := r.subscribe(t, to.url, "")
	r.notifyAt(t, to.url)
	r.execute(t, "INSERT INTO failing_webhooks (webhook_id, number, noticed_at) VALUES ($1, 1, now())", id)
	notify := func(kind webhook.NoticeKind) Result {
		r.execute(t, "INSERT INTO notices (webhook_id, kind, generation, host, failure_count, noticed_at, event_id, last_error) VALUES ($1, $2, 1, 'example.com', 7, now(), 'e1', 'HTTP 500') ON CONFLICT DO NOTHING", id, kind)
		result, err := r.NotifyOwner(t.Context(), Notice{Kind: kind, WebhookID: id, Generation: 1, Attempt: 1})
		require.NoError(t, err)
		require.Equal(t, result.RetryIn > 0, r.count(t, "notices WHERE kind = $1", kind) == 1)
		return result
	}
	over := Result{Status: Skipped, Error: NoticeOver}
	require.Equal(t, Failed, notify(webhook.NoticeFailing).Status)
	r.execute(t, "UPDATE failing_webhooks SET ended_at = now()")
	require.Equal(t, over, notify(webhook.NoticeFailing))
	require.Equal(t, Failed, notify(webhook.NoticeRecovered).Status)
	r.execute(t, "UPDATE failing_webhooks SET number = 2, ended_at = NULL")
	require.Equal(t, over, notify(webhook.NoticeRecovered))
	r.execute(t, "UPDATE failing_webhooks SET number = 1, ended_at = now()")
	r.set(t, id, "is_active = false")
	require.Equal(t, over, notify(webhook.NoticeRecovered))
	require.Equal(t, Failed, notify(webhook.NoticeDisabled).Status)
	require.Len(t, to.requests(), 3)
}

// TestDeliverer_SendTestNotice: a test is signed, says that it is one, is sent by the rules of egress at the rate of unverified
// endpoints, and counts for nothing.
func TestDeliverer_SendTestNotice(t *testing.T) {
	t.Parallel()
	r, to := newRig(t, limited(3, 0.01)), newReceiver(t, 503)
	r.subscribe(t, to.url, "") // makes the bot
	test := func(botID string) Result {
		t.Helper()
		result, err := r.SendTestNotice(t.Context(), NoticeTest{BotID: botID, EventID: "tried", At: time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC)})
		require.NoError(t, err)
		return result
	}
	unwanted := Result{Status: Skipped, Error: NoticesUnwanted}
	require.Equal(t, unwanted, test("bot"))
	require.Equal(t, unwanted, test("no-such-bot"))
	r.notifyAt(t, to.url)
	r.execute(t, "UPDATE bots SET is_active = false")
	require.Equal(t, Result{Status: Skipped, Error: BotSuspended}, test("bot"))
	r.execute(t, "UPDATE bots SET is_active = true")
	for range 3 {
		require.Equal(t, Result{Status: Failed, StatusCode: 503, Error: "HTTP 503"}, test("bot"), "it is not attempted again")
	}
	limited := test("bot")
	require.Equal(t, RateLimited, limited.Error)
	require.Positive(t, limited.RetryIn)
	got := to.requests()
	require.Len(t, got, 3)
	require.Equal(t, "webhook.disabled", got[0].header.Get("X-Mathub-Event"))
	require.Equal(t, "tried", got[0].header.Get("webhook-id"))
	require.Equal(t, webhook.Sign("s3cret", got[0].body), got[0].header.Get("X-Mathub-Signature"))
	var sent struct {
		Test bool
		Data struct{ BotID string }
	}
	require.NoError(t, json.Unmarshal(got[0].body, &sent))
	require.True(t, sent.Test)
	require.Equal(t, "bot", sent.Data.BotID)

	r.notifyAt(t, "http://10.0.0.1/")
	blocked := test("bot")
	require.Equal(t, Failed, blocked.Status)
	require.Contains(t, blocked.Error, "blocked")
	require.Zero(t, r.count(t, "deliveries")+r.count(t, "notices"), "it counts for nothing")
}

// TestDeliverer_NotifyOwner_Failing: that a webhook fails, and that it has recovered, are notices of their own.
func TestDeliverer_NotifyOwner_Failing(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.notifyAt(t, to.url)
	r.execute(t, `INSERT INTO notices (webhook_id, kind, generation, host, failure_count, noticed_at, event_id, last_error, reason, since, delivered, failed)
		VALUES ($1, 'failing', 3, 'example.com', 7, '2025-03-20T10:30:00Z', 'e1', 'HTTP 500', 'failures_in_a_row', '2025-03-19T10:20:00Z', 1, 8),
		       ($1, 'recovered', 3, 'example.com', 0, '2025-03-20T11:30:00Z', '', '', '', '2025-03-20T10:30:00Z', 12, 1)`, id)
	for i, kind := range []webhook.NoticeKind{webhook.NoticeFailing, webhook.NoticeRecovered} {
		for _, want := range []Result{{Status: Delivered, StatusCode: 200}, {Status: Skipped, Error: NoticeGone}} {
			result, err := r.NotifyOwner(t.Context(), Notice{Kind: kind, WebhookID: id, Generation: 3, Attempt: 1})
			require.NoError(t, err)
			require.Equal(t, want, result)
		}
		got := to.requests()[i]
		require.Equal(t, "webhook."+string(kind), got.header.Get("X-Mathub-Event"))
		require.Equal(t, webhook.Notice{Kind: kind, WebhookID: id, Generation: 3}.NoticeID(), got.header.Get("webhook-id"))
		require.Equal(t, webhook.Sign("s3cret", got.body), got.header.Get("X-Mathub-Signature"))
	}
	requests := to.requests()
	require.Len(t, requests, 2)
	require.Contains(t, string(requests[0].body), `"reason":"failures_in_a_row","since":"2025-03-19T10:20:00.000Z","failureCount":7,"delivered":1,"failed":8,"lastError":"HTTP 500","eventId":"e1"}`)
	require.Contains(t, string(requests[1].body), `"failingAt":"2025-03-20T10:30:00.000Z","delivered":12,"failed":1}`)
	_, err := r.NotifyOwner(t.Context(), Notice{Kind: "other", WebhookID: id, Generation: 3, Attempt: 1})
	require.ErrorContains(t, err, "kind")
}
