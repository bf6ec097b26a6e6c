package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

func TestDeliveriesAreListedAsSent(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	payload := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"n":12345678901234567890.12345678901234567890,"html":"<a>&</a>","line":"` + "\u2028" + `","nul":"\u0000"}}`
	a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ('e', 'post.created', $1, 'run')", []byte(payload))
	for i := range 60 {
		a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, response_body, error, duration_ms, attempted_at) VALUES ("+dbtest.DeliveryID("now()")+", $1, 'e', $2, false, 500, $3, 'HTTP 500', 7, '2025-03-20 10:30:00.1234+00')", id, i+1, []byte("bad \xff nul \x00"))
	}
	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at) VALUES ("+dbtest.DeliveryID("now()")+", $1, 'e', 61, false, 'timeout', 5000, now())", id)
	got := a.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil)
	var list []map[string]any
	got.into(t, &list)
	require.Len(t, list, 50)
	require.Equal(t, 61.0, list[0]["attempt"], "newest first")
	require.Nil(t, list[0]["statusCode"])
	require.Nil(t, list[0]["responseBody"])
	require.Equal(t, "timeout", list[0]["error"])
	require.Equal(t, 60.0, list[1]["attempt"])
	require.Equal(t, "bad \uFFFD nul \x00", list[1]["responseBody"])
	require.Equal(t, "2025-03-20T10:30:00.123Z", list[1]["attemptedAt"])
	require.Equal(t, 50, strings.Count(string(got.body), `"payload":`+payload), "byte for byte")
	require.Equal(t, "event", list[0]["trigger"])
	for _, trigger := range []string{"retry", "redeliver", "recover", "test"} {
		a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, duration_ms, attempted_at) VALUES ("+dbtest.DeliveryID("now()")+", $1, 'e', 62, $2::text::delivery_trigger, true, 1, now())", id, trigger)
		a.do("GET", webhooksPath+"/"+id+"/deliveries?limit=1", key, nil).into(t, &list)
		require.Equal(t, trigger, list[0]["trigger"])
	}
}
