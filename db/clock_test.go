package db_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func TestClock(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	const slack = 5 * time.Second // of a busy machine
	var unknown *db.Clock
	require.WithinDuration(t, time.Now(), unknown.Now(), slack)
	require.False(t, unknown.InDoubt())
	c := db.NewClock(pool, slog.New(slog.DiscardHandler), nil)
	require.WithinDuration(t, time.Now(), c.Now(), slack, "it was not read yet")
	for _, ahead := range []time.Duration{0, time.Minute, -time.Minute, 10 * time.Minute, -40 * 24 * time.Hour} {
		dbtest.SetClock(t, pool, ahead)
		require.NoError(t, c.Read(t.Context()))
		require.WithinDuration(t, time.Now().Add(ahead), c.Now(), slack)
		require.InDelta(t, ahead, c.Offset(), float64(slack))
		began := time.Now().Add(-time.Second)
		require.WithinDuration(t, began.Add(ahead), c.At(began), slack)
		require.Equal(t, ahead.Abs() > time.Minute, c.InDoubt(), "%v", ahead)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, c.Read(gone))
	require.InDelta(t, -40*24*time.Hour, c.Offset(), float64(slack), "the last reading is still good")
}
