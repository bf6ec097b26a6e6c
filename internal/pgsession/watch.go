package pgsession

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// watchInterval is how often the server is asked.
	watchInterval = time.Second
	// answerTimeout is after how long without an answer of any kind a server is given up.
	answerTimeout = 4 * time.Second
)

// watch is a session of its own, on which the server is asked whether it is still there. A server that hangs, or a host
// that is gone, closes no connection: whoever waits for an answer would wait for ever.
type watch struct {
	sessions *Sessions
	config   *pgx.ConnConfig
	log      *slog.Logger
	conn     *pgx.Conn
	addr     string // of the last server that answered
}

// Watch asks the server every second until ctx ends. When it does not answer for 4 s, and says nothing on any other
// session either, the sessions with it are cut, and none is made until it answers again. What another server does is no
// reason to cut them.
func (s *Sessions) Watch(ctx context.Context, config *pgx.ConnConfig, log *slog.Logger) {
	config = config.Copy()
	config.DialFunc = s.dial
	w := watch{sessions: s, config: config, log: log}
	defer w.leave()
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) look(ctx context.Context) {
	if w.conn == nil {
		w.connect(ctx)
		return
	}
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := w.conn.Ping(asking); err != nil {
		w.leave()
		if ctx.Err() == nil {
			w.isGone(err, began)
		}
	}
}

// connect makes the watch's session: with the server in use, if that takes it, or else with any. Where that is another, the
// sessions with the one in use are cut only if it has shown that it cannot be used any more: it may well be another way to
// the same Postgres.
func (w *watch) connect(ctx context.Context) {
	gone := w.sessions.isSilent(w.addr)
	if w.addr != "" && !gone {
		began := time.Now()
		err := w.dial(ctx, only(w.config, w.addr))
		if err == nil || ctx.Err() != nil {
			return
		}
		gone = w.isGone(err, began)
	}
	before := w.addr
	if err := w.dial(ctx, w.config); err == nil && gone && before != w.addr {
		w.sessions.cut(before, false) // others can write, so this one should not be waited for
	}
}

// dial makes the watch's session.
func (w *watch) dial(ctx context.Context, config *pgx.ConnConfig) error {
	w.sessions.Prepare(config)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	w.conn, w.addr = conn, conn.PgConn().Conn().RemoteAddr().String()
	w.sessions.answers(w.addr)
	return nil
}

// isGone says whether err, of the server in use alone, proves that it cannot be used any more: it is read-only, takes no
// connections, or has said nothing on any session since then, whereupon they are cut. A server that refuses one session for
// a reason of its own may serve all others.
func (w *watch) isGone(err error, since time.Time) bool {
	var answer *pgconn.PgError
	switch {
	case errors.Is(err, ErrReadOnly):
		return true
	case errors.As(err, &answer), IsPooler(err):
		return false
	case !pgconn.Timeout(err) && !errors.Is(err, context.DeadlineExceeded):
		return errors.Is(err, syscall.ECONNREFUSED)
	case w.sessions.heard(w.addr, since):
		return false
	}
	if n := w.sessions.cut(w.addr, true); n > 0 {
		w.log.Warn("Postgres does not answer; closing its connections", "addr", w.addr, "connections", n, "error", err)
	}
	return true
}

// only returns a configuration that dials addr alone, whatever its names mean by now.
func only(config *pgx.ConnConfig, addr string) *pgx.ConnConfig {
	config = config.Copy()
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, to string) (net.Conn, error) {
		if to != addr {
			return nil, fmt.Errorf("%s is not the server in use", to)
		}
		return dial(ctx, network, to)
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{host}, nil }
	}
	return config
}

func (w *watch) leave() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // nothing is in progress on it
		w.conn = nil
	}
}
