package webhook

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfterValues is how many values of a Retry-After header are read. Sensible is one.
const maxRetryAfterValues = 16

// ParseRetryAfter reads a Retry-After header: seconds or an HTTP date (RFC 9110, section 10.2.3), and beyond that what
// receivers send and mean: seconds with a fraction, which is rounded up; dates of another zone; several values, of which
// the longest counts. It is 0 for a time in the past, a negative number and anything else, and at most MaxRetryAfter.
func ParseRetryAfter(value string, now time.Time) (longest time.Duration) {
	parts := strings.SplitN(value, ",", 2*maxRetryAfterValues)
	for i, part := range parts {
		wait, ok := parseSeconds(strings.TrimSpace(part))
		if at, isDate := parseDate(part); !ok && isDate {
			wait = at.Sub(now)
		} else if !ok && i+1 < len(parts) { // a comma stands after the day of the week
			if at, isDate := parseDate(part + " " + parts[i+1]); isDate {
				wait = at.Sub(now)
			}
		}
		longest = max(longest, wait)
	}
	return min(longest, MaxRetryAfter)
}

// parseSeconds reads decimal digits, with or without a fraction.
func parseSeconds(s string) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole+fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	whole = strings.TrimLeft(whole, "0")
	if len(whole) > 6 {
		return MaxRetryAfter, true
	}
	seconds, _ := strconv.Atoi("0" + whole) // six digits at most
	if strings.Trim(fraction, "0") != "" {
		seconds++
	}
	return time.Duration(seconds) * time.Second, true
}

// zones are the zones that Internet dates have by name (RFC 5322, section 4.3); Go makes up one for a name that it does
// not know.
var zones = map[string]string{
	"GMT": "+0000", "UTC": "+0000", "UT": "+0000", "Z": "+0000",
	"EST": "-0500", "EDT": "-0400", "CST": "-0600", "CDT": "-0500", "MST": "-0700", "MDT": "-0600", "PST": "-0800", "PDT": "-0700",
}

// dateLayouts are IMF-fixdate, RFC 850's, with either length of the year, and asctime's, which is UTC.
var dateLayouts = []string{"Mon 2 Jan 2006 15:04:05 -0700", "Monday 2-Jan-06 15:04:05 -0700", "Monday 2-Jan-2006 15:04:05 -0700", "Mon 2-Jan-2006 15:04:05 -0700", "Mon Jan 2 15:04:05 2006"}

// parseDate reads a date without the comma after the day of the week.
func parseDate(s string) (time.Time, bool) {
	words := strings.Fields(s)
	if len(words) < 4 || len(words) > 6 {
		return time.Time{}, false
	}
	last := len(words) - 1
	if offset, ok := zones[strings.ToUpper(words[last])]; ok {
		words[last] = offset
	}
	s = strings.Join(words, " ")
	var at time.Time
	ok := slices.ContainsFunc(dateLayouts, func(layout string) (ok bool) {
		t, err := time.Parse(layout, s)
		at = t
		return err == nil
	})
	return at, ok
}
