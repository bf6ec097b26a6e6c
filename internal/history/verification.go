package history

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

// PlanVerification plans, in place of those planned before, that a webhook's endpoint is asked whether it wants deliveries. The
// webhook's queue does it, before all that is due, and has to be woken once tx is committed; should that fail, the sweep wakes
// it.
func PlanVerification(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, botID string) error {
	queries := db.New()
	if err := queries.RemoveVerifications(ctx, tx, webhookID); err != nil {
		return err
	}
	e := webhook.VerifyEvent(webhookID, botID, rand.Text(), time.Now())
	workflowID := "webhook-" + webhookID.String() // the queue's
	if _, err := queries.InsertEvents(ctx, tx, db.InsertEventsParams{
		Ids: []string{e.ID}, Types: []string{string(e.Type)}, Payloads: [][]byte{e.Body()}, Bots: []string{`{"` + botID + `"}`},
		Places: []int32{0}, WorkflowID: &workflowID,
	}); err != nil {
		return err
	}
	var rows db.EnqueueParams
	addPlan(&rows, Plan{WebhookID: webhookID, EventID: e.ID, Number: 1, Trigger: webhook.TriggerVerify, Delay: -time.Second})
	_, err := queries.Enqueue(ctx, tx, rows)
	return err
}
