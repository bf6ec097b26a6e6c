package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const (
	// PageSize is how many webhooks one workflow delivers to without splitting its audience.
	PageSize = 250
	// MaxPages is how many pages, each a DeliverBatch workflow, a larger audience is split into: half of the 2,000 children
	// that Temporal lets a workflow have (limit.numPendingChildExecutions.error).
	MaxPages = 1000
	// StepSize is how many webhooks of a page are delivered to in one step.
	StepSize = 500
)

// EventToAccept is an event, its fields all filled in, and the workflow run that asks to own it.
type EventToAccept struct {
	Event      webhook.Event
	WorkflowID string
	RunID      string
	At         time.Time // when the workflow was started
}

// Audience is who an event goes to: those of Targets, those in whose queue it stands, and, where they are more than
// PageSize in all, Pages.
type Audience struct {
	// Duplicate: another workflow run has accepted the event before, and delivers it.
	Duplicate bool     `json:"duplicate,omitempty"`
	Targets   []Target `json:"targets,omitempty"`
	Queued    int      `json:"queued,omitempty"`
	Pages     []Page   `json:"pages,omitempty"`
	// More: the page goes on after Last.
	More bool      `json:"more,omitempty"`
	Last uuid.UUID `json:"last,omitzero"`
	// Searchable: the namespace has the search attributes. Standing in the history, it is the same on every replay.
	Searchable bool `json:"searchable,omitempty"`
}

// Target is a webhook as history may show it: a host, never a whole URL, which may hold a token; no secret.
type Target struct {
	WebhookID uuid.UUID `json:"webhookId"`
	BotID     string    `json:"botId"`
	Host      string    `json:"host"`
}

// Page is a span of webhook ids: after < id <= upto.
type Page struct {
	After uuid.UUID `json:"after"`
	Upto  uuid.UUID `json:"upto"`
}

type storedEvent struct {
	ID     string
	Type   webhook.EventType
	Body   []byte
	BotIDs []string
	RunID  string
	// WorkflowID is set where the event was read from Postgres.
	WorkflowID string
	// AcceptedAt is by Temporal's clock, or by Postgres's.
	AcceptedAt time.Time
}

// Accept stores the event, from when on it is not lost, finds its subscribers, and puts it into the queues of those that
// are queued. It may run any number of times: the stored event names the run that owns it, so that only another run is a
// Duplicate, and webhooks that were sent the event, or in whose queue it stands, are left out. A run takes an event over
// from one that was ended before its work was done.
func (d *Deliverer) Accept(ctx context.Context, in EventToAccept) (Audience, error) {
	e := in.Event
	event := storedEvent{ID: e.ID, Type: e.Type, Body: e.Body(), BotIDs: e.BotIDs, RunID: in.RunID, AcceptedAt: in.At}
	page := Page{Upto: uuid.Max}
	inserted, subscribers, err := d.queries.AcceptEvent(ctx, d.cfg.Pool, db.InsertEventParams{
		ID: e.ID, Type: string(e.Type), Payload: event.Body, BotIds: e.BotIDs, RunID: in.RunID, WorkflowID: unusual(in.WorkflowID, e.ID),
	}, addressed(event, page, PageSize+1))
	if err != nil {
		return Audience{}, fmt.Errorf("accept event %s: %w", e.ID, err)
	}
	failpoint.Here("accepted")
	repeated := inserted == 0
	if repeated {
		if event, err = d.stored(ctx, e.ID); err != nil {
			return Audience{}, err
		}
		if event.RunID != in.RunID {
			takenOver, err := d.takeOver(ctx, event, in)
			if err != nil || !takenOver {
				return Audience{Duplicate: true}, err
			}
			event.RunID = in.RunID
			if subscribers, err = d.queries.AddressEvent(ctx, d.cfg.Pool, addressed(event, page, PageSize+1)); err != nil {
				return Audience{}, fmt.Errorf("find the subscribers of event %s: %w", e.ID, err)
			}
		}
	} else {
		d.metrics.accepted(ctx, e.Type)
	}
	if len(subscribers) > PageSize {
		d.wakeQueued(ctx, subscribers) // the pages find that these have their rows already
		pages, err := d.pages(ctx, event)
		return Audience{Pages: pages, Searchable: d.cfg.Attributes.Known()}, err
	}
	return d.audience(ctx, event, subscribers, repeated)
}

// unusual is a workflow's id to be stored, nil for the one that an event's workflow has as a rule.
func unusual(workflowID, eventID string) *string {
	if workflowID == "event-"+eventID {
		return nil
	}
	return &workflowID
}

func addressed(e storedEvent, p Page, most int32) db.AddressEventParams {
	return db.AddressEventParams{
		BotIds: e.BotIDs, EventType: string(e.Type), After: p.After, Upto: p.Upto, PageSize: most, EventID: e.ID, RunID: e.RunID,
	}
}

// takeOver makes the run that asks the owner of an event whose owner was ended before its work was done.
func (d *Deliverer) takeOver(ctx context.Context, event storedEvent, in EventToAccept) (bool, error) {
	ended, err := d.cfg.HasEnded(ctx, event.WorkflowID, event.RunID)
	if err != nil {
		return false, fmt.Errorf("ask for the workflow of event %s: %w", event.ID, err)
	}
	if !ended {
		d.metrics.duplicate(ctx, event.Type)
		return false, nil
	}
	n, err := d.queries.TakeOverEvent(ctx, d.cfg.Pool, db.TakeOverEventParams{
		RunID: in.RunID, WorkflowID: unusual(in.WorkflowID, event.ID), ID: event.ID, OldRunID: event.RunID,
	})
	if err != nil {
		return false, fmt.Errorf("take event %s over: %w", event.ID, err)
	}
	return n > 0, nil
}

// PartOfAudience asks for what follows in a page of an accepted event's audience.
type PartOfAudience struct {
	EventID string
	Page    Page
}

// AddressPart is Accept's lookup for a part of a large audience: StepSize webhooks at most.
func (d *Deliverer) AddressPart(ctx context.Context, in PartOfAudience) (Audience, error) {
	event, err := d.stored(ctx, in.EventID)
	if err != nil {
		return Audience{}, err
	}
	subscribers, err := d.queries.AddressEvent(ctx, d.cfg.Pool, addressed(event, in.Page, StepSize))
	if err != nil {
		return Audience{}, fmt.Errorf("find the subscribers of event %s: %w", in.EventID, err)
	}
	audience, err := d.audience(ctx, event, subscribers, true)
	if len(subscribers) == StepSize {
		audience.More, audience.Last = true, subscribers[StepSize-1].ID
	}
	return audience, err
}

func (d *Deliverer) stored(ctx context.Context, eventID string) (storedEvent, error) {
	row, err := d.queries.GetEvent(ctx, d.cfg.Pool, eventID)
	if err != nil {
		return storedEvent{}, fmt.Errorf("read event %s: %w", eventID, err)
	}
	return storedEvent{ID: row.ID, Type: webhook.EventType(row.Type), Body: row.Payload, BotIDs: row.BotIds, RunID: row.RunID, WorkflowID: row.WorkflowID, AcceptedAt: row.AcceptedAt}, nil
}

// pages splits an audience into MaxPages pages at most.
func (d *Deliverer) pages(ctx context.Context, e storedEvent) ([]Page, error) {
	count, err := d.queries.CountAudience(ctx, d.cfg.Pool, db.CountAudienceParams{EventType: string(e.Type), BotIds: e.BotIDs})
	if err != nil {
		return nil, fmt.Errorf("count the subscribers of event %s: %w", e.ID, err)
	}
	ends, err := d.queries.AudiencePages(ctx, d.cfg.Pool, db.AudiencePagesParams{
		EventType: string(e.Type), BotIds: e.BotIDs, PageSize: max(PageSize, (count+MaxPages-2)/(MaxPages-1)),
	})
	if err != nil {
		return nil, fmt.Errorf("page the subscribers of event %s: %w", e.ID, err)
	}
	pages := make([]Page, 0, len(ends)+1)
	var after uuid.UUID
	for _, end := range append(ends, uuid.Max) {
		pages = append(pages, Page{After: after, Upto: end})
		after = end
	}
	return pages, nil
}

// audience tells direct webhooks from queued ones, wakes the queues that were added to, and hands what the first attempts
// at the direct ones need over to Run.
func (d *Deliverer) audience(ctx context.Context, e storedEvent, subscribers []db.AddressEventRow, repeated bool) (Audience, error) {
	a := Audience{Searchable: d.cfg.Attributes.Known()}
	d.wakeQueued(ctx, subscribers)
	now := time.Now()
	for _, s := range subscribers {
		if s.Queued {
			a.Queued++
			continue
		}
		a.Targets = append(a.Targets, Target{WebhookID: s.ID, BotID: s.BotID, Host: webhook.HostOf(s.URL)})
		if !repeated {
			d.hand(e, s, now)
		}
	}
	if !repeated || len(a.Targets) == 0 {
		return a, nil
	}
	return d.withoutServed(ctx, e, a)
}

// wakeQueued wakes the queues that the lookup has added to.
func (d *Deliverer) wakeQueued(ctx context.Context, subscribers []db.AddressEventRow) {
	var added db.UnwokenParams
	webhooks := map[uuid.UUID]history.Webhook{}
	for _, s := range subscribers {
		if s.Seq != nil {
			added.WebhookIds, added.Seqs, added.DueAts = append(added.WebhookIds, s.ID), append(added.Seqs, *s.Seq), append(added.DueAts, *s.DueAt)
			webhooks[s.ID] = history.Webhook{WebhookID: s.ID, BotID: s.BotID, Host: webhook.HostOf(s.URL)}
		}
	}
	if len(added.WebhookIds) > 0 {
		failpoint.Here("queued")
		d.recorder.WakeQueues(ctx, added, webhooks)
	}
}

// hand puts what an attempt needs into the prefetch.
func (d *Deliverer) hand(e storedEvent, s db.AddressEventRow, now time.Time) {
	secrets, err := d.secrets(s.ID, s.Secret, s.PreviousSecret)
	if err != nil {
		return // Run meets the same error, by itself
	}
	in := attemptInput{event: e, url: s.URL, secrets: secrets, botID: s.BotID, generation: s.Generation, readAt: now}
	if s.FailureCount > 0 {
		in.failureRun = s.FailureRun
	}
	d.prefetch.put(First(e.ID, s.ID).ID(), in)
}

// withoutServed leaves out the targets that were sent the event already, or in whose queue it stands.
func (d *Deliverer) withoutServed(ctx context.Context, e storedEvent, a Audience) (Audience, error) {
	ids := make([]uuid.UUID, len(a.Targets))
	for i, t := range a.Targets {
		ids[i] = t.WebhookID
	}
	served, err := d.queries.DeliveredOf(ctx, d.cfg.Pool, db.DeliveredOfParams{EventID: e.ID, WebhookIds: ids})
	if err != nil {
		return a, fmt.Errorf("look up the deliveries of event %s: %w", e.ID, err)
	}
	skip := make(map[uuid.UUID]bool, len(served))
	for _, id := range served {
		skip[id] = true
	}
	left := a.Targets[:0]
	for _, t := range a.Targets {
		if !skip[t.WebhookID] {
			left = append(left, t)
		}
	}
	a.Targets = left
	return a, nil
}
