package ops

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// State is how a webhook stands.
type State string

// The states. Each webhook is in the first one that is true of it.
const (
	Disabled  State = "disabled"
	Suspended State = "suspended" // its bot is
	Failing   State = "failing"   // its last attempt failed
	Queued    State = "queued"    // it fails not, and its deliveries wait in its queue; one that is ordered may have none
	Active    State = "active"
)

// StateOf is the state of a webhook.
func StateOf(w *db.Webhook) State {
	switch {
	case !w.IsActive:
		return Disabled
	case w.Suspended:
		return Suspended
	case w.FailureCount > 0:
		return Failing
	case w.Queued:
		return Queued
	}
	return Active
}

// Webhook is a webhook of any bot, without its URL, which may hold a token.
type Webhook struct {
	ID             uuid.UUID
	BotID, Host    string
	Name           *string
	State          State
	FailureCount   int
	Waiting        int        // in its queue, counted up to 1,000
	OldestDueAt    *time.Time // of what waits, but for what was made due at once; nil: nothing waits
	LastError      *string    // of the last failure that is kept; nil: none is
	ErrorClass     string     // of the last failure, as egress names it; "": none
	DisabledAt     *time.Time
	DisabledReason *string
	DisabledNote   *string
	CreatedAt      time.Time
}

// page completes the rows of a page.
func (s *Service) page(ctx context.Context, rows []db.Webhook) ([]Webhook, error) {
	ids := make([]uuid.UUID, len(rows))
	for i, w := range rows {
		ids[i] = w.ID
	}
	troubles, err := db.New().WebhookTroubles(ctx, s.Pool, db.WebhookTroublesParams{Ids: ids, MostCounted: mostCounted})
	if err != nil {
		return nil, err
	}
	of := make(map[uuid.UUID]db.WebhookTroublesRow, len(troubles))
	for _, t := range troubles {
		of[t.ID] = t
	}
	page := make([]Webhook, len(rows))
	for i, w := range rows {
		t := of[w.ID]
		page[i] = Webhook{
			ID: w.ID, BotID: w.BotID, Host: webhook.HostOf(w.Origin), Name: w.Name, State: StateOf(&w), FailureCount: int(w.FailureCount),
			Waiting: int(t.Waiting), OldestDueAt: dueAt(t.OldestDueAt), LastError: t.LastError, ErrorClass: w.FailureClass, CreatedAt: w.CreatedAt,
		}
		if !w.IsActive {
			page[i].DisabledAt, page[i].DisabledReason, page[i].DisabledNote = w.DisabledAt, w.DisabledReason, w.DisabledNote
		}
	}
	return page, nil
}

// dueAt is nil for the epoch.
func dueAt(t time.Time) *time.Time {
	if t.Unix() == 0 {
		return nil
	}
	return &t
}

// Webhook completes one that was read.
func (s *Service) Webhook(ctx context.Context, w db.Webhook) (Webhook, error) {
	page, err := s.page(ctx, []db.Webhook{w})
	if err != nil {
		return Webhook{}, err
	}
	return page[0], nil
}
