package webhook_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestDefaultScheduleIsTheContracts(t *testing.T) {
	parsed, err := webhook.ParseSchedule("30s,2m,10m,30m,2h,5h,10h")
	require.NoError(t, err)
	require.Equal(t, parsed, webhook.DefaultSchedule)
	require.Less(t, len(webhook.DefaultSchedule)+1, webhook.MaxFailures, "one bad event alone must not disable a webhook")
}

func TestParseSchedule(t *testing.T) {
	for text, want := range map[string]webhook.Schedule{
		"":                    {},
		"  ":                  {},
		"1s":                  {time.Second},
		" 30s , 1h30m,10ms\t": {30 * time.Second, 90 * time.Minute, 10 * time.Millisecond},
		"720h":                {720 * time.Hour},
	} {
		got, err := webhook.ParseSchedule(text)
		require.NoError(t, err, "%q", text)
		require.Equal(t, want, got)

		again, err := webhook.ParseSchedule(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)

		encoded, err := json.Marshal(got)
		require.NoError(t, err)
		var decoded webhook.Schedule
		require.NoError(t, json.Unmarshal(encoded, &decoded))
		require.Equal(t, want, decoded)
	}
	for _, text := range []string{
		"30", "x", ",", "30s,", ",30s", "30s,,2m", "0s", "-1s", "30s;2m", "1d", "721h", "1e3s", "30s,NaN",
		strings.Repeat("1s,", 100) + "1s",
	} {
		_, err := webhook.ParseSchedule(text)
		require.Error(t, err, "%q", text)
		require.Error(t, new(webhook.Schedule).UnmarshalText([]byte(text)), "%q", text)
	}
	require.Error(t, (*webhook.Schedule)(nil).UnmarshalText(nil))
}

func TestDelay(t *testing.T) {
	s := webhook.Schedule{10 * time.Second, 100 * time.Second}
	for _, c := range []struct {
		name       string
		failed     int
		retryAfter time.Duration
		jitter     float64
		want       time.Duration
		more       bool
	}{
		{"first", 1, 0, 0, 10 * time.Second, true},
		{"second", 2, 0, 0, 100 * time.Second, true},
		{"last failed", 3, 0, 0, 0, false},
		{"last failed, though told to come back", 3, time.Hour, 0, 0, false},
		{"no attempt yet", 0, 0, 0, 0, false},
		{"negative", -1, 0, 0, 0, false},
		{"earliest", 1, 0, -1, 8 * time.Second, true},
		{"latest", 1, 0, 1, 12 * time.Second, true},
		{"jitter out of range", 1, 0, 50, 12 * time.Second, true},
		{"jitter out of range below", 1, 0, math.Inf(-1), 8 * time.Second, true},
		{"jitter not a number", 1, 0, math.NaN(), 10 * time.Second, true},
		{"told to come later", 1, time.Minute, -1, time.Minute, true},
		{"told to come sooner", 2, time.Minute, -1, 80 * time.Second, true},
		{"told nonsense", 1, -time.Hour, 0, 10 * time.Second, true},
		{"told to come in a year", 1, 365 * 24 * time.Hour, 1, 10 * time.Hour, true},
		{"largest duration", 1, math.MaxInt64, 0, 10 * time.Hour, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, more := s.Delay(c.failed, c.retryAfter, c.jitter)
			require.Equal(t, c.more, more)
			require.Equal(t, c.want, got)
		})
	}
	_, more := webhook.Schedule(nil).Delay(1, time.Hour, 0)
	require.False(t, more, "an empty schedule is one attempt")

	got, more := webhook.DefaultSchedule.Delay(7, 0, 1)
	require.True(t, more)
	require.Equal(t, 12*time.Hour, got, "jitter may go past the bound on Retry-After")
}
