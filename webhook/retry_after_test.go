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
		"":                                  0,
		"0":                                 0,
		"1":                                 time.Second,
		" 30 ":                              30 * time.Second,
		"007":                               7 * time.Second,
		"36000":                             10 * time.Hour,
		"36001":                             10 * time.Hour,
		"9223372036854775807":               10 * time.Hour,
		strings.Repeat("9", 4000):           10 * time.Hour,
		"-1":                                0,
		"+1":                                0,
		"1.5":                               2 * time.Second,
		"299.997":                           300 * time.Second,
		"60.0":                              time.Minute,
		"60.":                               time.Minute,
		".5":                                time.Second,
		"0.0":                               0,
		"0.0001":                            time.Second,
		"35999.5":                           10 * time.Hour,
		"999999999999.1":                    10 * time.Hour,
		".":                                 0,
		"1.2.3":                             0,
		"-1.5":                              0,
		"60s":                               0,
		"1e3":                               0,
		"0x10":                              0,
		"１２":                                0,
		"soon":                              0,
		"120, 240":                          4 * time.Minute,
		"240,120":                           4 * time.Minute,
		"60, soon":                          time.Minute,
		"soon, 60.2, -5":                    61 * time.Second,
		",,60,":                             time.Minute,
		"60, Thu, 20 Mar 2025 10:30:30 GMT": time.Minute,
		"Thu, 20 Mar 2025 10:30:30 GMT, 10": 30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 GMT, Thu, 20 Mar 2025 10:31:30 +0000": 90 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 UTC":                                  30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 utc":                                  30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 UT":                                   30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 +0000":                                30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 -0000":                                30 * time.Second,
		"Thu, 20 Mar 2025 12:30:30 +0200":                                30 * time.Second,
		"Thu, 20 Mar 2025 05:30:30 -0500":                                30 * time.Second,
		"Thu, 20 Mar 2025 06:30:30 EDT":                                  30 * time.Second,
		"Thu, 20 Mar 2025 03:30:30 PDT":                                  30 * time.Second,
		"Thu, 20 Mar 2025 10:30:30 CET":                                  0, // no zone of Internet dates
		"Thu, 20 Mar 2025 12:30:30":                                      0,
		"Thursday, 20-Mar-25 10:31:00 UTC":                               time.Minute,
		"Thursday, 20-Mar-25 11:31:00 +0100":                             time.Minute,
		"Thu, 20-Mar-2025 10:31:00 GMT":                                  time.Minute,
		"Fri, 4 Apr 2025 10:30:00 GMT":                                   10 * time.Hour,
		"Tue Apr  1 10:31:00 2025":                                       10 * time.Hour,
		strings.Repeat("x,", 10000) + "60":                               0, // not read to its end
		"Thu, 20 Mar 2025 10:30:30 GMT":                                  30 * time.Second,
		"Thursday, 20-Mar-25 10:31:00 GMT":                               time.Minute,
		"Thu Mar 20 10:31:00 2025":                                       time.Minute,
		"Thu, 20 Mar 2025 10:29:59 GMT":                                  0,
		"Thu, 01 Jan 1970 00:00:00 GMT":                                  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":                                  10 * time.Hour,
		"Thu, 99 Mar 2025 10:30:30 GMT":                                  0,
		"2025-03-20T10:31:00Z":                                           0,
	} {
		require.Equal(t, want, webhook.ParseRetryAfter(value, now), "%q", value)
	}
}
