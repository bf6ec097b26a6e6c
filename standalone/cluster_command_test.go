package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/cluster"
)

func TestClusterHasTheUsualLayout(t *testing.T) {
	t.Parallel()
	var c clusterCommand
	parser, err := kong.New(&c)
	require.NoError(t, err)
	_, err = parser.Parse([]string{"--roles", "../db/roles.sql"})
	require.NoError(t, err)
	require.Equal(t, cluster.Usual, c.Layout)
}

// TestClusterFolder: a run removes what killed runs have left, and nothing of one that goes on.
func TestClusterFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	running, remove, err := clusterFolder()
	require.NoError(t, err)
	killed, forget, err := clusterFolder()
	require.NoError(t, err)
	require.NoError(t, forget())
	require.NoError(t, os.MkdirAll(filepath.Join(killed, "postgres-1.data-1"), 0o700)) // as if it were still there

	_, removeOther, err := clusterFolder()
	require.NoError(t, err)
	require.NoDirExists(t, killed)
	require.DirExists(t, running)
	require.NoError(t, removeOther())
	require.NoError(t, remove())
	require.NoDirExists(t, running)
}
