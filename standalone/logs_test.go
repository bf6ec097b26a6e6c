package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/datadir"
)

// TestLogsAreCut while they are written.
func TestLogsAreCut(t *testing.T) {
	data, err := datadir.Open(filepath.Join(t.TempDir(), "data"))
	require.NoError(t, err)
	defer data.Close() //nolint:errcheck // a lock
	log, err := data.Log("app")
	require.NoError(t, err)
	defer log.Close() //nolint:errcheck // what counts was written
	for _, text := range []string{"one", "two", "three"} {
		_, err = log.WriteString(strings.Repeat(text, 40))
		require.NoError(t, err)
		cutLogs(data.Logs(), 150)
	}
	_, err = log.WriteString("four")
	require.NoError(t, err)
	now, err := os.ReadFile(log.Name())
	require.NoError(t, err)
	require.Equal(t, "four", string(now))
	old, err := os.ReadFile(log.Name() + ".old")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("three", 40), string(old))
}
