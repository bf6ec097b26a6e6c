package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

const (
	pollLimit    = 100
	maxPollLimit = 500

	// maxPollWait is well below the server's time limit and the minute after which proxies commonly close a silent connection.
	maxPollWait = 30 * time.Second

	// catchUp is how long a call adds unpolled events to the log before it answers with what is there. catchUpLatest is how
	// long "latest" does so before it gives up: it needs all of them.
	catchUp       = 500 * time.Millisecond
	catchUpLatest = 10 * time.Second

	latest = "latest"

	// maxTags is how many entity tags of a call are read. A call reads its page again for each that matches while it waits.
	maxTags = 4
)

// poll is what a call asks for.
type poll struct {
	after   cursor // from where on: also from the oldest on, or from now on
	limit   int
	types   []string // nil: all
	filter  webhook.Filter
	wait    time.Duration
	matches []string // entity tags
}

// PollEvents serves GET /events.
func (s *server) PollEvents(c *gin.Context, _ PollEventsParams) {
	s.answer(c, func() (reply, error) {
		p, err := readPoll(c)
		if err != nil {
			return reply{}, err
		}
		deadline := time.Now().Add(p.wait)
		if p.wait > 0 {
			// The server's limit on the time of a request would be taken for the client's leaving.
			controller := http.NewResponseController(c.Writer)
			if err := controller.SetReadDeadline(deadline.Add(maxPollWait)); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return reply{}, err
			}
		}
		page, err := s.poll(c, p, deadline)
		if err != nil {
			return reply{}, err
		}
		c.Header("Cache-Control", "private, no-cache")
		c.Header("Vary", "Authorization")
		c.Header("ETag", page.tag())
		if p.has(page.tag()) {
			return notModified(page.size()), nil
		}
		return ok(page.view()), nil
	})
}

func readPoll(c *gin.Context) (poll, error) {
	q, err := readRepeated(c, filterFields, "after", "limit", "types", "wait")
	if err != nil {
		return poll{}, err
	}
	p := poll{after: cursor{position: fromOldest}, limit: q.integer("limit", maxPollLimit, pollLimit)}
	if after, given := q.text("after"); given && after == latest {
		p.after.position = fromNow
	} else if given {
		var valid bool
		if p.after, valid = parseCursor(after); !valid {
			q.Add("after", "must be a cursor of an earlier answer, or latest")
		}
	}
	if list, given := q.text("types"); given {
		p.types = q.typeList("types", list)
	}
	p.filter = q.filter(p.types)
	if wait, given := q.text("wait"); given {
		d, err := time.ParseDuration(wait)
		if err != nil || d < 0 || d > maxPollWait {
			q.Add("wait", fmt.Sprintf("must be a duration of at most %gs, such as 20s", maxPollWait.Seconds()))
		}
		p.wait = d
	}
	tags := strings.SplitN(strings.Join(c.Request.Header.Values("If-None-Match"), ","), ",", maxTags+1)
	for _, tag := range tags[:min(len(tags), maxTags)] {
		p.matches = append(p.matches, strings.TrimPrefix(strings.TrimSpace(tag), "W/")) // RFC 9110 §13.1.2: compared weakly
	}
	return p, q.Err()
}

// typeList reads event types with commas between them.
func (q *query) typeList(field, list string) []string {
	names := strings.Split(list, ",")
	if len(names) > maxEvents {
		q.Add(field, fmt.Sprintf("must have at most %d entries", maxEvents))
		return nil
	}
	checked, err := webhook.CheckSubscription(names)
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		for _, f := range input.Fields {
			q.Add(field+strings.TrimPrefix(f.Field, "events"), f.Message)
		}
	}
	types := make([]string, len(checked))
	for i, t := range checked {
		types[i] = string(t)
	}
	return types
}

// filterFields are the parameters that filter events: the fields of all event types.
var filterFields = func() (names []string) {
	for _, f := range webhook.FilterFields(webhook.Subscribable()) {
		names = append(names, f.Name)
	}
	return names
}()

// filter reads the values that fields of the types are to have. Nil types are all.
func (q *query) filter(names []string) webhook.Filter {
	types := webhook.Subscribable()
	if names != nil {
		types = nil
		for _, name := range names {
			types = append(types, webhook.EventType(name))
		}
	}
	texts := map[string][]string{}
	for _, name := range filterFields {
		if values := q.values[name]; len(values) > 0 {
			texts[name] = values
		}
	}
	if len(texts) == 0 || len(types) == 0 { // the types are at fault
		return nil
	}
	f, err := webhook.TextFilter(texts, types)
	if err == nil {
		f, err = f.Check(types)
	}
	var input *webhook.InvalidError
	if errors.As(err, &input) {
		for _, fault := range input.Fields {
			q.Add(strings.TrimPrefix(fault.Field, "filter."), fault.Message)
		}
	}
	return f
}

func (p poll) has(tag string) bool {
	return slices.Contains(p.matches, tag) || slices.Contains(p.matches, "*")
}

// eventPage is an answer.
type eventPage struct {
	after, cursor cursor
	events        []db.ReadEventsRow
	more          bool
}

// tag names the answer among those to the same call: events never change, nor their positions.
func (p eventPage) tag() string { return fmt.Sprintf(`"%s-%s-%t"`, p.after, p.cursor, p.more) }

// size is about what the page takes as an answer, in bytes.
func (p eventPage) size() (bytes int) {
	for _, e := range p.events {
		bytes += len(e.Payload)
	}
	return bytes
}

func (p eventPage) view() EventPage {
	view := EventPage{Events: make([]rawJSON, len(p.events)), Cursor: p.cursor.String(), HasMore: p.more}
	for i, e := range p.events {
		// The payload is an object with members: the id becomes its first. An id needs no escaping.
		view.Events[i] = slices.Concat([]byte(`{"id":"`+e.ID+`",`), e.Payload[1:])
	}
	return view
}

// poll reads what follows the cursor, and waits until the deadline for something to tell. While it waits it holds no
// connection to Postgres.
func (s *server) poll(c *gin.Context, p poll, deadline time.Time) (eventPage, error) {
	state, err := s.logState(c, p)
	if err != nil {
		return eventPage{}, err
	}
	after, err := s.begin(c.Request.Context(), state, p.after)
	if err != nil {
		return eventPage{}, err
	}
	from, waited := after, false
	for {
		page, err := s.pageOf(c, state, p, from)
		if err != nil {
			return eventPage{}, err
		}
		page.after = after
		settled := page.more || len(page.events) > 0 && !slices.Contains(p.matches, page.tag()) // what is * has no answer that differs
		if !settled {
			settled, err = s.await(c, waiter{botID: botID(c), types: p.types, after: page.cursor.position}, deadline)
			if err != nil {
				return eventPage{}, err
			}
			waited = true
		}
		if settled && waited {
			// Revoked or suspended while it waited, the bot reads nothing more.
			if err := s.keyStillValid(c); err != nil {
				return eventPage{}, err
			}
		}
		if settled {
			return page, nil
		}
		if len(page.events) == 0 {
			from = page.cursor
		}
		if state, err = s.stateFrom(c.Request.Context(), from); err != nil {
			return eventPage{}, err
		}
	}
}

func (s *server) logState(c *gin.Context, p poll) (db.LogState, error) {
	patience := catchUp
	if p.after.position == fromNow {
		patience = catchUpLatest
	}
	state, err := s.stateOf(c.Request.Context(), patience)
	if err == nil && state.Behind && p.after.position == fromNow {
		return state, &problem.Error{Kind: problem.Unavailable, Detail: "The event log is catching up. Try again in a few seconds."}
	}
	return state, err
}

// pageOf is what follows a cursor.
func (s *server) pageOf(c *gin.Context, state db.LogState, p poll, from cursor) (eventPage, error) {
	ctx, cancel := toItsEnd(c.Request.Context(), readTimeout)
	defer cancel()
	read, err := s.events.Page(ctx, state, db.LogQuery{BotID: botID(c), Types: p.types, Filter: p.filter, After: from.position, Limit: p.limit})
	page := eventPage{cursor: from, events: read.Events, more: read.More}
	if err == nil && read.Upto != from.position {
		page.cursor, err = s.cursorAt(c.Request.Context(), read.Upto)
	}
	return page, err
}

// stateFrom is stateOf for who reads on from a cursor.
func (s *server) stateFrom(ctx context.Context, from cursor) (db.LogState, error) {
	state, err := s.stateOf(ctx, catchUp)
	if err != nil {
		return state, err
	}
	return state, s.holds(ctx, state, from)
}

func (s *server) stateOf(ctx context.Context, patience time.Duration) (db.LogState, error) {
	ctx, cancel := toItsEnd(ctx, patience+readTimeout)
	defer cancel()
	return s.events.State(ctx, patience)
}

// await waits as a call that is not in progress: waiting has a bound of its own.
func (s *server) await(c *gin.Context, w waiter, deadline time.Time) (over bool, err error) {
	defer s.calls.pause(w.botID)()
	return s.waiting.await(c, w, deadline)
}
