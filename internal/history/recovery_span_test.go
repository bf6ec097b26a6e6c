package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func TestARecoveryReachesBackToWhatFailedBeforeTheWebhookWasDisabled(t *testing.T) {
	now := time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time {
		at := now.Add(-d)
		return &at
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct{ created, disabled, since *time.Time }{
		"never disabled":           {created: ago(30 * day), since: ago(day)},
		"disabled":                 {created: ago(30 * day), disabled: ago(5 * day), since: ago(6 * day)},
		"disabled soon after made": {created: ago(3 * time.Hour), disabled: ago(time.Hour), since: ago(3 * time.Hour)},
		"new":                      {created: ago(time.Minute), since: ago(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			span := missedSpan(db.Webhook{CreatedAt: *c.created, DisabledAt: c.disabled}, now)
			require.Equal(t, *c.since, span.Since)
			require.Equal(t, now, span.Until)
		})
	}
}

// TestQueue_StartRecovery_KeepsSoMany: of a webhook's recoveries, the last 50 and those of the last day.
func TestQueue_StartRecovery_KeepsSoMany(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age        string
		made, kept int
	}{
		"few": {"2 days", 49, 50}, "many": {"2 days", 60, 50}, "many of today": {"1 hour", 60, 61},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			queue := Queue{Pool: dbtest.New(t)}
			id := addWebhook(t, queue.Pool)
			execute(t, queue.Pool, `INSERT INTO recoveries (id, webhook_id, since, until, state, begin_at, upto, after_time, created_at)
				SELECT gen_random_uuid(), $1, now(), now(), 'completed', now(), now(), now(), now() - $2::interval - n * interval '1 s' FROM generate_series(1, $3) AS n`, id, c.age, c.made)
			startRecovery(t, queue, lastDay(id))
			require.Equal(t, c.kept, count(t, queue.Pool, "recoveries"))
			require.Equal(t, 1, count(t, queue.Pool, "recoveries WHERE state = 'running'"))
		})
	}
}
