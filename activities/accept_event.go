package activities

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// PageSize is how many webhooks one workflow delivers to. A larger audience is split into pages, each a DeliverBatch
// of its own: far under Temporal's 2,000 pending activities and 51,200 history events a workflow.
const PageSize = 250

var lastWebhook = uuid.Max

// AcceptInput is an event, its fields all filled in, and the workflow run that asks to own it.
type AcceptInput struct {
	Event webhook.Event
	RunID string
	At    time.Time // when the workflow was started
}

// Audience is who an event goes to: either Targets, or, where they are more than PageSize, Pages; and beside them Held.
type Audience struct {
	// Duplicate: another workflow run has accepted the event before, and delivers it.
	Duplicate bool     `json:"duplicate,omitempty"`
	Targets   []Target `json:"targets,omitempty"`
	Pages     []Page   `json:"pages,omitempty"`
	// Held are bots that the event goes to as well, but that have so much under way already that AdmitHeld is to be
	// asked about them.
	Held []string `json:"held,omitempty"`
	// Searchable: the namespace has the search attributes. Standing in the history, it is the same on every replay.
	Searchable bool `json:"searchable,omitempty"`
}

// Target is a webhook as history may show it: a host, never a whole URL, which may hold a token; no secret.
type Target struct {
	WebhookID uuid.UUID `json:"webhookId"`
	BotID     string    `json:"botId"`
	Host      string    `json:"host"`
	// Slow: it has a failure run or answered slowly, so it goes through the slow lane.
	Slow bool `json:"slow,omitempty"`
}

// Page is a span of webhook ids: after < id <= upto.
type Page struct {
	After uuid.UUID `json:"after"`
	Upto  uuid.UUID `json:"upto"`
}

// AcceptEvent stores the event, from when on it is not lost, and resolves its subscribers. It may run any number of
// times: the stored event names the run that owns it, so that only another run is told Duplicate, and webhooks that
// have the event already are left out. A recorded failure is not left out: its retry may not have been planned yet,
// and Deliver will not send it again.
func (a *Activities) AcceptEvent(ctx context.Context, in AcceptInput) (Audience, error) {
	e := in.Event
	event := storedEvent{ID: e.ID, Type: e.Type, Body: e.Body(), BotIDs: e.BotIDs, AcceptedAt: in.At}
	crowded := a.crowdedBots()
	inserted, subscribers, err := a.queries.AcceptEvent(ctx, a.cfg.Pool,
		db.InsertEventParams{ID: e.ID, Type: string(e.Type), Payload: event.Body, BotIds: e.BotIDs, RunID: in.RunID},
		listing(event, Page{Upto: lastWebhook}, crowded, PageSize+1))
	if err != nil {
		return Audience{}, fmt.Errorf("accept event %s: %w", e.ID, err)
	}
	failpoint("accepted")
	repeated := inserted == 0
	if repeated {
		stored, err := a.queries.GetEvent(ctx, a.cfg.Pool, e.ID)
		if err != nil {
			return Audience{}, fmt.Errorf("read event %s: %w", e.ID, err)
		}
		if stored.RunID != in.RunID {
			a.metrics.duplicate(ctx, e.Type)
			return Audience{Duplicate: true}, nil
		}
		event.Body = stored.Payload
	} else {
		a.metrics.accepted(ctx, e.Type)
	}
	held, err := a.held(ctx, event, Page{Upto: lastWebhook}, crowded)
	if err != nil {
		return Audience{}, err
	}
	if len(subscribers) > PageSize {
		large, err := a.queries.LargeBots(ctx, a.cfg.Pool, db.LargeBotsParams{
			EventType: string(e.Type), BotIds: e.BotIDs, Held: orNone(held), Most: maxAtOncePerBot,
		})
		if err != nil {
			return Audience{}, fmt.Errorf("look up the subscribers of event %s: %w", e.ID, err)
		}
		held = append(held, large...)
		if subscribers, _, err = a.subscribers(ctx, event, Page{Upto: lastWebhook}, held, PageSize+1); err != nil {
			return Audience{}, err
		}
	}
	if len(subscribers) > PageSize {
		pages, err := a.pages(ctx, event, held)
		return Audience{Pages: pages, Held: held, Searchable: a.cfg.Attributes.Known()}, err
	}
	targets, err := a.prepare(ctx, event, subscribers, repeated)
	return Audience{Targets: targets, Held: held, Searchable: a.cfg.Attributes.Known()}, err
}

// BatchInput names a page of an event's audience.
type BatchInput struct {
	EventID string `json:"eventId"`
	// EventType, and Summary, the event's, are for operators: they are empty where a version before 0.2 wrote the input.
	EventType webhook.EventType `json:"eventType,omitempty"`
	Summary   string            `json:"summary,omitempty"`
	Page      Page              `json:"page"`
	// Except are bots that the event's own workflow sees to.
	Except []string `json:"except,omitempty"`
}

// ResolveBatch is AcceptEvent's lookup for one page of an accepted event.
func (a *Activities) ResolveBatch(ctx context.Context, in BatchInput) (Audience, error) {
	event, err := a.stored(ctx, in.EventID)
	if err != nil {
		return Audience{}, err
	}
	// Webhooks subscribed since the pages were drawn may have made this one a little longer.
	subscribers, held, err := a.subscribers(ctx, event, in.Page, in.Except, 4*PageSize)
	if err != nil {
		return Audience{}, err
	}
	targets, err := a.prepare(ctx, event, subscribers, true)
	return Audience{Targets: targets, Held: held, Searchable: a.cfg.Attributes.Known()}, err
}

// HeldInput asks for a bot's part of an event's audience, or of a page of it, from after a webhook on.
type HeldInput struct {
	EventID string    `json:"eventId"`
	BotID   string    `json:"botId"`
	After   uuid.UUID `json:"after"`
	Upto    uuid.UUID `json:"upto"`
	Round   int       `json:"round"` // how often it has been asked in vain
}

// Admitted are the targets that the bot has room for now.
type Admitted struct {
	Targets []Target `json:"targets,omitempty"`
	// AgainInMs says when to ask for those that follow the last target; 0: there are none.
	AgainInMs int64 `json:"againInMs,omitempty"`
}

// AdmitHeld waits, for up to six seconds, until a bot that was held back has room for deliveries again. To ask costs
// the engine one workflow's step, however many webhooks the bot has; that is why it is done so rarely: in the wait,
// hanging webhooks are disabled or get well.
func (a *Activities) AdmitHeld(ctx context.Context, in HeldInput) (Admitted, error) {
	latest := time.Now().Add(heldLatest)
	event, err := a.stored(ctx, in.EventID)
	if err != nil {
		return Admitted{}, err
	}
	room, done, err := a.awaitRoom(ctx, in, event)
	if err != nil {
		return Admitted{}, fmt.Errorf("look up the webhooks of bot %s for event %s: %w", in.BotID, event.ID, err)
	}
	if done {
		return Admitted{}, nil
	}
	if room == 0 {
		_, inTrouble := a.lanes.room(in.BotID, 0)
		return Admitted{AgainInMs: heldDelay(in.Round, inTrouble).Milliseconds()}, nil
	}
	admitted, err := a.admit(ctx, in, event, room)
	a.roomTaken()
	if err == nil && len(admitted.Targets) == 0 {
		// Nothing is left to do for hundreds at once: their ends are spread out.
		if look := nextLook(event.ID, time.Now()); look.Before(latest) {
			latest = look
		}
		sleepUntil(ctx, latest)
	}
	return admitted, err
}

func (a *Activities) admit(ctx context.Context, in HeldInput, event storedEvent, room int) (Admitted, error) {
	subscribers, err := a.queries.NextOfBot(ctx, a.cfg.Pool, db.NextOfBotParams{
		BotID: in.BotID, EventType: string(event.Type), EventID: event.ID, After: in.After, Upto: in.Upto, PageSize: int32(room),
	})
	if err != nil {
		return Admitted{}, fmt.Errorf("look up the webhooks of bot %s for event %s: %w", in.BotID, event.ID, err)
	}
	rows := make([]db.ListSubscribersRow, len(subscribers))
	for i, s := range subscribers {
		rows[i] = db.ListSubscribersRow(s)
	}
	targets, err := a.prepare(ctx, event, rows, false)
	admitted := Admitted{Targets: targets}
	if len(rows) == room {
		admitted.AgainInMs = 1 // at once: to wait for room is AdmitHeld's
	}
	return admitted, err
}

func (a *Activities) stored(ctx context.Context, eventID string) (storedEvent, error) {
	row, err := a.queries.GetEvent(ctx, a.cfg.Pool, eventID)
	if err != nil {
		return storedEvent{}, fmt.Errorf("read event %s: %w", eventID, err)
	}
	return storedEvent{ID: row.ID, Type: webhook.EventType(row.Type), Body: row.Payload, BotIDs: row.BotIds, AcceptedAt: row.AcceptedAt}, nil
}

type storedEvent struct {
	ID     string
	Type   webhook.EventType
	Body   []byte
	BotIDs []string
	// AcceptedAt is by Temporal's clock, or by Postgres's.
	AcceptedAt time.Time
}

// subscribers are those of a page, without those of bots that are held back; held are such bots, beside except, that
// the event goes to.
func (a *Activities) subscribers(ctx context.Context, e storedEvent, page Page, except []string, most int32) (rows []db.ListSubscribersRow, held []string, err error) {
	crowded := slices.DeleteFunc(a.crowdedBots(), func(bot string) bool { return slices.Contains(except, bot) })
	rows, err = a.queries.ListSubscribers(ctx, a.cfg.Pool, listing(e, page, slices.Concat(crowded, except), most))
	if err != nil {
		return nil, nil, fmt.Errorf("look up the subscribers of event %s: %w", e.ID, err)
	}
	held, err = a.held(ctx, e, page, crowded)
	return rows, held, err
}

func listing(e storedEvent, page Page, held []string, most int32) db.ListSubscribersParams {
	return db.ListSubscribersParams{
		EventType: string(e.Type), BotIds: e.BotIDs, Held: orNone(held), After: page.After, Upto: page.Upto, PageSize: most,
	}
}

// held are the crowded bots that the event goes to.
func (a *Activities) held(ctx context.Context, e storedEvent, page Page, crowded []string) ([]string, error) {
	if len(crowded) == 0 {
		return nil, nil
	}
	held, err := a.queries.HeldSubscribers(ctx, a.cfg.Pool, db.HeldSubscribersParams{
		EventType: string(e.Type), BotIds: e.BotIDs, Held: crowded, After: page.After, Upto: page.Upto,
	})
	if err != nil {
		return nil, fmt.Errorf("look up the subscribers of event %s: %w", e.ID, err)
	}
	return held, nil
}

func (a *Activities) pages(ctx context.Context, e storedEvent, held []string) ([]Page, error) {
	ends, err := a.queries.SubscriberPages(ctx, a.cfg.Pool, db.SubscriberPagesParams{
		EventType: string(e.Type), BotIds: e.BotIDs, Held: orNone(held), PageSize: PageSize,
	})
	if err != nil {
		return nil, fmt.Errorf("page the subscribers of event %s: %w", e.ID, err)
	}
	var pages []Page
	var after uuid.UUID
	for _, end := range append(ends, lastWebhook) {
		pages = append(pages, Page{After: after, Upto: end})
		after = end
	}
	return pages, nil
}

// orNone is for parameters in which Postgres takes NULL for unknown.
func orNone(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

// prepare makes the targets and hands what their first attempts need over to Deliver.
func (a *Activities) prepare(ctx context.Context, e storedEvent, subscribers []db.ListSubscribersRow, repeated bool) ([]Target, error) {
	ids := make([]uuid.UUID, len(subscribers))
	for i, s := range subscribers {
		ids[i] = webhook.DeliveryID(e.ID, s.ID, 1)
	}
	var recorded map[uuid.UUID]bool // by delivery: whether it succeeded
	if repeated {
		rows, err := a.queries.DeliveryOutcomes(ctx, a.cfg.Pool, ids)
		if err != nil {
			return nil, fmt.Errorf("look up the deliveries of event %s: %w", e.ID, err)
		}
		recorded = make(map[uuid.UUID]bool, len(rows))
		for _, r := range rows {
			recorded[r.ID] = r.Success
		}
	}
	now := time.Now()
	targets := make([]Target, 0, len(subscribers))
	for i, s := range subscribers {
		success, done := recorded[ids[i]]
		if success {
			continue
		}
		troubled := s.FailureCount > 0 || s.IsSlow
		// Deliver waits, at no cost to the engine, for the end of what is under way: the webhook may be disabled then.
		t := Target{WebhookID: s.ID, BotID: s.BotID, Host: hostOf(s.URL), Slow: troubled && !a.lanes.unsettled(s.ID)}
		targets = append(targets, t)
		if done {
			continue
		}
		secrets, err := a.secrets(s.ID, s.Secret, s.PreviousSecret)
		if err != nil {
			continue // Deliver meets the same error, by itself
		}
		a.handoff.put(ids[i], job{
			event: e, url: s.URL, secrets: secrets, botID: s.BotID, generation: s.Generation, failing: s.FailureCount > 0, readAt: now,
		})
	}
	return slices.Clip(targets), nil
}

// secrets opens those of a webhook that sign, the present one first; none is nil.
func (a *Activities) secrets(webhookID uuid.UUID, sealed ...[]byte) (secrets []string, err error) {
	for _, s := range sealed {
		if s == nil {
			continue
		}
		secret, err := a.cfg.Keyset.Open(webhookID, s)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}
