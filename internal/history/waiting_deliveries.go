package history

import (
	"context"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// MostListed is how many waiting deliveries are listed.
const MostListed = 50

// WaitingDelivery is a delivery that waits for its next attempt.
type WaitingDelivery struct {
	// Position is its place in the order in which they are sent, from 1.
	Position   int
	EventID    string
	EventType  string
	AcceptedAt time.Time
	Attempt    int // the number of the next attempt
	Trigger    webhook.Trigger
	// NextAttemptAt is when the attempt is due, as DueAt has it. Nil: it waits for those before it, as the webhook is ordered.
	NextAttemptAt *time.Time
}

// Waiting lists what waits for a webhook, in the order in which it is sent: the first MostListed. To a disabled webhook nothing is
// sent but what a person has just asked for.
func (q *Queue) Waiting(ctx context.Context, w db.Webhook) ([]WaitingDelivery, error) {
	rows, err := db.New().ListWaiting(ctx, q.Pool, db.ListWaitingParams{WebhookID: w.ID, Most: MostListed})
	waiting := make([]WaitingDelivery, 0, len(rows))
	now, behind := time.Now(), false
	for _, row := range rows {
		d := WaitingDelivery{
			Position: len(waiting) + 1, EventID: row.EventID, EventType: row.Type, AcceptedAt: row.AcceptedAt, Attempt: int(row.Attempt), Trigger: webhook.Trigger(row.Trigger),
		}
		manual := d.Trigger.Manual()
		if !w.IsActive && !manual {
			break
		}
		if !behind {
			at := DueAt(row.DueAt, w.ResumeAt, now)
			if !manual && w.OrderedFrom != nil && w.OrderedFrom.After(at) {
				at = *w.OrderedFrom
			}
			d.NextAttemptAt = &at
		}
		behind = behind || w.Ordered && !manual
		waiting = append(waiting, d)
	}
	return waiting, err
}
