package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
)

// cursor is how far a poll has read: a position and, where an event has it, the mark of that. In a database that was restored, or
// has lost its last events in a failover, another event gets the position.
type cursor struct {
	position int64
	mark     string
}

// The positions of a poll that names none.
const (
	fromOldest = -1
	fromNow    = -2
)

// String is how readers know a cursor.
func (c cursor) String() string {
	position := strconv.FormatInt(c.position, 10)
	if c.mark == "" {
		return position
	}
	return position + "-" + c.mark
}

func parseCursor(text string) (c cursor, valid bool) {
	position, mark, _ := strings.Cut(text, "-")
	n, err := strconv.ParseInt(position, 10, 64)
	c = cursor{n, mark}
	isMark := mark == "" || len(mark) == db.MarkLength && strings.Trim(mark, "0123456789") == ""
	return c, err == nil && n >= 0 && isMark && c.String() == text
}

// cursorAt is the cursor at a position.
func (s *server) cursorAt(ctx context.Context, position int64) (cursor, error) {
	ctx, cancel := toItsEnd(ctx, readTimeout)
	defer cancel()
	mark, err := s.events.Mark(ctx, position)
	return cursor{position, mark}, err
}

// begin is the cursor from which on a poll reads.
func (s *server) begin(ctx context.Context, state db.LogState, after cursor) (cursor, error) {
	switch after.position {
	case fromOldest:
		return cursor{position: state.Removed}, nil
	case fromNow:
		return s.cursorAt(ctx, state.Last)
	}
	return after, s.holds(ctx, state, after)
}

// holds fails where what follows a cursor is not what followed it when it was made.
func (s *server) holds(ctx context.Context, state db.LogState, c cursor) error {
	if c.position < state.Removed {
		return &problem.Error{Kind: problem.Gone, Detail: "Events after this cursor were removed. Call without after to read from the oldest event, or with after=latest."}
	}
	there := c
	if c.mark != "" {
		var err error
		if there, err = s.cursorAt(ctx, c.position); err != nil {
			return err
		}
	}
	if c.position > state.Last || there.mark != "" && there.mark != c.mark {
		return &problem.Error{Kind: problem.Gone, Detail: "This cursor is not of this log of events: it is from another service, or from before the database was restored or lost its last events. Call without after to read from the oldest event, or with after=latest."}
	}
	return nil
}
