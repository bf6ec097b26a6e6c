package history

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
)

// StopWebhooks removes what is planned for webhooks that are disabled now, and ends their recoveries. The webhooks' locks
// are held.
func StopWebhooks(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	q, why := db.New(), "webhook disabled"
	if err := q.ClearQueues(ctx, tx, ids); err != nil {
		return err
	}
	return q.EndRecoveries(ctx, tx, db.EndRecoveriesParams{State: RecoveryStopped, LastError: &why, WebhookIds: ids})
}

// SuspendWebhooks removes all that is planned for webhooks, and ends their recoveries: their bot is suspended. The
// webhooks' locks are held.
func SuspendWebhooks(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	q, why := db.New(), "bot suspended"
	if err := q.ClearAllQueues(ctx, tx, ids); err != nil {
		return err
	}
	if err := endRestsForHeads(ctx, tx, ids...); err != nil {
		return err
	}
	return q.EndRecoveries(ctx, tx, db.EndRecoveriesParams{State: RecoveryStopped, LastError: &why, WebhookIds: ids})
}
