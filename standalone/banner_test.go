package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheBannerNamesPauses after the logs, a line each; without one, it leaves no gap.
func TestTheBannerNamesPauses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pauses []string
		want   string
	}{
		"none": {nil, "  Logs           /logs\n\nIn another terminal"},
		"two":  {[]string{"deliveries of all", "deliveries of bot b"}, "  Logs           /logs\n  Paused         deliveries of all\n  Paused         deliveries of bot b\n\nIn another terminal"},
	} {
		var b strings.Builder
		require.NoError(t, banner.Execute(&b, map[string]any{"API": "a", "Service": "a", "Logs": "/logs", "Pauses": c.pauses}))
		require.Contains(t, b.String(), c.want, name)
	}
}
