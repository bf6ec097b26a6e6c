package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mathub/webhooks/standalone/supervise"
)

// AwaitReady waits until the server takes connections, which after a crash is when it has replayed its log. It gives
// up when ended is closed.
func (p *Server) AwaitReady(ctx context.Context, ended <-chan struct{}) error {
	for {
		err := p.Ping(ctx)
		if err == nil {
			return nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code == invalidPassword {
			return fmt.Errorf("the data in %s was made with another password than the one kept beside it", p.config.Dir)
		}
		select {
		case <-ended:
			return supervise.ErrEnded
		case <-ctx.Done():
			return fmt.Errorf("Postgres did not come up: %w", err) //nolint:staticcheck // a name
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ping connects to the running server and leaves again, within 2 s.
func (p *Server) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := p.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Connect connects to a database of the running server as User.
func (p *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(p.URL(database))
	if err != nil {
		return nil, err
	}
	if p.config.Dial != nil {
		config.DialFunc = p.config.Dial
	}
	return pgx.ConnectConfig(ctx, config)
}

// CreateDatabases makes those of the databases that are missing, on a running server.
func (p *Server) CreateDatabases(ctx context.Context, names ...string) error {
	conn, err := p.Connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // done with it
	for _, name := range names {
		_, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
		var known *pgconn.PgError
		if err != nil && (!errors.As(err, &known) || known.Code != duplicateDatabase) {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return nil
}
