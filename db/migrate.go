package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/mathub/webhooks/internal/pgsession"
	"github.com/mathub/webhooks/internal/sleep"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// lockPatience is for how long a migration that gave up on a table's lock is tried again, see docs/migrations.md.
	lockPatience = 2 * time.Minute
	// serverPatience is for how long a server that cannot be reached, or is starting, is asked again: it may have been started
	// beside this process.
	serverPatience = 30 * time.Second
	// turnPatience is for how long another process's migrations are waited for.
	turnPatience = 5 * time.Minute
	// migrationLock is the advisory lock of whoever migrates: the number is goose's own.
	migrationLock = lock.DefaultLockID
)

// Migration is a change of the schema that this binary knows.
type Migration struct {
	Name string `json:"name"`
	// AppliedAt is nil while it is pending.
	AppliedAt *time.Time `json:"appliedAt"`
}

// Migrate brings the schema of the Postgres at url up to this binary's version and returns the names of the
// migrations it applied, in order. Processes that migrate at once wait for each other. A server that cannot be reached is waited
// for, half a minute.
func Migrate(ctx context.Context, url string) (applied []string, err error) {
	return migrate(ctx, url, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
}

// MigrateDown takes the last migration that was applied back, and with it what only that knows to keep. It returns its
// name; with none applied, "".
func MigrateDown(ctx context.Context, url string) (name string, err error) {
	undone, err := migrate(ctx, url, func(p *goose.Provider) ([]*goose.MigrationResult, error) {
		result, err := p.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil, nil
		}
		return []*goose.MigrationResult{result}, err
	})
	return strings.Join(undone, ""), err
}

// Migrations lists those of this binary, in order, and says which are applied.
func Migrations(ctx context.Context, url string) (list []Migration, err error) {
	provider, end, err := newProvider(url)
	if err != nil {
		return nil, err
	}
	defer end()
	all, err := provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrations: %w", err)
	}
	for _, m := range all {
		list = append(list, Migration{Name: m.Source.Path})
		if m.State == goose.StateApplied {
			list[len(list)-1].AppliedAt = &m.AppliedAt
		}
	}
	return list, nil
}

// migrate changes the schema, again and again while a lock keeps it from that, and returns the names of the migrations
// that it brought to their end.
func migrate(ctx context.Context, url string, change func(*goose.Provider) ([]*goose.MigrationResult, error)) (names []string, err error) {
	provider, end, err := newProvider(url)
	if err != nil {
		return nil, err
	}
	defer end()
	done, err := takeTurn(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	defer done()
	for deadline := time.Now().Add(lockPatience); ; {
		results, err := change(provider)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, r := range results {
			if r != nil && r.Error == nil {
				names = append(names, r.Source.Path)
			}
		}
		switch {
		case err == nil:
			return names, nil
		case !IsLocked(err) || time.Now().After(deadline):
			return names, fmt.Errorf("migrate: %w", err)
		}
		if !sleep.For(ctx, time.Second) {
			return names, fmt.Errorf("migrate: %w", err)
		}
	}
}

// migrationConfig is for sessions that migrate. They are made through a pooler as well: no statement stays prepared.
func migrationConfig(url string) (*pgx.ConnConfig, error) {
	if url == "" {
		return nil, errNoURL
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	pgsession.New(cfg)
	return cfg, nil
}

func newProvider(url string) (provider *goose.Provider, end func(), err error) {
	cfg, err := migrationConfig(url)
	if err != nil {
		return nil, nil, err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	conn := stdlib.OpenDB(*cfg)
	provider, err = goose.NewProvider(goose.DialectPostgres, conn, files)
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return provider, func() { _ = conn.Close() }, nil
}

// takeTurn waits until no other process migrates. The lock is held by a transaction that stays open on a connection of its
// own, as a pooler may give the next statement outside of one to another session. It is asked for every second: who waited
// in Postgres would keep CREATE INDEX CONCURRENTLY waiting.
func takeTurn(ctx context.Context, url string) (done func(), err error) {
	cfg, err := migrationConfig(url)
	if err != nil {
		return nil, err
	}
	conn, err := connectPatiently(ctx, cfg)
	if err != nil {
		return nil, err
	}
	done = func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // which ends the transaction
	}
	if _, err := conn.Exec(ctx, "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
		done()
		return nil, err
	}
	for deadline := time.Now().Add(turnPatience); ; {
		// In the simple protocol: in the extended one the statement's portal would keep its snapshot while the transaction
		// is open, which CREATE INDEX CONCURRENTLY waits for.
		results, err := conn.PgConn().Exec(ctx, fmt.Sprintf("SELECT pg_try_advisory_xact_lock(%d)", migrationLock)).ReadAll()
		if err != nil {
			done()
			return nil, err
		}
		switch {
		case string(results[0].Rows[0][0]) == "t":
			return done, nil
		case time.Now().After(deadline):
			done()
			return nil, fmt.Errorf("another process has been migrating for %s", turnPatience)
		}
		if !sleep.For(ctx, time.Second) {
			done()
			return nil, ctx.Err()
		}
	}
}

// connectPatiently connects, again and again for serverPatience while the server cannot be reached or is starting.
func connectPatiently(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	for began, warned := time.Now(), false; ; warned = true {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil || !IsUnavailable(err) || time.Since(began) > serverPatience {
			return conn, err
		}
		if !warned {
			slog.Warn("Postgres cannot be reached; trying again", "for", serverPatience, "error", err)
		}
		if !sleep.For(ctx, 200*time.Millisecond) {
			return nil, err
		}
	}
}

// CheckSchema fails when the database lacks migrations of this binary. That it has later ones is no fault: they come
// before the binary that needs them.
func CheckSchema(ctx context.Context, pool *pgxpool.Pool) error {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var wanted, has int64
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return err
		}
		wanted = max(wanted, version)
	}
	err = pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied").Scan(&has)
	var pg *pgconn.PgError
	if err != nil && (!errors.As(err, &pg) || pg.Code != "42P01") { // undefined table: nothing was ever applied
		return fmt.Errorf("database: %w", err)
	}
	if has < wanted {
		return fmt.Errorf("the schema is at version %d; version %d is required: run `mathub-webhooks migrate`", has, wanted)
	}
	return nil
}
