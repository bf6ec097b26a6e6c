package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/webhook"
)

// TestWhatIsNotKeptIsSaidClearly: of what was removed, or may be at any moment, and of what never was.
func TestWhatIsNotKeptIsSaidClearly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(c *api.Config) { c.Retention = webhook.DefaultRetention })
	_, key := a.bot()
	hook := a.hook(key)
	old, removed := webhook.DeliveryID(time.Now(), uuid.New()).String(), uuid.NewString()
	a.execute("INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('e', 'post.created', '{}', 'r', now() - interval '31 days')")
	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ($1, $2, 'e', 1, true, 1, now() - interval '31 days')", old, hook)
	for _, delivery := range []string{old, removed} {
		got := a.do("POST", webhooksPath+"/"+hook+"/deliveries/"+delivery+"/redeliver", key, nil)
		require.Equal(t, http.StatusNotFound, got.status)
		require.Contains(t, string(got.body), "kept for 30d")
	}
	// One that was accepted within the retention can be sent again; when it was last sent makes no difference.
	a.execute("UPDATE deliveries SET attempted_at = now() - interval '1 day'")
	require.Equal(t, http.StatusNotFound, a.do("POST", webhooksPath+"/"+hook+"/deliveries/"+old+"/redeliver", key, nil).status)
	a.execute("UPDATE events SET accepted_at = now() - interval '29 days'")
	require.Equal(t, http.StatusServiceUnavailable, a.do("POST", webhooksPath+"/"+hook+"/deliveries/"+old+"/redeliver", key, nil).status, "nobody runs a Temporal server")
	got := a.do("POST", webhooksPath+"/"+hook+"/recover", key, fmt.Sprintf(`{"since":%q}`, webhook.FormatTime(time.Now().Add(-31*24*time.Hour))))
	require.Equal(t, http.StatusUnprocessableEntity, got.status)
	require.Equal(t, []string{"since"}, got.fields(t))
	require.Contains(t, string(got.body), "at most 30d ago")
	// What is asked for to the day is not refused for the time that passes on the way, and no more is when nothing is asked
	// for.
	a.execute("UPDATE webhooks SET created_at = now() - interval '90 days', disabled_at = now() - interval '60 days'")
	for _, body := range []string{fmt.Sprintf(`{"since":%q}`, webhook.FormatTime(time.Now().Add(-30*24*time.Hour-time.Second))), `{}`} {
		require.Equal(t, http.StatusAccepted, a.do("POST", webhooksPath+"/"+hook+"/recover", key, body).status, body)
		require.Equal(t, http.StatusNoContent, a.do("DELETE", webhooksPath+"/"+hook+"/recover", key, nil).status)
	}

	forever := newAPI(t, nil, nil)
	_, key = forever.bot()
	hook = forever.hook(key)
	require.Equal(t, http.StatusAccepted, forever.do("POST", webhooksPath+"/"+hook+"/recover", key, `{"since":"2020-01-01T00:00:00Z"}`).status)
	got = forever.do("POST", webhooksPath+"/"+hook+"/deliveries/"+removed+"/redeliver", key, nil)
	require.Equal(t, http.StatusNotFound, got.status)
	require.NotContains(t, string(got.body), "kept")
}
