package history

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
)

// TestQueue_RecoverPage_InFlight: an event that was accepted just now may be in flight, and is not sent beside that.
func TestQueue_RecoverPage_InFlight(t *testing.T) {
	q, webhookID := &Queue{Pool: dbtest.New(t)}, uuid.Must(uuid.NewV7())
	for _, sql := range []string{
		"INSERT INTO bots (id, name) VALUES ('bot', 'bot')",
		"INSERT INTO webhooks (id, bot_id, url, events) VALUES ('" + webhookID.String() + "', 'bot', 'https://example.com', '{post.created}')",
		"INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('old', 'post.created', '{}', 'run', now() - interval '1 min'), ('new', 'post.created', '{}', 'run', now())",
	} {
		_, err := q.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	_, err := q.StartRecovery(t.Context(), Span{WebhookID: webhookID, Since: time.Now().Add(-time.Hour), Until: time.Now()})
	require.NoError(t, err)
	step, err := q.RecoverPage(t.Context(), webhookID)
	require.NoError(t, err)
	require.Equal(t, 2, step.Found)
	_, due, _, err := q.Planned(t.Context(), webhookID, "old")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), due, 2*time.Second)
	_, due, _, err = q.Planned(t.Context(), webhookID, "new")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(directTime), due, 2*time.Second)
}
