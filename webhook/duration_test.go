package webhook_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestParseDuration: what a refusal names is allowed.
func TestParseDuration(t *testing.T) {
	t.Parallel()
	d, err := webhook.ParseDuration("ttl", "90s", time.Second, 10*time.Minute)
	require.NoError(t, err)
	require.Equal(t, 90*time.Second, d)
	for _, text := range []string{"", "5", "0s", "-1s", "10m1ns", "999ms", "1e9h", "١s", " 5m", "9999999999h"} {
		_, err := webhook.ParseDuration("ttl", text, time.Second, 10*time.Minute)
		require.EqualError(t, err, "invalid ttl: must be a duration from 1s to 10m, such as 5m", text)
	}
	_, err = webhook.ParseDuration("overlap", "169h", 0, 7*24*time.Hour)
	require.EqualError(t, err, "invalid overlap: must be a duration from 0s to 168h, such as 24h or 1h30m")
	require.NoError(t, webhook.CheckDuration("overlap", 0, 0, time.Hour))
}
