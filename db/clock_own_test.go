package db

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClock_IsOld(t *testing.T) {
	t.Parallel()
	at := time.Now()
	c := newClock(nil, nil, nil, func() time.Time { return at })
	require.True(t, c.isOld(), "it was not read yet")
	c.last.Store(&clockReading{own: at, postgres: at.Add(time.Minute)})
	require.False(t, c.isOld())
	at = at.Add(clockFresh)
	require.False(t, c.isOld())
	require.Equal(t, at.Add(time.Minute).Round(0), c.Now().Round(0))
	at = at.Add(time.Second)
	require.True(t, c.isOld())
	c.last.Store(&clockReading{own: at, postgres: at.Add(time.Minute)})
	require.False(t, c.isOld())
}
