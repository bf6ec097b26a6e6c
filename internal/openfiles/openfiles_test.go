//go:build unix

package openfiles

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSharesLeaveSomeFilesToOthers: two listeners and the deliveries together never take all.
func TestSharesLeaveSomeFilesToOthers(t *testing.T) {
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	t.Cleanup(func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) })
	for _, limit := range []int{64, 100, 256, 1024, 4096, 16_384} {
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: uint64(limit), Max: before.Max}))
		require.Equal(t, limit, Limit())
		require.LessOrEqual(t, 2*Connections()+4*InFlight(), limit*7/8)
		require.GreaterOrEqual(t, Connections(), 8)
		require.GreaterOrEqual(t, InFlight(), 8)
		require.LessOrEqual(t, Connections(), 2000)
		require.LessOrEqual(t, InFlight(), 2048)
		require.Equal(t, limit >= Enough, Connections() == 2000 && InFlight() == 2048)
	}
}
