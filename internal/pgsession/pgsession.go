// Package pgsession makes sessions with Postgres as it runs in production: they can write, they notice within seconds that
// their server is gone, and they work through a connection pooler.
package pgsession

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// readOnlyTransaction is SQLSTATE read_only_sql_transaction.
const readOnlyTransaction = "25006"

// ErrReadOnly is the error of a server that takes no writes.
var ErrReadOnly = errors.New("the server is read-only: it is a standby, or default_transaction_read_only is on")

// errPooler: a pooler was found behind a session that would use prepared statements. The next will not.
var errPooler = errors.New("found a connection pooler; connect again")

// Sessions are those made with one configuration.
type Sessions struct {
	// TurnedReadOnly, if any, is called when a server refuses to write, which its other sessions may not have noticed.
	TurnedReadOnly func()

	dialTimeout time.Duration // 0: as long as the session may take
	pooled      atomic.Bool

	mu     sync.Mutex
	open   map[*socket]struct{} // guarded by mu, as silent
	silent string               // the address that does not answer, which only the watch dials
}

// New sets config up and returns the sessions that are made with it. What the configuration asks for of the server is
// replaced: sessions are made with a server that can write.
func New(config *pgx.ConnConfig) *Sessions {
	s := &Sessions{open: map[*socket]struct{}{}}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout, s.dialTimeout = soleTimeout, dialTimeout
		if slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool { return f.Host != config.Host || f.Port != config.Port }) {
			config.ConnectTimeout = hostTimeout
		}
	}
	if config.DescriptionCacheCapacity == 0 {
		config.DescriptionCacheCapacity = 512 // pgx's own default, needed behind a pooler
	}
	config.DialFunc = s.dialUnlessSilent
	refused := config.OnPgError
	config.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if err.Code != readOnlyTransaction {
			return refused(conn, err)
		}
		if s.TurnedReadOnly != nil {
			s.TurnedReadOnly()
		}
		return false // closes the session
	}
	s.Prepare(config)
	return s
}

// Prepare readies config, a copy of what New was given, for the next session.
func (s *Sessions) Prepare(config *pgx.ConnConfig) {
	if s.pooled.Load() || config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && config.StatementCacheCapacity == 0 {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	named := config.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement || config.DefaultQueryExecMode == pgx.QueryExecModeDescribeExec
	config.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		pooled, err := IsPooled(ctx, conn)
		if err == nil && pooled {
			s.pooled.Store(true)
			if named {
				return errPooler
			}
		}
		return err
	}
}

// IsPooler says whether err means that a pooler was found just now: connecting again works.
func IsPooler(err error) bool { return errors.Is(err, errPooler) }

// IsPooled says whether a pooler stands between, and fails with ErrReadOnly when the session cannot write. A pooler gives
// each client a key of its own to cancel with, so that the process number in it is not the server's.
func IsPooled(ctx context.Context, conn *pgconn.PgConn) (pooled bool, err error) {
	results, err := conn.Exec(ctx, "SELECT pg_backend_pid(), current_setting('transaction_read_only')").ReadAll()
	if err != nil {
		return false, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return false, errors.New("the server is not Postgres")
	}
	row := results[0].Rows[0]
	if string(row[1]) == "on" {
		return false, ErrReadOnly
	}
	return string(row[0]) != strconv.FormatUint(uint64(conn.PID()), 10), nil
}
