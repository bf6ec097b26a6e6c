package webhook

import (
	"net/http"
	"strings"
	"time"
)

// ParseRetryAfter reads a Retry-After header, seconds or an HTTP date (RFC 9110, section 10.2.3). What is neither, in
// the past or negative is 0; more than MaxRetryAfter is that.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		const most = int64(MaxRetryAfter / time.Second)
		seconds := int64(0)
		for _, digit := range value {
			if seconds = seconds*10 + int64(digit-'0'); seconds >= most {
				return MaxRetryAfter
			}
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(now)), MaxRetryAfter)
}
