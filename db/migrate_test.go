package db_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestMigrationsKeepWhatIsThere goes down to nothing, up to the first version, whose data must then reach the last.
func TestMigrationsKeepWhatIsThere(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	conn := stdlib.OpenDB(*config)
	defer func() { require.NoError(t, conn.Close()) }()
	provider, err := goose.NewProvider(goose.DialectPostgres, conn, os.DirFS("migrations"))
	require.NoError(t, err)
	_, err = provider.DownTo(t.Context(), 0)
	require.NoError(t, err)
	var left int
	require.NoError(t, conn.QueryRow("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'goose%'").Scan(&left))
	require.Zero(t, left, "what went up comes down")
	require.NoError(t, conn.QueryRow("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace").Scan(&left))
	require.Zero(t, left)

	_, err = provider.UpTo(t.Context(), 1)
	require.NoError(t, err)
	_, err = conn.Exec(`INSERT INTO bots (id, name) VALUES ('bot', 'bot')`)
	require.NoError(t, err)
	_, err = conn.Exec(`INSERT INTO webhooks (id, bot_id, url, events, is_active) VALUES
		('00000000-0000-0000-0000-000000000001', 'bot', 'https://example.com', '{mention,wiki.edited,mention}', true),
		('00000000-0000-0000-0000-000000000002', 'bot', 'https://example.com', '{mention}', false)`)
	require.NoError(t, err)
	_, err = db.Migrate(t.Context(), url)
	require.NoError(t, err)
	var types string
	require.NoError(t, conn.QueryRow("SELECT string_agg(right(webhook_id::text, 1) || ' ' || event_type || ' ' || bot_id, ', ' ORDER BY event_type) FROM subscriptions").Scan(&types))
	require.Equal(t, "1 mention bot, 1 wiki.edited bot", types)
}

// TestMigrationsAreListedAndTakenBackStepByStep: up to the last, down to nothing, and up again.
func TestMigrationsAreListedAndTakenBackStepByStep(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	pending := func() (n int) {
		list, err := db.Migrations(t.Context(), url)
		require.NoError(t, err)
		for _, m := range list {
			if m.AppliedAt == nil {
				n++
				continue
			}
			require.Zero(t, n, "they are applied in order")
			require.WithinDuration(t, time.Now(), *m.AppliedAt, time.Hour)
		}
		return n
	}
	require.Zero(t, pending())
	files, err := os.ReadDir("migrations")
	require.NoError(t, err)
	for i := len(files) - 1; i >= 0; i-- {
		name, err := db.MigrateDown(t.Context(), url)
		require.NoError(t, err)
		require.Equal(t, files[i].Name(), name)
		require.Equal(t, len(files)-i, pending())
	}
	name, err := db.MigrateDown(t.Context(), url)
	require.NoError(t, err)
	require.Empty(t, name, "nothing is left")
	applied, err := db.Migrate(t.Context(), url)
	require.NoError(t, err)
	require.Len(t, applied, len(files))
}

// TestAMigrationDoesNotQueueForALock: who needs the table behind it goes on, and the migration is made once it can be.
func TestAMigrationDoesNotQueueForALock(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	for name := "-"; name != "00005_disabled_notices.sql"; { // which alters bots
		name, err = db.MigrateDown(t.Context(), url)
		require.NoError(t, err)
	}
	reader, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "SELECT FROM bots")
	require.NoError(t, err)
	migrated := make(chan error, 1)
	go func() {
		_, err := db.Migrate(context.Background(), url)
		migrated <- err
	}()
	for range 30 { // three seconds of others' reads, none of which waits longer than the migration does
		began := time.Now()
		_, err := pool.Exec(t.Context(), "SELECT FROM bots")
		require.NoError(t, err)
		require.Less(t, time.Since(began), 3*time.Second)
		time.Sleep(100 * time.Millisecond)
	}
	require.Empty(t, migrated, "it waits still")
	require.NoError(t, reader.Rollback(t.Context()))
	require.NoError(t, <-migrated)
	_, err = pool.Exec(t.Context(), "SELECT notify_url FROM bots")
	require.NoError(t, err)
}
