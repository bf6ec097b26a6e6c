package history

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// eventsLookedAt is how many events a page of a bot's events looks at, whosesoever they are.
const eventsLookedAt = 5000

// BotEvents says which of a bot's events are wanted.
type BotEvents struct {
	BotID string
	Type  string // "": all
	// Before is the event before which the page begins, by acceptance; its zero value: the newest.
	Before EventPlace
	Limit  int
}

// EventPlace is an event's place in the order of acceptance.
type EventPlace struct {
	At time.Time
	ID string
}

// BotEvents reads a page of the events that concern a bot, newest first. next is where the next page begins; nil: this is the
// last one. A page may be short, or empty, and not be the last.
func (r *Reader) BotEvents(ctx context.Context, f BotEvents) (events []db.PageOfBotEventsRow, next *EventPlace, err error) {
	before := f.Before
	if before.At.IsZero() {
		before.At = time.Now().Add(time.Hour) // clocks differ
	}
	found, err := db.New().PageOfBotEvents(ctx, r.Pool, db.PageOfBotEventsParams{
		BotID: f.BotID, EventType: f.Type, BeforeTime: before.At, BeforeID: before.ID, MostRead: eventsLookedAt, Most: int32(f.Limit + 1),
	})
	if n := len(found); n > f.Limit {
		found = found[:f.Limit]
		next = &EventPlace{found[f.Limit-1].AcceptedAt, found[f.Limit-1].ID}
	} else if n > 0 && found[n-1].N == eventsLookedAt {
		next = &EventPlace{found[n-1].AcceptedAt, found[n-1].ID}
	}
	for _, e := range found {
		if e.Wanted {
			events = append(events, e)
		}
	}
	return events, next, err
}

// EventsAt is what became of some events at some webhooks: of each event, those that it was sent to, or is planned for.
func (r *Reader) EventsAt(ctx context.Context, eventIDs []string, webhookIDs []uuid.UUID) (map[string][]db.EventsAtWebhooksRow, error) {
	rows, err := db.New().EventsAtWebhooks(ctx, r.Pool, db.EventsAtWebhooksParams{EventIds: eventIDs, WebhookIds: webhookIDs})
	taken := map[string][]db.EventsAtWebhooksRow{}
	for _, row := range rows {
		taken[row.EventID] = append(taken[row.EventID], row)
	}
	return taken, err
}

// BotEvent reads an event that concerns a bot, or that one of its webhooks got: a test goes to one webhook. Another is not found, nor is a
// verification before it was attempted: who knows its nonce by then could publish it at an endpoint of somebody else.
func (r *Reader) BotEvent(ctx context.Context, botID, id string, webhookIDs []uuid.UUID) (event db.GetEventRow, taken []db.EventsAtWebhooksRow, err error) {
	if event, err = r.Event(ctx, id); err != nil {
		return event, nil, err
	}
	at, err := r.EventsAt(ctx, []string{event.ID}, webhookIDs)
	if err != nil {
		return event, nil, err
	}
	taken = at[event.ID]
	if event.Type == string(webhook.Verify) {
		taken = slices.DeleteFunc(taken, func(row db.EventsAtWebhooksRow) bool { return row.Attempts == 0 })
	}
	concerns, err := r.concerns(ctx, event, botID)
	if err == nil && !concerns && len(taken) == 0 {
		err = problem.ErrNotFound
	}
	if err != nil {
		return db.GetEventRow{}, nil, err
	}
	return event, taken, nil
}

// concerns says whether a bot may read an event: of what names it, not what was for an earlier bot of its id.
func (r *Reader) concerns(ctx context.Context, event db.GetEventRow, botID string) (bool, error) {
	switch {
	case event.Type == string(webhook.Test), event.Type == string(webhook.Verify):
		return false, nil
	case event.BotIds == nil || !slices.Contains(event.BotIds, botID):
		return event.BotIds == nil, nil
	}
	bot, err := db.New().GetBot(ctx, r.Pool, botID)
	return !event.AcceptedAt.Before(bot.CreatedAt), err
}
