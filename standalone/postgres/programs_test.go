package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// pretend makes programs that know their version only.
func pretend(t *testing.T, dir, version string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	real, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return real
}

func TestFind(t *testing.T) {
	root := t.TempDir()
	known := folders
	t.Cleanup(func() { folders = known })
	folders = []string{filepath.Join(root, "lib", "*", "bin")}

	t.Setenv("PATH", filepath.Join(root, "path"))
	_, ok, _ := find(t.Context(), account{}, 0)
	require.False(t, ok, "there is none yet")

	fifteen := pretend(t, filepath.Join(root, "lib", "15", "bin"), "15.18 (Debian 15.18-0+deb12u1)")
	seventeen := pretend(t, filepath.Join(root, "lib", "17", "bin"), "17.2")
	pretend(t, filepath.Join(root, "lib", "9.6", "bin"), "9.6.24")
	broken := pretend(t, filepath.Join(root, "lib", "18", "bin"), "18.3")
	require.NoError(t, os.Remove(filepath.Join(broken, "postgres")))
	// PATH has a link to one program, as Debian's alternatives make them.
	require.NoError(t, os.Mkdir(filepath.Join(root, "path"), 0o755))
	require.NoError(t, os.Symlink(filepath.Join(fifteen, "initdb"), filepath.Join(root, "path", "initdb")))

	found, ok, failed := find(t.Context(), account{}, 0)
	require.True(t, ok)
	require.ErrorContains(t, failed, "18", "it is there and does not run")
	require.Equal(t, programs{dir: seventeen, version: "17.2", major: 17}, found, "the newest that works")
	found, ok, _ = find(t.Context(), account{}, 15)
	require.True(t, ok)
	require.Equal(t, programs{dir: fifteen, version: "15.18", major: 15}, found, "the one that the data needs")
	for _, major := range []int{9, 16, 18} {
		_, ok, _ = find(t.Context(), account{}, major)
		require.False(t, ok, "version %d", major)
	}
}

func TestLocateSaysWhatToDo(t *testing.T) {
	known := folders
	t.Cleanup(func() { folders = known })
	folders = nil
	t.Setenv("PATH", "/nowhere")
	_, err := locate(t.Context(), Config{Dir: "/data/postgres", Cache: t.TempDir(), Repository: "http://127.0.0.1:1"}, account{}, 16)
	require.ErrorContains(t, err, "Postgres 16, whose data is in /data/postgres,")
	require.ErrorContains(t, err, "apt-get install")
	require.NotContains(t, err.Error(), "\n", "one line")
}
