package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
)

// MissedPage is how many missed events one lookup of a recovery returns at most.
const MissedPage = 100

// Span is the part of the past that a recovery covers, by the time of acceptance, both ends included.
type Span struct {
	WebhookID uuid.UUID `json:"webhookId"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
}

// Missed is an event that was never delivered to a webhook.
type Missed struct {
	EventID    string    `json:"eventId"`
	AcceptedAt time.Time `json:"acceptedAt"`
	Attempt    int       `json:"attempt"` // the next one's number
}

// MissedInput asks for the page of a span that follows After; the zero After is the first page.
type MissedInput struct {
	Span  Span   `json:"span"`
	After Missed `json:"after"`
}

// ListMissed returns the events of the span that match the webhook's present subscription and were never delivered to
// it, oldest first, at most MissedPage.
func (a *Activities) ListMissed(ctx context.Context, in MissedInput) ([]Missed, error) {
	rows, err := a.queries.ListMissed(ctx, a.cfg.Pool, db.ListMissedParams{
		WebhookID: in.Span.WebhookID, Since: in.Span.Since, Until: in.Span.Until,
		AfterTime: in.After.AcceptedAt, AfterID: in.After.EventID, PageSize: MissedPage,
	})
	if err != nil {
		return nil, fmt.Errorf("look up what webhook %s missed: %w", in.Span.WebhookID, err)
	}
	missed := make([]Missed, len(rows))
	for i, r := range rows {
		missed[i] = Missed{EventID: r.ID, AcceptedAt: r.AcceptedAt, Attempt: int(r.Attempt)}
	}
	return missed, nil
}
