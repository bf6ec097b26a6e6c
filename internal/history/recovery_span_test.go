package history

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
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
