package webhook_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestFormatTime(t *testing.T) {
	for _, c := range []struct {
		time time.Time
		want string
	}{
		{time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC), "2025-03-20T10:30:00.000Z"},
		{time.Date(2025, 3, 20, 11, 30, 0, 0, time.FixedZone("CET", 3600)), "2025-03-20T10:30:00.000Z"},
		{time.Date(2025, 3, 20, 10, 30, 0, 999_999_999, time.UTC), "2025-03-20T10:30:00.999Z"},
		{time.Date(2025, 3, 20, 10, 30, 0, 1_000_000, time.UTC), "2025-03-20T10:30:00.001Z"},
	} {
		require.Equal(t, c.want, webhook.FormatTime(c.time))
	}
}

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2025-03-20T10:30:00Z":                "2025-03-20T10:30:00.000Z",
		"2025-03-20T10:30:00.5Z":              "2025-03-20T10:30:00.500Z",
		"2025-03-20T10:30:00.123456789+01:00": "2025-03-20T09:30:00.123Z",
		"2025-03-20T10:30:00-23:59":           "2025-03-21T10:29:00.000Z",
		"2025-03-20t10:30:00z":                "2025-03-20T10:30:00.000Z",
		"2024-02-29T00:00:00Z":                "2024-02-29T00:00:00.000Z",
		"0000-01-01T00:00:00Z":                "0000-01-01T00:00:00.000Z",
		"9999-12-31T23:59:59.999Z":            "9999-12-31T23:59:59.999Z",
	} {
		got, err := webhook.ParseTime(text)
		require.NoError(t, err, text)
		require.Equal(t, want, webhook.FormatTime(got))
	}
	for _, text := range []string{
		"", "now", "2025-03-20", "2025-03-20 10:30:00Z", "2025-03-20T10:30Z", "2025-03-20T10:30:00", "1742466600",
		"2025-03-20T10:30:00,5Z", "2025-03-20T9:30:00Z", "2025-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "2025-03-20T24:00:00Z",
		"2025-03-20T10:30:00+24:00", "2025-03-20T10:30:00+01", "+12025-03-20T10:30:00Z", "2025-03-20T10:30:00Z ",
		"2025-03-20T10:30:00Z\x00", "2025-03-20T10:30:00Z\n", "2025-03-20T10:30:60Z", "2025-03-20T10:30:00.Z",
		"2025-03-20T10:30:00." + strings.Repeat("0", 100) + "Z", "２０２５-03-20T10:30:00Z",
		"0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", // years that UTC would take out of four digits
	} {
		_, err := webhook.ParseTime(text)
		require.Error(t, err, "%q", text)
	}
}
