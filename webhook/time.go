package webhook

import (
	"errors"
	"strings"
	"time"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// FormatTime gives a time as the API and the envelope write it: RFC 3339, UTC, milliseconds (finer digits are cut
// off), such as 2025-03-20T10:30:00.000Z.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

var errTime = errors.New("must be an RFC 3339 time such as 2025-03-20T10:30:00.000Z")

// ParseTime reads an RFC 3339 time with any offset and any number of fractional digits. It is stricter than
// [time.Parse], which takes a comma before the fraction and one-digit hours, and it refuses times that leave the
// years 0000 to 9999 when turned to UTC, since FormatTime could not write them.
func ParseTime(s string) (time.Time, error) {
	var t time.Time
	// RFC 3339, section 5.6, allows "t" and "z"; Go does not.
	if err := t.UnmarshalText([]byte(strings.ToUpper(s))); err != nil {
		return time.Time{}, errTime // Go's own message quotes the input
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return time.Time{}, errTime
	}
	return t, nil
}
