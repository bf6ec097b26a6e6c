package db

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	// lockTimeout is how long a migration's statement waits for a table's lock. Everyone who needs the table queues up
	// behind it meanwhile, so that it gives up and tries again rather than wait for the end of somebody's transaction.
	lockTimeout = time.Second
	// lockPatience is for how long it tries again.
	lockPatience = 2 * time.Minute
)

// Migration is a change of the schema that this binary knows.
type Migration struct {
	Name string `json:"name"`
	// AppliedAt is nil while it is pending.
	AppliedAt *time.Time `json:"appliedAt"`
}

// Migrate brings the schema of the Postgres at url up to this binary's version and returns the names of the
// migrations it applied, in order. Processes that migrate at once wait for each other.
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
		var pg *pgconn.PgError
		switch {
		case err == nil:
			return names, nil
		case !errors.As(err, &pg) || pg.Code != "55P03" || time.Now().After(deadline): // lock not available
			return names, fmt.Errorf("migrate: %w", err)
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return names, fmt.Errorf("migrate: %w", err)
		}
	}
}

func newProvider(url string) (provider *goose.Provider, end func(), err error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.RuntimeParams["lock_timeout"] = strconv.FormatInt(lockTimeout.Milliseconds(), 10)
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, err
	}
	// Asks for the lock every second, for five minutes: a large migration of another process may take as long.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return nil, nil, err
	}
	conn := stdlib.OpenDB(*cfg)
	provider, err = goose.NewProvider(goose.DialectPostgres, conn, files, goose.WithSessionLocker(locker))
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return provider, func() { _ = conn.Close() }, nil
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
		return fmt.Errorf("the database's schema is at version %d, and %d is needed: run `mathub-webhooks migrate`", has, wanted)
	}
	return nil
}
