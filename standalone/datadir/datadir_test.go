package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "data")
	d, err := Open(path)
	require.NoError(t, err)
	require.True(t, d.Fresh)
	require.Len(t, d.Credentials.PostgresPassword, 64)
	require.NotEqual(t, d.Credentials.PostgresPassword, d.Credentials.ServiceToken)

	_, err = Open(path)
	require.ErrorContains(t, err, "in use by process")
	require.ErrorContains(t, err, "MATHUB_DATA_DIR")

	d.Credentials.BotKey = "bot_key"
	d.State.PostgresPort = 20000
	require.NoError(t, d.Save())
	require.NoError(t, d.Close())

	again, err := Open(path)
	require.NoError(t, err)
	require.False(t, again.Fresh)
	require.Equal(t, d.Credentials, again.Credentials)
	require.Equal(t, d.State, again.State)
	log, err := again.Log("some")
	require.NoError(t, err)
	require.NoError(t, log.Close())
	require.NoError(t, again.Close())

	require.NoError(t, filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is its owner's alone", path)
		require.False(t, strings.Contains(path, ".json."), "%s is left over", path)
		return nil
	}))
}

func TestBrokenFileIsNamed(t *testing.T) {
	path := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(path, credentialsFile), []byte("{"), 0o600))
	_, err := Open(path)
	require.ErrorContains(t, err, filepath.Join(path, credentialsFile))
	raw, err := os.ReadFile(filepath.Join(path, credentialsFile))
	require.NoError(t, err)
	require.Equal(t, "{", string(raw), "what cannot be read is not written over")
}

func TestUnusableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Open(filepath.Join(file, "data"))
	require.ErrorIs(t, err, syscall.ENOTDIR)
	require.ErrorContains(t, err, "MATHUB_DATA_DIR")
}
