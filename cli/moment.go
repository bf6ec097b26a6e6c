package cli

import (
	"fmt"
	"time"
)

// moment is a time on the command line: in RFC 3339, or so long ago, such as 90m or 24h.
type moment struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler, which the parser of the command line asks for.
func (m *moment) UnmarshalText(text []byte) error {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("%q must be a time such as 2025-03-20T10:30:00Z, or how long ago, such as 90m or 24h", text)
	}
	m.Time = at
	return nil
}

// text is the time as the API's queries have it, empty where none was given.
func (m moment) text() string {
	if m.IsZero() {
		return ""
	}
	return m.UTC().Format(time.RFC3339Nano)
}
