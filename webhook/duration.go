package webhook

import (
	"fmt"
	"strings"
	"time"
)

// ParseDuration reads a duration in Go's notation, such as 1h30m. The error is an *InvalidError on the field, unless it is from least to
// most.
func ParseDuration(field, text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, invalid(field, mustBeDuration(least, most))
	}
	return d, CheckDuration(field, d, least, most)
}

// CheckDuration returns an *InvalidError on the field, unless d is from least to most.
func CheckDuration(field string, d, least, most time.Duration) error {
	if d < least || d > most {
		return invalid(field, mustBeDuration(least, most))
	}
	return nil
}

func mustBeDuration(least, most time.Duration) string {
	example := "24h or 1h30m"
	if most < day {
		example = shortDuration(most / 2)
	}
	return fmt.Sprintf("must be a duration from %s to %s, such as %s", shortDuration(least), shortDuration(most), example)
}

// shortDuration leaves out units that are 0: 10m, not 10m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
