package faults_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestMigratingUnderRunningProcesses: this version goes on while the next one's migration is applied, under load, also
// beside that version, and while it is taken back. Nothing is lost, sent twice or counted wrong.
func TestMigratingUnderRunningProcesses(t *testing.T) {
	t.Parallel()
	before, next := testkit.Build(t), nextMigration(t)
	stack := testkit.Start(t, testkit.Options{Binary: before, Servers: durable, Apps: apart()})
	worker := stack.Apps[1]
	migrate := func(args ...string) (out string, err error) {
		t.Helper()
		app := stack.NewApp(t, testkit.App{Args: append([]string{"migrate"}, args...), Binary: next})
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
		require.Contains(t, out, "reverted")
	}
	l.flows(t, 250)
	stop()
	require.Zero(t, l.settle(t, time.Minute), "a migration sent something twice")
	finished(t, stack, time.Minute)
}

// nextMigration builds the product with one migration more, as docs/migrations.md asks for it.
func nextMigration(t *testing.T) string {
	t.Helper()
	return testkit.BuildChanged(t, changedSchema)
}

var changedSchema = testkit.Changes{"db/migrations/00002_next.sql": func(string) string {
	return `-- +goose NO TRANSACTION

-- +goose Up
SET lock_timeout = '1s';
ALTER TABLE webhooks ADD COLUMN next_column text;
RESET lock_timeout;
DROP INDEX CONCURRENTLY IF EXISTS events_next;
CREATE INDEX CONCURRENTLY events_next ON events (type);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS events_next;
SET lock_timeout = '1s';
ALTER TABLE webhooks DROP COLUMN next_column;
RESET lock_timeout;
`
}}
