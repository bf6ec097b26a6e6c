package webhook

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

const (
	timeLayout   = "2006-01-02T15:04:05.000Z"
	maxTimeBytes = 64
)

// FormatTime gives a time as the API and the envelope write it: RFC 3339, UTC, milliseconds (finer digits are cut
// off), such as 2025-03-20T10:30:00.000Z.
func FormatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

var errTime = errors.New("must be an RFC 3339 time such as 2025-03-20T10:30:00.000Z")

// rfc3339 is the form of RFC 3339, section 5.6; [time.Parse] also takes a comma before the fraction, one-digit hours
// and offsets of a day and more.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseTime reads an RFC 3339 time with any offset and any number of fractional digits (those beyond the ninth are
// dropped). It refuses leap seconds, which Go cannot represent, and times that leave the years 0000 to 9999 when
// turned to UTC, since FormatTime could not write them. The error does not quote the input.
func ParseTime(s string) (time.Time, error) {
	if len(s) > maxTimeBytes || !rfc3339.MatchString(s) {
		return time.Time{}, errTime
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(s)) // Go does not take "t" and "z"
	if err != nil {
		return time.Time{}, errTime
	}
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return time.Time{}, errTime
	}
	return t, nil
}
