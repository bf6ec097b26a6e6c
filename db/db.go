// Package db is the data layer: the connection pool, transactions, migrations, the sealing of webhook
// secrets, and the queries that sqlc generates from the SQL in queries/.
package db

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/mathub/webhooks/internal/pgsession"
)

// maxConns is how many connections a process holds at most, unless its URL says otherwise. pgxpool's own default, one a
// core, would have every read wait while a few recordings wait for each other's locks.
const maxConns = 20

// Open returns a pool of connections to the Postgres at url (a postgres:// URL or a keyword string; pool_max_conns
// and its like are honoured). Of several hosts it takes the one that can be written to. It fails when no connection can be
// made, with an error that holds no password. Until ctx ends, one more connection watches that the server answers.
func Open(ctx context.Context, url string) (*pgxpool.Pool, error) {
	cfg, err := parse(url)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(url, "pool_max_conns") {
		cfg.MaxConns = maxConns
	}
	cfg.PingTimeout = pingTimeout
	sessions := pgsession.New(cfg.ConnConfig)
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		sessions.Prepare(c)
		return nil
	}
	var pool atomic.Pointer[pgxpool.Pool]
	sessions.TurnedReadOnly = func() {
		if p := pool.Load(); p != nil {
			p.Reset()
		}
	}
	opened, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	pool.Store(opened)
	err = opened.Ping(ctx)
	if pgsession.IsPooler(err) {
		err = opened.Ping(ctx)
	}
	if err != nil {
		opened.Close()
		return nil, fmt.Errorf("database: %w", err)
	}
	go sessions.Watch(ctx, cfg.ConnConfig, slog.Default())
	return opened, nil
}

// pingTimeout bounds the check of a connection that has been idle.
const pingTimeout = 3 * time.Second

// CheckURL says what is wrong with a database URL that waiting does not fix.
func CheckURL(url string) error {
	_, err := parse(url)
	return err
}

// errNoURL: pgx would take the environment's server, or a socket's.
var errNoURL = errors.New("database URL: is empty; must be such as postgres://user:password@host/mathub")

func parse(url string) (*pgxpool.Config, error) {
	if url == "" {
		return nil, errNoURL
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	switch mode := cfg.ConnConfig.DefaultQueryExecMode; mode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol: // do not know how to send a uuid[]
		return nil, fmt.Errorf("database URL: default_query_exec_mode=%s is not supported; leave it out (a connection pooler is detected), or set cache_statement, cache_describe or describe_exec", strings.ReplaceAll(mode.String(), " ", "_"))
	}
	return cfg, nil
}

// ErrReadOnly is the error of a server that takes no writes.
var ErrReadOnly = pgsession.ErrReadOnly

// Pooled says whether a connection pooler stands between this process and Postgres.
func Pooled(ctx context.Context, pool *pgxpool.Pool) (pooled bool, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	return pgsession.IsPooled(ctx, conn.Conn().PgConn())
}

// idleInTx is after how long without a statement Postgres ends a transaction. The locks of a process that stands still would hold up
// all others.
const idleInTx = 10 * time.Second

func begins(mode string) pgx.TxOptions {
	return pgx.TxOptions{BeginQuery: fmt.Sprintf("BEGIN %s; SET LOCAL idle_in_transaction_session_timeout = %d", mode, idleInTx.Milliseconds())}
}

// WithTx runs f in a transaction on pool: committed when f returns nil, else rolled back. f must not wait for anything but Postgres: a
// transaction without a statement for 10 s fails.
func WithTx(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, pool, begins(""), f)
	if err == nil {
		NoteCommit(ctx)
	}
	return err
}

type commitsKey struct{}

// TrackCommits returns a context of which HasCommitted knows.
func TrackCommits(ctx context.Context) context.Context {
	return context.WithValue(ctx, commitsKey{}, new(atomic.Bool))
}

// NoteCommit says of a context of TrackCommits that something was changed, as by another process.
func NoteCommit(ctx context.Context) {
	if committed, tracked := ctx.Value(commitsKey{}).(*atomic.Bool); tracked {
		committed.Store(true)
	}
}

// HasCommitted says whether WithTx has committed something in a context of TrackCommits, or NoteCommit was told so.
func HasCommitted(ctx context.Context) bool {
	committed, tracked := ctx.Value(commitsKey{}).(*atomic.Bool)
	return tracked && committed.Load()
}

// WithSnapshot is WithTx of statements that only read, all as things stand at the first.
func WithSnapshot(ctx context.Context, pool *pgxpool.Pool, f func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, begins("ISOLATION LEVEL REPEATABLE READ READ ONLY"), f)
}

// LockWebhook takes the webhook's lock for the rest of the transaction and waits for it. Whoever records a
// delivery holds the same lock (shared for a success, exclusive for a failure), so under it the webhook's history
// stands still.
func LockWebhook(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID) error {
	return New().LockWebhooks(ctx, tx, LockWebhooksParams{Exclusive: []uuid.UUID{webhookID}})
}

// IDOrNull is an id, or NULL for uuid.Nil.
func IDOrNull(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

// IsUniqueViolation says whether err is Postgres's refusal of a duplicate (SQLSTATE 23505).
func IsUniqueViolation(err error) bool { return hasCode(err, "23505") }

// IsLocked says whether err is Postgres's when a lock did not come free in the time of lock_timeout (SQLSTATE 55P03).
func IsLocked(err error) bool { return hasCode(err, "55P03") }

// IsForeignKeyViolation says whether err is Postgres's refusal of a row whose bot or webhook has just been deleted (SQLSTATE
// 23503).
func IsForeignKeyViolation(err error) bool { return hasCode(err, "23503") }

// IsNoText says whether err is Postgres's refusal of what is not UTF-8, or has a NUL (SQLSTATE 22021).
func IsNoText(err error) bool { return hasCode(err, "22021") }

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// IsUnavailable says whether err means that Postgres cannot be reached or does not serve now, so that the same may
// succeed later: no connection, a lost one, a shutdown or start-up (SQLSTATE classes 08, 57P, 53), a read-only standby, a transaction that
// idleInTx has ended.
func IsUnavailable(err error) bool {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	var network net.Error
	switch {
	case errors.As(err, &pg):
		return strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") || strings.HasPrefix(pg.Code, "53") || pg.Code == "25006" || pg.Code == "25P03"
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, pgconn.ErrConnClosed),
		errors.Is(err, puddle.ErrClosedPool): // this process is stopping
		return true
	}
	return pgconn.SafeToRetry(err)
}

// IsUntouched says of what IsUnavailable is true of whether it is known that nothing was changed: no statement was sent, or Postgres
// has refused it. A connection that is lost while Postgres commits tells nothing, nor does a session that is ended then.
func IsUntouched(err error) bool {
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &connect), errors.Is(err, puddle.ErrClosedPool), pgconn.SafeToRetry(err):
		return true
	case errors.As(err, &pg):
		return strings.HasPrefix(pg.Code, "53") || pg.Code == "25006" || pg.Code == "25P03"
	}
	return false
}
