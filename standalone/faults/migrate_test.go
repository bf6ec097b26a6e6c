package faults_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
)

// TestMigratingUnderRunningProcesses: the version before goes on while this one's migrations are applied, under load,
// also beside this version, and while they are taken back. Nothing is lost, sent twice or counted wrong.
func TestMigratingUnderRunningProcesses(t *testing.T) {
	t.Parallel()
	before, next := versionBefore(t), e2e.Build(t)
	stack := e2e.Start(t, e2e.Options{Binary: before, Servers: durable, Apps: apart()})
	worker := stack.Apps[1]
	migrate := func(args ...string) (out string, err error) {
		t.Helper()
		app := stack.NewApp(t, e2e.App{Args: append([]string{"migrate"}, args...), Binary: next})
		app.Launch(t)
		err = app.Process().Wait()
		raw, readErr := os.ReadFile(app.LogPath())
		require.NoError(t, readErr)
		return string(raw), err
	}
	l := newLedger(t, stack, "migrate", 5)
	stop := l.stream(t, 20*time.Millisecond)
	l.flows(t, 100)

	out, err := migrate("status")
	require.Error(t, err, "it tells scripts too")
	require.Contains(t, out, "pending")
	out, err = migrate()
	require.NoError(t, err, out)
	applied := strings.Count(out, "applied ")
	require.Positive(t, applied, out)
	out, err = migrate("status")
	require.NoError(t, err, out)
	require.NotContains(t, out, "pending")
	l.flows(t, 250) // the old worker on the new schema

	replace := func(binary string) {
		worker.Stop(t)
		worker.Binary = binary
		worker.Start(t)
	}
	replace(next)
	l.flows(t, 500)
	replace(before)
	l.flows(t, 250)
	out, err = migrate("down")
	require.Error(t, err)
	require.Contains(t, out, "--yes")
	for range applied {
		out, err = migrate("down", "--yes")
		require.NoError(t, err, out)
		require.Contains(t, out, "took back")
	}
	l.flows(t, 250)
	stop()
	require.Zero(t, l.settle(t, time.Minute), "a migration sent something twice")
	finished(t, stack, time.Minute)
}

// versionBefore builds the product as it was before its newest migration, from the repository's history; while that
// migration is not committed yet, as it was committed last.
func versionBefore(t *testing.T) string {
	t.Helper()
	run := func(dir, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.Output()
		require.NoError(t, err, "%s %s: this test needs the repository with its history", name, strings.Join(args, " "))
		return strings.TrimSpace(string(out))
	}
	git := e2e.Tool(t, "git")
	root := run("", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/mathub/webhooks")
	files, err := filepath.Glob(filepath.Join(root, "db", "migrations", "*.sql"))
	require.NoError(t, err)
	commit := "HEAD"
	if added := run(root, git, "log", "-1", "--format=%H", "--diff-filter=A", "--", slices.Max(files)); added != "" {
		commit = added + "^"
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "before.tar")
	run(root, git, "archive", "--output", archive, commit)
	run(dir, "tar", "-xf", archive)
	binary := filepath.Join(dir, "before")
	run(dir, "go", "build", "-o", binary, ".")
	return binary
}
