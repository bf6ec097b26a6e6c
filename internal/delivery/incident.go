package delivery

import (
	"context"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// RecoverIncident makes one step of an incident, and starts the recoveries that it began. Those that Temporal does not start now
// are started by the sweep.
func (d *Deliverer) RecoverIncident(ctx context.Context, id uuid.UUID) (history.IncidentStep, error) {
	step, begun, err := d.queue.RecoverIncident(ctx, id, history.IncidentOptions{
		Kept: d.cfg.Retention.Since(db.Earlier(d.cfg.Clock.Now()).UTC()), MustBeVerified: d.cfg.Verification == webhook.VerificationRequire,
	})
	for _, w := range begun {
		if err := d.cfg.StartRecovery(ctx, Target(w)); err != nil {
			d.cfg.Logger.Warn("could not start a recovery; the next sweep does", "webhook", w.WebhookID, "error", err)
		}
	}
	return step, err
}
