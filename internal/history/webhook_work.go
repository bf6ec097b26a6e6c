package history

import (
	"context"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
)

// Work is what a webhook has before it.
type Work struct {
	// Waiting is how many of its deliveries wait, up to MostCounted.
	Waiting int
	// Recovering says that a recovery is running, which is done with so many events of those that it has found.
	Recovering  bool
	Done, Found int
	// Paused says that an operator has paused its deliveries.
	Paused bool
}

// Work is what some webhooks have before them.
func (r *Reader) Work(ctx context.Context, webhookIDs []uuid.UUID) (map[uuid.UUID]Work, error) {
	rows, err := db.New().WebhooksAtWork(ctx, r.Pool, db.WebhooksAtWorkParams{WebhookIds: webhookIDs, MostCounted: MostCounted})
	work := make(map[uuid.UUID]Work, len(rows))
	for _, row := range rows {
		work[row.ID] = Work{Waiting: int(row.Waiting), Recovering: row.Recovering, Done: int(row.Done), Found: int(row.Found)}
	}
	if err != nil {
		return nil, err
	}
	paused, err := (&Pauses{Pool: r.Pool}).Covering(ctx, webhookIDs)
	for id := range paused {
		of := work[id]
		of.Paused = true
		work[id] = of
	}
	return work, err
}
