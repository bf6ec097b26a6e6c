package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClocksThatAreOffAreFound(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		off, took time.Duration
		status    string
	}{
		"together":            {0, time.Millisecond, statusOK},
		"as NTP leaves them":  {time.Second, time.Millisecond, statusOK},
		"a slow answer":       {4 * time.Second, 8 * time.Second, statusOK},
		"ahead":               {10 * time.Second, time.Millisecond, statusWarning},
		"behind":              {-10 * time.Second, time.Millisecond, statusWarning},
		"signatures too old":  {-5 * time.Minute, time.Millisecond, statusFailed},
		"signatures too soon": {5 * time.Minute, time.Millisecond, statusFailed},
	} {
		t.Run(name, func(t *testing.T) {
			theirs := begin.Add(c.took/2 + c.off)
			require.Equal(t, c.status, judgeClock("Postgres", theirs, begin, begin.Add(c.took)).Status)
		})
	}
}

func TestOldPostgresIsFound(t *testing.T) {
	require.Equal(t, statusOK, judgePostgres(150000, "15.0").Status)
	require.Equal(t, statusFailed, judgePostgres(149999, "14.99").Status)
}
