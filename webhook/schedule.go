package webhook

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Schedule is the retry schedule: how long to wait after the first failed attempt, after the second, and so on.
// An empty schedule means one attempt. As text it is a list such as "30s,2m,10m".
type Schedule []time.Duration

// DefaultSchedule makes 8 attempts within about 18 hours, fewer than MaxFailures.
var DefaultSchedule = Schedule{
	30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour,
}

const (
	maxScheduleEntries = 100
	// maxScheduleDelay catches slips of the unit; the accepted event would be older than any receiver cares for.
	maxScheduleDelay = 30 * 24 * time.Hour
)

// ParseSchedule reads a list of durations in Go's notation, separated by commas, such as "30s,2m,1h30m". Each is more
// than 0 and at most 720h; at most 100 are allowed. An empty or blank text is the empty schedule: one attempt.
func ParseSchedule(s string) (Schedule, error) {
	if strings.TrimSpace(s) == "" {
		return Schedule{}, nil
	}
	parts := strings.Split(s, ",")
	if len(parts) > maxScheduleEntries {
		return nil, fmt.Errorf("retry schedule: must have at most %d delays", maxScheduleEntries)
	}
	schedule := make(Schedule, 0, len(parts))
	for i, part := range parts {
		part = strings.TrimSpace(part)
		d, err := time.ParseDuration(part)
		switch {
		case err != nil:
			return nil, fmt.Errorf("retry schedule: delay %d, %q, is not a duration such as 30s, 2m or 1h30m", i+1, part)
		case d <= 0:
			return nil, fmt.Errorf("retry schedule: delay %d, %q, must be more than 0", i+1, part)
		case d > maxScheduleDelay:
			return nil, fmt.Errorf("retry schedule: delay %d, %q, must be at most %v", i+1, part, maxScheduleDelay)
		}
		schedule = append(schedule, d)
	}
	return schedule, nil
}

// String gives the schedule as ParseSchedule reads it.
func (s Schedule) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return strings.Join(parts, ",")
}

// MarshalText gives the schedule as text, see String.
func (s Schedule) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the schedule from text, see ParseSchedule.
func (s *Schedule) UnmarshalText(text []byte) error {
	if s == nil {
		return errors.New("retry schedule: nil target")
	}
	parsed, err := ParseSchedule(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// Delay returns how long to wait after the given failed attempt (1, 2, …) before the next, and false when there is
// no further attempt. jitter, from -1 to 1, moves the scheduled delay by up to ±20 %; it is the caller's, so that
// workflow code stays deterministic. retryAfter, what the receiver asked for, is kept to the full where it is later,
// up to 10 h; 0 or less means that it asked for nothing.
func (s Schedule) Delay(failedAttempt int, retryAfter time.Duration, jitter float64) (time.Duration, bool) {
	if failedAttempt < 1 || failedAttempt > len(s) {
		return 0, false
	}
	if math.IsNaN(jitter) {
		jitter = 0
	}
	jitter = min(1, max(-1, jitter))
	delay := s[failedAttempt-1]
	delay += time.Duration(float64(delay) * JitterFraction * jitter)
	return max(delay, min(retryAfter, MaxRetryAfter)), true
}

// Longest is the longest that an event may be attempted again after its first attempt: every delay late by the whole
// jitter, or pushed by Retry-After as far as that is heeded.
func (s Schedule) Longest() time.Duration {
	var sum time.Duration
	for _, d := range s {
		sum += max(d+time.Duration(float64(d)*JitterFraction), MaxRetryAfter)
	}
	return sum
}
