package webhook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                 0,
		"0":                                0,
		"1":                                time.Second,
		" 30 ":                             30 * time.Second,
		"007":                              7 * time.Second,
		"36000":                            10 * time.Hour,
		"36001":                            10 * time.Hour,
		"9223372036854775807":              10 * time.Hour,
		strings.Repeat("9", 4000):          10 * time.Hour,
		"-1":                               0,
		"+1":                               0,
		"1.5":                              0,
		"1e3":                              0,
		"0x10":                             0,
		"１２":                               0,
		"soon":                             0,
		"120, 240":                         0,
		"Thu, 20 Mar 2025 10:30:30 GMT":    30 * time.Second,
		"Thursday, 20-Mar-25 10:31:00 GMT": time.Minute,
		"Thu Mar 20 10:31:00 2025":         time.Minute,
		"Thu, 20 Mar 2025 10:29:59 GMT":    0,
		"Thu, 01 Jan 1970 00:00:00 GMT":    0,
		"Fri, 31 Dec 9999 23:59:59 GMT":    10 * time.Hour,
		"Thu, 99 Mar 2025 10:30:30 GMT":    0,
		"2025-03-20T10:31:00Z":             0,
	} {
		require.Equal(t, want, webhook.ParseRetryAfter(value, now), "%q", value)
	}
}
