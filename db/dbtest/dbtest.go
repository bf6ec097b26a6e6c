// Package dbtest gives each test a migrated Postgres database of its own.
package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// template is the name of this process's migrated database, of which each test's is a copy. Copied as files, that takes a
// fifth of the processor time that it takes by the log, as is Postgres's default.
var template = sync.OnceValues(func() (string, error) {
	admin := os.Getenv("MATHUB_TEST_DATABASE_URL")
	name := "template_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := execute(admin, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	target, err := withDatabase(admin, name)
	if err != nil {
		return "", err
	}
	_, err = db.Migrate(context.Background(), target)
	return name, err
})

// New returns a pool on a new, migrated and empty database, dropped after the test. The cluster is the one at
// MATHUB_TEST_DATABASE_URL, which `make test` starts; without it the test fails.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := db.Open(t.Context(), NewURL(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// NewURL is New for those who open the database by themselves.
func NewURL(t testing.TB) string {
	t.Helper()
	admin := os.Getenv("MATHUB_TEST_DATABASE_URL")
	if admin == "" {
		t.Fatal("MATHUB_TEST_DATABASE_URL is not set: run the tests with `make test`, which starts a Postgres for them, or point it at a superuser of an empty cluster")
	}
	from, err := template()
	require.NoError(t, err)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	require.NoError(t, execute(admin, fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s STRATEGY file_copy", name, from)))
	t.Cleanup(func() {
		if err := execute(admin, fmt.Sprintf("DROP DATABASE %s WITH (FORCE)", name)); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	target, err := withDatabase(admin, name)
	require.NoError(t, err)
	return target
}

// SetClock has the clock of a test's database differ from this machine's from now on. Defaults of columns keep to the machine's.
func SetClock(t testing.TB, pool *pgxpool.Pool, ahead time.Duration) {
	t.Helper()
	var functions string
	for _, name := range []string{"clock_timestamp", "now"} {
		functions += fmt.Sprintf("CREATE OR REPLACE FUNCTION other_clock.%s() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT pg_catalog.%s() + interval '%d seconds' $$; ",
			name, name, int(ahead.Seconds()))
	}
	_, err := pool.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS other_clock; "+functions)
	require.NoError(t, err)
	var database string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&database))
	_, err = pool.Exec(t.Context(), "ALTER DATABASE "+database+" SET search_path = other_clock, pg_catalog, public")
	require.NoError(t, err)
	pool.Reset()
}

// Webhook is one that AddWebhooks inserts.
type Webhook struct {
	ID    uuid.UUID // zero: a new one
	BotID string
	URL   string
}

// AddWebhooks inserts webhooks for the events, faster than the API would, their URLs sealed with the keyset.
func AddWebhooks(t testing.TB, pool *pgxpool.Pool, keyset *db.Keyset, events []string, webhooks []Webhook) {
	t.Helper()
	rows := make([][]any, len(webhooks))
	for i, w := range webhooks {
		if w.ID == uuid.Nil {
			w.ID = uuid.New()
		}
		sealed, err := keyset.SealURL(w.ID, w.URL)
		require.NoError(t, err)
		rows[i] = []any{w.ID, w.BotID, sealed, webhook.OriginOf(w.URL), events}
	}
	_, err := pool.CopyFrom(t.Context(), pgx.Identifier{"webhooks"}, []string{"id", "bot_id", "url", "origin", "events"}, pgx.CopyFromRows(rows))
	require.NoError(t, err)
}

// DeliveryID is SQL for a new id of a delivery of an event that was accepted at a time, which is SQL too.
func DeliveryID(acceptedAt string) string {
	return "overlay(gen_random_uuid()::text placing left(first_delivery(" + acceptedAt + ")::text, 8) from 1 for 8)::uuid"
}

func execute(url, sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func withDatabase(admin, name string) (string, error) {
	u, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}
