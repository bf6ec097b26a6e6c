package delivery

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

// EventsToAccept are events, their fields all filled in, and the workflow run that asks to own them.
type EventsToAccept struct {
	Events     []webhook.Event
	WorkflowID string
	RunID      string
	At         time.Time // when the workflow was started
	// Of is how many events the workflow has that are accepted one by one, and share its pages. 0: it has these only.
	Of int
	// Typed: the workflow has its events' types as a search attribute.
	Typed bool
}

// check finds what no workflow asks for that has parsed its events.
func (in EventsToAccept) check() error {
	switch {
	case len(in.Events) == 0 || len(in.Events) > webhook.MaxBatchEvents:
		return webhook.Invalid("events", fmt.Sprintf("must be 1 to %d", webhook.MaxBatchEvents))
	case in.WorkflowID == "" || in.RunID == "":
		return webhook.Invalid("runId", "must be the workflow's, as its id")
	case in.Of < 0 || in.Of > webhook.MaxBatchEvents:
		return webhook.Invalid("of", fmt.Sprintf("must be 0 to %d", webhook.MaxBatchEvents))
	}
	for i, e := range in.Events {
		_, known := webhook.Spec(e.Type)
		if !known || !webhook.ValidID(e.ID) || len(e.BotIDs) > webhook.MaxBotIDs || slices.ContainsFunc(e.BotIDs, func(id string) bool { return !webhook.ValidID(id) }) {
			return webhook.Invalid(fmt.Sprintf("events[%d]", i), "must be a valid event, its fields all filled in")
		}
	}
	return nil
}

// KnownEvents are those of a workflow's events that this worker finds valid, where the emitter, of another version, found all of them so.
type KnownEvents struct {
	WorkflowID string
	Events     []webhook.Event
}

// StartKnown has known events delivered, by a workflow of their own.
func (d *Deliverer) StartKnown(ctx context.Context, in KnownEvents) error {
	return d.cfg.StartKnown(ctx, in)
}

type storedEvent struct {
	ID     string
	Type   webhook.EventType
	Body   []byte
	BotIDs []string
	RunID  string
	// WorkflowID is set where the event was read from Postgres.
	WorkflowID string
	// AcceptedAt is by Temporal's clock, or by Postgres's; StoredAt is by Postgres's, as the event's row has it.
	AcceptedAt, StoredAt time.Time
}

// acceptance is an event on its way to be accepted.
type acceptance struct {
	event storedEvent
	list  int  // of subscribers, which it shares with events of the same type and for the same bots
	fresh bool // it was not there before, so that nothing of it was sent
	// rows are the places, in a list that is filtered, of those that get it, and fields what their filters ask for.
	rows   []int
	fields webhook.DataFields
	EventAudience
}

// Accept stores events, finds their subscribers, and puts the events into the queues of those in queued mode. It is
// idempotent: a stored event names the run that owns it, and only another run's event is a Duplicate. Webhooks that already
// got an event, or have it in their queue, are left out. A run takes over the event of a run that was ended too early.
func (d *Deliverer) Accept(ctx context.Context, in EventsToAccept) (Audience, error) {
	if err := in.check(); err != nil {
		return Audience{}, err
	}
	all := make([]*acceptance, len(in.Events))
	var rows db.InsertEventsParams
	for i, e := range in.Events {
		all[i] = &acceptance{event: storedEvent{ID: e.ID, Type: e.Type, Body: e.Body(), BotIDs: e.BotIDs, RunID: in.RunID, AcceptedAt: in.At}}
		rows.Ids, rows.Types, rows.Payloads, rows.Bots = append(rows.Ids, e.ID), append(rows.Types, string(e.Type)), append(rows.Payloads, all[i].event.Body), append(rows.Bots, textArray(e.BotIDs))
		rows.Places = append(rows.Places, int32(i))
	}
	rows.RunID, rows.WorkflowID = in.RunID, unusual(in.WorkflowID, in.Events[0].ID)
	page := Page{Upto: uuid.Max}
	shareLists(all)
	readAt := time.Now()
	inserted, subscribers, err := d.queries.AcceptEvents(ctx, d.cfg.Pool, rows, addressed(all, page, PageSize+1, true))
	if err != nil {
		return Audience{}, fmt.Errorf("accept %s: %w", eventNames(in.Events), err)
	}
	failpoint.Here("accepted")
	if err := d.wakeAddressed(ctx, all, subscribers); err != nil {
		return Audience{}, err
	}
	d.markFresh(ctx, all, inserted)
	if len(inserted) < len(all) {
		takenOver, err := d.known(ctx, in, all)
		if err != nil {
			return Audience{}, err
		}
		if takenOver {
			shareLists(all)
			if subscribers, err = d.queries.AddressEvents(ctx, d.cfg.Pool, addressed(all, page, PageSize+1, true)); err != nil {
				return Audience{}, fmt.Errorf("find the subscribers of %s: %w", eventNames(in.Events), err)
			}
			if err := d.wakeAddressed(ctx, all, subscribers); err != nil {
				return Audience{}, err
			}
		}
	}
	audience, err := d.audience(ctx, all, subscribers, in.Of, readAt)
	audience.Untyped = audience.Searchable && !in.Typed
	return audience, err
}

func eventNames(events []webhook.Event) string {
	if len(events) == 1 {
		return "event " + events[0].ID
	}
	return fmt.Sprintf("event %s and %d others", events[0].ID, len(events)-1)
}

// unusual is a workflow's id to be stored, nil for the one that an event's workflow has as a rule.
func unusual(workflowID, eventID string) *string {
	if workflowID == "event-"+eventID {
		return nil
	}
	return &workflowID
}

// textArray is how Postgres writes an array of ids; "" for none at all.
func textArray(ids []string) string {
	if ids == nil {
		return ""
	}
	return `{"` + strings.Join(ids, `","`) + `"}`
}

// markFresh marks the events that were not there before.
func (d *Deliverer) markFresh(ctx context.Context, all []*acceptance, inserted []db.InsertEventsRow) {
	stored := make(map[string]time.Time, len(inserted))
	for _, row := range inserted {
		stored[row.ID] = row.AcceptedAt
	}
	for _, a := range all {
		if a.event.StoredAt, a.fresh = stored[a.event.ID]; a.fresh {
			d.metrics.accepted(ctx, a.event.Type)
		}
	}
}

// known finds out about the events that were stored before: this run owns them, takes them over, or they are duplicates.
func (d *Deliverer) known(ctx context.Context, in EventsToAccept, all []*acceptance) (takenOver bool, err error) {
	var ids []string
	for _, a := range all {
		if !a.fresh {
			ids = append(ids, a.event.ID)
		}
	}
	rows, err := d.queries.GetEvents(ctx, d.cfg.Pool, ids)
	if err != nil {
		return false, fmt.Errorf("read events: %w", err)
	}
	stored := make(map[string]storedEvent, len(rows))
	for _, row := range rows {
		stored[row.ID] = ofRow(db.GetEventRow(row))
	}
	ended := map[owner]bool{}
	for _, a := range all {
		event, ok := stored[a.event.ID]
		switch {
		case a.fresh:
			continue
		case !ok: // removed in between, as it was too old
			return false, fmt.Errorf("event %s was removed while it was accepted", a.event.ID)
		case event.RunID != in.RunID:
			ours, err := d.takeOver(ctx, event, in, ended)
			if err != nil {
				return false, err
			}
			takenOver, a.Duplicate, event.RunID = takenOver || ours, !ours, in.RunID
			a.Conflict = !ours && !says(event, a.event)
		}
		a.event = event
	}
	return takenOver, nil
}

// says tells whether a stored event says what another one does. Which timestamp was the emitter's is not known here.
func says(stored, other storedEvent) bool {
	e := webhook.Event{Type: other.Type, BotIDs: other.BotIDs, Data: webhook.DataOf(other.Body)}
	digest := sha256.Sum256(stored.Body)
	return e.IsStored(stored.Body, digest[:], stored.BotIDs)
}

// owner is a workflow run that owns events.
type owner struct{ workflowID, runID string }

// takeOver makes the run that asks the owner of an event whose owner was ended before its work was done. ended are the owners
// that were asked for already: a group may repeat all of another.
func (d *Deliverer) takeOver(ctx context.Context, event storedEvent, in EventsToAccept, ended map[owner]bool) (bool, error) {
	by := owner{event.WorkflowID, event.RunID}
	if by.runID == "" { // disowned after a restore, see ops.Resume
		ended[by] = true
	}
	if _, asked := ended[by]; !asked {
		has, err := d.cfg.HasEnded(ctx, by.workflowID, by.runID)
		if err != nil {
			return false, fmt.Errorf("describe the workflow of event %s: %w", event.ID, err)
		}
		ended[by] = has
	}
	if !ended[by] {
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

func (d *Deliverer) stored(ctx context.Context, eventID string) (storedEvent, error) {
	row, err := d.queries.GetEvent(ctx, d.cfg.Pool, eventID)
	if err != nil {
		return storedEvent{}, fmt.Errorf("read event %s: %w", eventID, err)
	}
	return ofRow(row), nil
}

func ofRow(row db.GetEventRow) storedEvent {
	return storedEvent{ID: row.ID, Type: webhook.EventType(row.Type), Body: row.Payload, BotIDs: row.BotIds, RunID: row.RunID, WorkflowID: row.WorkflowID, AcceptedAt: row.AcceptedAt, StoredAt: row.AcceptedAt}
}
