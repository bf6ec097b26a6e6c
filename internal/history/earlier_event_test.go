package history

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/problem"
)

// TestWhatAnEarlierEventWasSentIsNotAnothers: deliveries of an event that is no longer kept stand in their partition for some days more.
// Its id may be accepted again meanwhile, as an event for another bot: no page shows the earlier bot what that says, and none counts the
// earlier deliveries.
func TestWhatAnEarlierEventWasSentIsNotAnothers(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	recorder, _ := newTestRecorder(t, pool)
	reader := &Reader{Pool: pool}
	hook, hooks := addWebhook(t, pool), []uuid.UUID{}
	hooks = append(hooks, hook)
	addEvent(t, pool, "e", 31*24*time.Hour)
	earlier := outcome(hook, true).of(t, pool, "e", 1)
	record(t, recorder, earlier)
	execute(t, pool, "DELETE FROM events")
	execute(t, pool, `INSERT INTO events (id, type, payload, run_id, bot_ids, accepted_at) VALUES ('e', 'mention', '{"for":"another"}', 'run', '{another}', now() - interval '1 hour')`)

	for _, f := range []Filter{{}, {EventID: "e"}} {
		f.Before, f.Limit = Newest, 50
		page, err := reader.Deliveries(t.Context(), hooks, f, 1<<20)
		require.NoError(t, err)
		require.Empty(t, page.Deliveries)
	}
	_, err := reader.Delivery(t.Context(), hook, earlier.DeliveryID)
	require.ErrorIs(t, err, problem.ErrNotFound)
	_, _, err = reader.BotEvent(t.Context(), "bot", "e", hooks)
	require.ErrorIs(t, err, problem.ErrNotFound)
	next, err := reader.NextAttempt(t.Context(), hook, earlier.DeliveryID, 0)
	require.NoError(t, err)
	require.False(t, next.IsKept)
	summaries, err := reader.Summaries(t.Context(), hooks)
	require.NoError(t, err)
	require.Nil(t, summaries[hook].LastDelivery)
	audience, err := reader.EventAudience(t.Context(), "e")
	require.NoError(t, err)
	require.Zero(t, audience.Delivered)
	sent, _, err := reader.EventWebhooks(t.Context(), "e", EventFilter{Limit: 50})
	require.NoError(t, err)
	require.Empty(t, sent)

	// Of one that is for the bot again, the first attempt is the first, and one that it never was sent is found after a restore.
	execute(t, pool, "UPDATE events SET bot_ids = NULL, type = 'post.created'")
	unfinished, err := db.New().UnfinishedEvents(t.Context(), pool, db.UnfinishedEventsParams{Most: 10})
	require.NoError(t, err)
	require.Len(t, unfinished, 1)
	later := outcome(hook, false).of(t, pool, "e", 1)
	record(t, recorder, later)
	next, err = reader.NextAttempt(t.Context(), hook, later.DeliveryID, 0)
	require.NoError(t, err)
	require.Equal(t, []any{true, int64(1), int32(2)}, []any{next.IsKept, next.Attempts, next.Attempt})
	_, taken, err := reader.BotEvent(t.Context(), "bot", "e", hooks)
	require.NoError(t, err)
	require.Equal(t, []any{int64(1), false, later.DeliveryID}, []any{taken[0].Attempts, taken[0].Delivered, taken[0].LastID})
}
