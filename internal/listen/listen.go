// Package listen serves HTTP/1.1 where strangers can connect: who opens many connections, says nothing on them or reads
// nothing keeps nobody else out.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/internal/openfiles"
)

const (
	// requestTimeout is what a client has for its whole request; a handler that knows who it is may give it longer for the
	// body, by http.ResponseController.
	requestTimeout = 5 * time.Second
	// answerTimeout is what it has for reading the answer, from the request's header on: a test delivery is answered when it
	// has ended.
	answerTimeout = 60 * time.Second
	// idleTimeout is for how long a connection is kept that nobody else needs.
	idleTimeout = 2 * time.Minute
	// maxHeader bounds a request's header.
	maxHeader = 32 << 10
	// unreadBody and unreadTimeout bound the reading of a body that the handler left unread. Closing a connection with unread
	// data resets it, and the client may lose the answer.
	unreadBody    = 1 << 20
	unreadTimeout = 2 * time.Second
	// grace is what requests in progress get to end in when the process stops.
	grace = 3 * time.Second
)

// Server is a listener with what it serves.
type Server struct {
	Name     string // for the log
	Variable string // that Addr is from
	Addr     string
	Handler  http.Handler
	// Trusted are the proxies before it: their connections are the last to be closed for others.
	Trusted []netip.Prefix
}

// Check fails when one of the addresses cannot be listened on beside the others, and names the variable that it is from.
func Check(ctx context.Context, addrs map[string]string) error {
	for _, variable := range slices.Sorted(maps.Keys(addrs)) {
		listener, err := listenOn(ctx, variable, addrs[variable])
		if err != nil {
			return err
		}
		defer listener.Close() //nolint:errcheck // it took nobody
	}
	return nil
}

// Run serves on all of them, once each has its port, until ctx ends; then it gives the requests in progress 3 s.
func Run(ctx context.Context, log *slog.Logger, servers ...Server) error {
	listeners := make([]net.Listener, len(servers))
	for i, s := range servers {
		listener, err := listenOn(ctx, s.Variable, s.Addr)
		if err != nil {
			for _, open := range listeners[:i] {
				_ = open.Close()
			}
			return err
		}
		listeners[i] = listener
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range servers {
		log.Info(s.Name+" is listening", "addr", listeners[i].Addr().String())
		group.Go(func() error { return s.serve(ctx, log, newPlaces(listeners[i], openfiles.Connections(), s.Trusted)) })
	}
	return group.Wait()
}

func listenOn(ctx context.Context, variable, addr string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return listener, nil
}

func (s Server) serve(ctx context.Context, log *slog.Logger, listener *places) error {
	server := &http.Server{
		Handler:        answerFully(s.Handler),
		ConnState:      changed,
		ConnContext:    withConn,
		ReadTimeout:    requestTimeout,
		WriteTimeout:   answerTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("%s: %w", s.Name, err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		// Anybody can keep a request from ending: that is no failure to stop.
		log.Warn("cut off requests in progress", "error", err)
		return server.Close()
	}
	return nil
}

// answerFully reads what a handler left of the request's body, and marks the connection while a body is waited for.
func answerFully(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		body := &body{ReadCloser: r.Body}
		body.conn, _ = r.Context().Value(connKey{}).(*conn)
		r.Body = body
		next.ServeHTTP(w, r)
		if body.ended || r.Header.Get("Expect") != "" { // that client has sent nothing unless it was read
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unreadTimeout))
		_, _ = io.CopyN(io.Discard, body, unreadBody)
	})
}

// body is a request's, whose connection waits for its client while it is read.
type body struct {
	io.ReadCloser
	conn  *conn
	ended bool // to its end, or it cannot be read further
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.conn.waitForClient()
	defer b.conn.work()
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err != nil
	return n, err
}

// Admin serves what is for operators only until stop is called. Answers take as long as they do: a profile is of as many
// seconds as were asked for.
func Admin(ctx context.Context, log *slog.Logger, variable, addr string, handler http.Handler) (stop func(), err error) {
	listener, err := listenOn(ctx, variable, addr)
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler: handler, ReadTimeout: requestTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	log.Info("serving health, metrics and profiles", "addr", listener.Addr().String())
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("stopped serving health, metrics and profiles", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil // nobody's work depends on it
}
