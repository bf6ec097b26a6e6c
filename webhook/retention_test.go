package webhook_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestRetentionIsReadInHoursAndDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0d": 0, "30d": 720 * time.Hour, "720h": 720 * time.Hour, "24h\n": 24 * time.Hour, "36h30m": 36*time.Hour + 30*time.Minute, "36525d": 36525 * 24 * time.Hour,
	} {
		got, err := webhook.ParseRetention(text)
		require.NoError(t, err, text)
		require.Equal(t, webhook.Retention(want), got, text)
		again, err := webhook.ParseRetention(got.String())
		require.NoError(t, err, text)
		require.Equal(t, got, again, "it reads what it writes")
	}
	require.Equal(t, "30d", webhook.DefaultRetention.String())
	for _, text := range []string{"", "30", "d", "-1d", "1.5d", "23h59m", "-720h", "1y", "36526d", "99999d", "9999999h", "30 d", "1d12h"} {
		_, err := webhook.ParseRetention(text)
		require.ErrorContains(t, err, "retention", text)
	}
	require.Error(t, (*webhook.Retention)(nil).UnmarshalText([]byte("30d")))
}

// TestRetentionIsLongerThanTheRetries: each of them may be pushed ten hours by Retry-After, the last is ten hours late by
// itself and 20 % more.
func TestRetentionIsLongerThanTheRetries(t *testing.T) {
	require.Equal(t, 72*time.Hour, webhook.DefaultSchedule.Longest())
	require.Zero(t, webhook.Schedule{}.Longest())
	retention := webhook.Retention(72 * time.Hour)
	require.ErrorContains(t, retention.Fits(webhook.DefaultSchedule), "72h")
	require.NoError(t, (retention + 1).Fits(webhook.DefaultSchedule))
	require.NoError(t, webhook.Retention(0).Fits(webhook.DefaultSchedule), "for ever")
	require.NoError(t, webhook.MinRetention.Fits(nil))
	require.NoError(t, webhook.DefaultRetention.Fits(webhook.DefaultSchedule))
}
