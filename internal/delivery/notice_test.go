package delivery

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestDeliverer_NotifyOwner: a notice is signed with the bot's present secret.
func TestDeliverer_NotifyOwner(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	d := webhook.Disabling{WebhookID: uuid.New(), Generation: 1, BotID: "bot", Host: "example.com", FailureCount: 10, DisabledAt: time.Now(), LastError: "HTTP 500", EventID: "e1"}
	notify := func(attempt int) Result {
		result, err := r.NotifyOwner(t.Context(), Notice{Disabling: d, Attempt: attempt})
		require.NoError(t, err)
		return result
	}
	require.Equal(t, Result{Status: Skipped, Error: BotGone}, notify(1))
	r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	require.Equal(t, Result{Status: Skipped, Error: NoticesUnwanted}, notify(1))
	sealed, err := r.keyset.SealNotify("bot", "s3cret")
	require.NoError(t, err)
	sealURL := func(url string) []byte {
		sealed, err := r.keyset.SealNotifyURL("bot", url)
		require.NoError(t, err)
		return sealed
	}
	r.execute(t, "UPDATE bots SET notify_url = $1, notify_secret = $2", sealURL(to.url), sealed)
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, notify(1))
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, notify(2))
	got := to.requests()
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

	r.execute(t, "UPDATE bots SET notify_url = $1", sealURL("http://10.0.0.1/"))
	blocked := notify(1)
	require.Equal(t, Failed, blocked.Status, "the egress guard stands before it too")
	require.InDelta(t, webhook.DefaultSchedule[0], blocked.RetryIn, 0.2*float64(webhook.DefaultSchedule[0]))
	require.Zero(t, notify(len(webhook.DefaultSchedule)+1).RetryIn)
	require.Zero(t, r.count(t, "deliveries"), "it counts for nothing")
}
