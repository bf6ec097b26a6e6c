package db_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestMigrationsTakeBackAllThatTheyMake: tables, functions and types.
func TestMigrationsTakeBackAllThatTheyMake(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	made := func() (n int) {
		require.NoError(t, pool.QueryRow(t.Context(), `SELECT
			(SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'goose%')
			+ (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
			+ (SELECT count(*) FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e')`).Scan(&n))
		return n
	}
	before := made()
	for name := "-"; name != ""; {
		name, err = db.MigrateDown(t.Context(), url)
		require.NoError(t, err)
	}
	require.Zero(t, made(), "what went up comes down")
	_, err = db.Migrate(t.Context(), url)
	require.NoError(t, err)
	require.Equal(t, before, made())
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
	reader := begin(t, pool)
	_, err = reader.Exec(t.Context(), "SELECT FROM bots")
	require.NoError(t, err)
	migrated := make(chan error, 1)
	go func() {
		_, err := db.MigrateDown(context.Background(), url) // which drops bots
		migrated <- err
	}()
	for range 30 { // three seconds of others' reads, none of which waits longer than the migration does
		began := time.Now()
		_, err := pool.Exec(t.Context(), "SELECT FROM bots")
		require.NoError(t, err)
		require.Less(t, time.Since(began), 20*time.Second) // else it waits for the reader, who waits for it
		time.Sleep(100 * time.Millisecond)                 // the rate of the reads
	}
	require.Empty(t, migrated, "it waits still")
	require.NoError(t, reader.Rollback(t.Context()))
	require.NoError(t, <-migrated)
	_, err = pool.Exec(t.Context(), "SELECT FROM bots")
	require.ErrorContains(t, err, "does not exist")
}

// TestMigrateWaitsForAServerThatComesUp: the first session is cut off, as one is whose server is starting.
func TestMigrateWaitsForAServerThatComesUp(t *testing.T) {
	t.Parallel()
	target, err := pgx.ParseConfig(dbtest.NewURL(t))
	require.NoError(t, err)
	network, address := pgconn.NetworkAddress(target.Host, target.Port)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // the test is over
	go func() {
		for first := true; ; first = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if first {
				_ = conn.Close()
				continue
			}
			go forward(conn, network, address)
		}
	}()
	_, err = db.Migrate(t.Context(), fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", target.User, target.Password, listener.Addr(), target.Database))
	require.NoError(t, err)
}

// forward copies between conn and what listens at address, until either ends.
func forward(conn net.Conn, network, address string) {
	server, err := net.Dial(network, address)
	if err != nil {
		_ = conn.Close()
		return
	}
	for _, pair := range [][2]net.Conn{{conn, server}, {server, conn}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].Close()
		}()
	}
}
