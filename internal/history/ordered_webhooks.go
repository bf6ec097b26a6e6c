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

// RemovePlanned has remove take rows out of a webhook's queue. An ordered webhook does not wait any more for a retry that is among
// them. The webhook's lock is held. Its queue has to be woken, or the next sweep does.
func RemovePlanned(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, remove func() error) error {
	head, err := headOf(ctx, tx, webhookID)
	if err != nil {
		return err
	}
	if head == "" { // nothing waits for another, and the queue need not be looked through
		return remove()
	}
	before, err := retriedOf(ctx, tx, webhookID)
	if err != nil {
		return err
	}
	if err := remove(); err != nil || before == "" {
		return err
	}
	after, err := retriedOf(ctx, tx, webhookID)
	if err != nil || after == before {
		return err
	}
	return endRestsForHeads(ctx, tx, webhookID)
}

// retriedOf is the event for whose retry a webhook rests if it is ordered; "": there is none.
func retriedOf(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID) (string, error) {
	retried, err := db.New().RetriedOf(ctx, tx, db.RetriedOfParams{WebhookID: webhookID, MostRead: MostOrdered})
	return retried, describe(noRows(err), "look for what an ordered webhook waits for")
}

func endRestsForHeads(ctx context.Context, tx pgx.Tx, ids ...uuid.UUID) error {
	return db.New().EndRestsForHeads(ctx, tx, db.EndRestsForHeadsParams{Seconds: firstRests[len(firstRests)-1].Seconds(), Ids: ids})
}

// headOf is the event of the first row of an ordered webhook's queue; "": the webhook is not ordered, or nothing waits.
func headOf(ctx context.Context, tx db.DBTX, webhookID uuid.UUID) (string, error) {
	head, err := db.New().HeadOf(ctx, tx, webhookID)
	return head, describe(noRows(err), "look for the head of a queue")
}

// noRows is err, unless it says that there is no row.
func noRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

// SetOrdered puts the waiting deliveries of a webhook in the order of acceptance, or, when it is ordered no more, has the retry that it
// waited for hold up no other. It fails with a problem.Conflict where more than MostOrdered wait. before is the webhook before the change,
// whose lock is held. Its queue has to be woken.
func SetOrdered(ctx context.Context, tx pgx.Tx, before db.Webhook, ordered bool) error {
	queries := db.New()
	if !ordered {
		retried, err := retriedOf(ctx, tx, before.ID)
		if err != nil || retried == "" || before.ResumeAt == nil {
			return err
		}
		return queries.DelayRetried(ctx, tx, db.DelayRetriedParams{DueAt: *before.ResumeAt, WebhookID: before.ID, EventID: retried})
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
