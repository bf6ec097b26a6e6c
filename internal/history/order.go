package history

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
)

const (
	// OrderSettles is how long a webhook rests that becomes ordered: until the direct attempts have ended that began before.
	OrderSettles = directTime + 3*time.Second
	// MostOrdered is how many waiting deliveries are put in order when a webhook becomes ordered.
	MostOrdered = 10_000
)

// RemovePlanned has remove take rows out of a webhook's queue. If the head is among them, an ordered webhook does not wait for its
// retry any more; if that was not attempted yet, it is another's that the webhook waits for. The webhook's lock is held. Its queue has
// to be woken, or the next sweep does.
func RemovePlanned(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, remove func() error) error {
	before, err := headOf(ctx, tx, webhookID)
	if err != nil {
		return err
	}
	if err := remove(); err != nil || before.Step <= 1 {
		return err
	}
	after, err := headOf(ctx, tx, webhookID)
	if err != nil || after.EventID == before.EventID {
		return err
	}
	return endRestsForHeads(ctx, tx, webhookID)
}

func endRestsForHeads(ctx context.Context, tx pgx.Tx, ids ...uuid.UUID) error {
	return db.New().EndRestsForHeads(ctx, tx, db.EndRestsForHeadsParams{Seconds: firstRests[len(firstRests)-1].Seconds(), Ids: ids})
}

// headOf is the first row of an ordered webhook's queue; the zero value: the webhook is not ordered, or nothing waits.
func headOf(ctx context.Context, tx db.DBTX, webhookID uuid.UUID) (db.HeadOfRow, error) {
	head, err := db.New().HeadOf(ctx, tx, webhookID)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return head, describe(err, "look for the head of a queue")
}

// SetOrdered puts the waiting deliveries of a webhook in the order of acceptance, or, when it is ordered no more, has a retry of the
// head hold up no other. It fails with a problem.Conflict where more than MostOrdered wait. before is the webhook before the change,
// whose lock is held. Its queue has to be woken.
func SetOrdered(ctx context.Context, tx pgx.Tx, before db.Webhook, ordered bool) error {
	queries := db.New()
	if !ordered {
		if before.ResumeAt == nil {
			return nil
		}
		return queries.DelayHead(ctx, tx, db.DelayHeadParams{DueAt: *before.ResumeAt, WebhookID: before.ID})
	}
	waiting, err := queries.CountQueue(ctx, tx, db.CountQueueParams{WebhookID: before.ID, Most: MostOrdered + 1})
	if err != nil {
		return err
	}
	if waiting > MostOrdered {
		return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf(
			"More than %d deliveries wait for this webhook. Set ordered once fewer do, or disable the webhook, which removes them, and recover them afterwards.", MostOrdered)}
	}
	_, err = queries.OrderQueue(ctx, tx, before.ID)
	return err
}
