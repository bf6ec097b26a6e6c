package scratch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMake_RemovesWhatEndedProcessesLeft(t *testing.T) {
	root := t.TempDir()
	t.Setenv("TMPDIR", root)
	mine, remove, err := Make()
	require.NoError(t, err)
	require.Equal(t, root, filepath.Dir(mine))
	require.NoError(t, os.WriteFile(filepath.Join(mine, "data"), []byte("x"), 0o600))

	// As a process leaves it that is killed: nobody holds its lock.
	left := filepath.Join(root, prefix+"left")
	require.NoError(t, os.MkdirAll(filepath.Join(left, "postgres"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(left, lockFile), nil, 0o600))
	others := filepath.Join(root, "others")
	require.NoError(t, os.Mkdir(others, 0o700))

	second, removeSecond, err := Make()
	require.NoError(t, err)
	require.NoDirExists(t, left)
	require.FileExists(t, filepath.Join(mine, "data"), "its process goes on")
	require.DirExists(t, others)
	require.NoError(t, remove())
	require.NoError(t, removeSecond())
	require.NoDirExists(t, mine)
	require.NoDirExists(t, second)
}

func TestMake_InMemoryWhereThereIsRoom(t *testing.T) {
	t.Setenv("TMPDIR", "")
	path, remove, err := Make()
	require.NoError(t, err)
	defer func() { require.NoError(t, remove()) }()
	if freeInMemory() >= enough {
		require.Equal(t, memory, filepath.Dir(path))
	} else {
		require.Equal(t, "/tmp", filepath.Dir(path))
	}
}
