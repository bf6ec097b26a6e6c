package webhook

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Retention is how long events and deliveries are kept, counted from an event's acceptance or, where that is later, its
// last delivery. 0 is for ever. As text it is a duration such as "30d" or "720h".
type Retention time.Duration

const (
	day = 24 * time.Hour

	// DefaultRetention lets a receiver's owner look into last month's trouble.
	DefaultRetention = Retention(30 * day)

	// MinRetention is what a recovery without a span needs: it goes back a day.
	MinRetention = Retention(day)

	// maxRetention, a century, catches slips of the unit and keeps the arithmetic of times from overflowing.
	maxRetention = Retention(36525 * day)
)

// ParseRetention reads a duration in Go's notation or in whole days, such as "720h" or "30d". "0" is for ever; anything
// else is from 1d to 36525d.
func ParseRetention(s string) (Retention, error) {
	s = strings.TrimSpace(s)
	if s == "0" {
		return 0, nil
	}
	var d time.Duration
	var err error
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		d = time.Duration(n) * day
	} else {
		d, err = time.ParseDuration(s)
	}
	switch r := Retention(d); {
	case err != nil:
		return 0, fmt.Errorf("retention: %q is not a duration such as 30d or 720h", s)
	case r == 0:
		return 0, nil
	case r < MinRetention || r > maxRetention:
		return 0, fmt.Errorf("retention: %q must be from %v to %v, or 0 for no limit", s, MinRetention, maxRetention)
	default:
		return r, nil
	}
}

// String gives the retention as ParseRetention reads it: in days where they are whole.
func (r Retention) String() string {
	d := time.Duration(r)
	switch {
	case d == 0:
		return "0"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	return d.String()
}

// MarshalText gives the retention as text, see String.
func (r Retention) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the retention from text, see ParseRetention.
func (r *Retention) UnmarshalText(text []byte) error {
	if r == nil {
		return errors.New("retention: nil target")
	}
	parsed, err := ParseRetention(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// Fits fails when events would be removed while they may still be attempted.
func (r Retention) Fits(s Schedule) error {
	if longest := s.Longest(); r != 0 && time.Duration(r) <= longest {
		return fmt.Errorf("retention: %v must be longer than retries can take, %v with the retry schedule and the longest Retry-After; increase the retention or shorten the schedule", r, longest)
	}
	return nil
}

// Since is the time before which nothing is kept for certain; the zero time when all is kept for ever.
func (r Retention) Since(now time.Time) time.Time {
	if r == 0 {
		return time.Time{}
	}
	return now.Add(-time.Duration(r))
}
