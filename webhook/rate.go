package webhook

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rate is a limit: so many at once, and so many a second from then on. The zero value is none.
type Rate struct {
	Burst     int
	PerSecond float64
}

const (
	maxBurst     = 1_000_000
	minPerSecond = 1.0 / 3600
)

// DefaultUnverifiedRate is what a bot may send to one endpoint that has not agreed to it: enough for any bot's events, too
// little to harm anyone.
var DefaultUnverifiedRate = Rate{Burst: 500, PerSecond: 50}

// IsOff says that there is no limit.
func (r Rate) IsOff() bool { return r == Rate{} }

// String writes the rate as UnmarshalText reads it.
func (r Rate) String() string {
	if r.IsOff() {
		return "off"
	}
	return fmt.Sprintf("%d,%s/s", r.Burst, strconv.FormatFloat(r.PerSecond, 'g', -1, 64))
}

// UnmarshalText reads a burst and a rate a second, a minute or an hour, such as "500,50/s", or "off".
func (r *Rate) UnmarshalText(text []byte) error {
	read, err := parseRate(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("must be off, or a burst and a rate such as 500,50/s: %w", err)
	}
	*r = read
	return nil
}

func parseRate(s string) (Rate, error) {
	if s == "off" {
		return Rate{}, nil
	}
	burst, rest, ok := strings.Cut(s, ",")
	count, unit, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return Rate{}, fmt.Errorf("%q is not of that form", s)
	}
	n, err := strconv.Atoi(strings.TrimSpace(burst))
	if err != nil || n < 1 || n > maxBurst {
		return Rate{}, fmt.Errorf("the burst must be a number from 1 to %d", maxBurst)
	}
	perSecond, err := strconv.ParseFloat(strings.TrimSpace(count), 64)
	seconds, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[strings.TrimSpace(unit)]
	if perSecond /= seconds; !known || err != nil || math.IsNaN(perSecond) || perSecond < minPerSecond || perSecond > maxBurst {
		return Rate{}, fmt.Errorf("the rate must be a number a second, minute or hour (/s, /m, /h), at least one an hour and at most %d a second", maxBurst)
	}
	return Rate{n, perSecond}, nil
}
