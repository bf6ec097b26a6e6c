package pgsession

import (
	"context"
	"errors"
	"log/slog"
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
// session either, the sessions with it are cut, and none is made until it answers again.
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
	began := time.Now()
	err := w.ask(ctx)
	if err == nil || ctx.Err() != nil || w.addr == "" {
		return
	}
	if timedOut := pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded); timedOut && !w.sessions.heard(w.addr, began) {
		if n := w.sessions.cut(w.addr, true); n > 0 {
			w.log.Warn("Postgres does not answer: the connections to it are closed", "addr", w.addr, "connections", n, "error", err)
		}
	}
}

// ask makes a round trip on the watch's session, and makes the session first when there is none.
func (w *watch) ask(ctx context.Context) error {
	if w.conn == nil {
		return w.connect(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := w.conn.Ping(ctx)
	if err != nil {
		w.leave()
	}
	return err
}

func (w *watch) connect(ctx context.Context) (err error) {
	w.sessions.Prepare(w.config)
	if w.conn, err = pgx.ConnectConfig(ctx, w.config); err != nil {
		w.conn = nil
		return err
	}
	addr := w.conn.PgConn().Conn().RemoteAddr().String()
	w.sessions.answers(addr)
	if w.addr != "" && w.addr != addr {
		w.sessions.cut(w.addr, false) // others can write, so this one should not be waited for
	}
	w.addr = addr
	return nil
}

func (w *watch) leave() {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // nothing is under way on it
		w.conn = nil
	}
}
