package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

// LimitLines bounds how many lines of a kind, which are those of one statement and level, are logged: what strangers can
// cause must not fill the disk. Ten seconds after the first line that was left out, a line says how many were. Lines below
// Info are not limited.
func LimitLines(next slog.Handler) slog.Handler {
	return limited{next, &lineLimits{root: next, kinds: map[lineKind]*lineLimit{}}}
}

const (
	linesPerSecond, linesAtOnce = 20, 200
	leftOutAfter                = 10 * time.Second
)

type limited struct {
	slog.Handler
	limits *lineLimits
}

type lineLimits struct {
	root slog.Handler

	mu    sync.Mutex
	kinds map[lineKind]*lineLimit // one for each statement that logs
}

type lineKind struct {
	statement uintptr
	level     slog.Level
}

type lineLimit struct {
	*rate.Limiter
	leftOut int
}

func (l limited) Handle(ctx context.Context, line slog.Record) error {
	if line.Level >= slog.LevelInfo && !l.limits.allow(line) {
		return nil
	}
	return l.Handler.Handle(ctx, line)
}

func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{l.Handler.WithAttrs(attrs), l.limits}
}

func (l limited) WithGroup(name string) slog.Handler {
	return limited{l.Handler.WithGroup(name), l.limits}
}

func (l *lineLimits) allow(line slog.Record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := lineKind{line.PC, line.Level}
	limit := l.kinds[kind]
	if limit == nil {
		limit = &lineLimit{Limiter: rate.NewLimiter(linesPerSecond, linesAtOnce)}
		l.kinds[kind] = limit
	}
	if limit.Allow() {
		return true
	}
	if limit.leftOut++; limit.leftOut == 1 {
		time.AfterFunc(leftOutAfter, func() { l.tell(limit, line.Level, line.Message) })
	}
	return false
}

func (l *lineLimits) tell(limit *lineLimit, level slog.Level, message string) {
	l.mu.Lock()
	n := limit.leftOut
	limit.leftOut = 0
	l.mu.Unlock()
	line := slog.NewRecord(time.Now(), level, "lines were left out of the log", 0)
	line.AddAttrs(slog.String("kind", message), slog.Int("lines", n))
	_ = l.root.Handle(context.Background(), line) // as the lines before
}

// WithTraceIDs adds trace_id and span_id to the lines that are logged with the context of a trace.
func WithTraceIDs(next slog.Handler) slog.Handler { return traced{next} }

type traced struct{ slog.Handler }

func (t traced) Handle(ctx context.Context, line slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		line.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return t.Handler.Handle(ctx, line)
}

func (t traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(attrs)} }

func (t traced) WithGroup(name string) slog.Handler { return traced{t.Handler.WithGroup(name)} }
