package db_test

import (
	"os"
	"testing"

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
