package history

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// MaxAttempts is how often an event may be sent to one webhook: what is read of its attempts is bounded by that.
const MaxAttempts = 1000

// Reader reads deliveries. What it returns of a webhook that does not exist is empty, or not found.
type Reader struct{ Pool *pgxpool.Pool }

// Delivery reads a delivery of a webhook.
func (r *Reader) Delivery(ctx context.Context, webhookID, id uuid.UUID) (db.GetDeliveriesRow, error) {
	rows, err := db.New().GetDeliveries(ctx, r.Pool, db.GetDeliveriesParams{Ids: []uuid.UUID{id}, WebhookIds: []uuid.UUID{webhookID}, Bytes: math.MaxInt32})
	switch {
	case err != nil:
		return db.GetDeliveriesRow{}, err
	case len(rows) == 0:
		return db.GetDeliveriesRow{}, problem.ErrNotFound
	}
	return rows[0], nil
}

// Attempt reads the delivery that an attempt at an event made.
func (r *Reader) Attempt(ctx context.Context, webhookID uuid.UUID, eventID string, number int) (db.GetDeliveriesRow, error) {
	row, err := db.New().RecordedDelivery(ctx, r.Pool, db.RecordedDeliveryParams{EventID: eventID, WebhookID: webhookID, Attempt: int32(number)})
	if err != nil {
		return db.GetDeliveriesRow{}, problem.OrNotFound(err)
	}
	return r.Delivery(ctx, webhookID, row.ID)
}

// NextAttempt is the event of a delivery and the number of its next attempt, and whether the event is kept for longer than a
// moment, by how long events are kept.
func (r *Reader) NextAttempt(ctx context.Context, webhookID, deliveryID uuid.UUID, kept webhook.Retention) (db.NextAttemptRow, error) {
	row, err := db.New().NextAttempt(ctx, r.Pool, db.NextAttemptParams{
		ID: deliveryID, WebhookID: webhookID, Since: kept.Since(time.Now()), MostAttempts: MaxAttempts,
	})
	return row, problem.OrNotFound(err)
}

// Event finds an event by its id.
func (r *Reader) Event(ctx context.Context, id string) (db.GetEventRow, error) {
	event, err := db.New().GetEvent(ctx, r.Pool, webhook.CanonicalID(id))
	return event, problem.OrNotFound(err)
}

// EventAudience counts the webhooks that an event was sent to, or is planned for, by outcome.
func (r *Reader) EventAudience(ctx context.Context, eventID string) (db.CountEventWebhooksRow, error) {
	return db.New().CountEventWebhooks(ctx, r.Pool, db.CountEventWebhooksParams{EventID: eventID, MostRead: webhook.MaxDeliveriesRead})
}

// eventRowsRead is how many rows a page of an event's webhooks reads that need not look for an outcome. A retry schedule makes
// eight attempts at each webhook; what a person has sent more often may not be read to its end.
const eventRowsRead = 2000

// EventFilter says which of an event's webhooks are wanted.
type EventFilter struct {
	Outcome string    // "": all
	After   uuid.UUID // the last webhook of the page before
	Limit   int
}

// EventWebhooks reads a page of what became of an event at its webhooks, in the order of their ids. next is the webhook after
// which the next page begins; nil: this is the last page.
func (r *Reader) EventWebhooks(ctx context.Context, eventID string, f EventFilter) (wanted []db.ListEventWebhooksRow, next *uuid.UUID, err error) {
	most := int32(eventRowsRead)
	if f.Outcome != "" {
		most = webhook.MaxDeliveriesRead
	}
	found, err := db.New().ListEventWebhooks(ctx, r.Pool, db.ListEventWebhooksParams{
		EventID: eventID, Outcome: f.Outcome, After: f.After, Most: int32(f.Limit + 1), MostRead: most,
	})
	if len(found) > f.Limit {
		found, next = found[:f.Limit], &found[f.Limit-1].WebhookID
	} else if n := len(found); n > 0 && found[n-1].IsLast {
		next = &found[n-1].WebhookID
	}
	for _, w := range found {
		if w.IsWanted {
			wanted = append(wanted, w)
		}
	}
	return wanted, next, err
}

// LookUpEvents reads which of the events are stored, and which of the bots do not exist, in one round trip.
func (r *Reader) LookUpEvents(ctx context.Context, eventIDs, botIDs []string) (stored []db.StoredEventsRow, unknownBots []string, err error) {
	return db.New().LookUpEvents(ctx, r.Pool, eventIDs, botIDs)
}
