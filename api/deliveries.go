package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/workflows"
)

// testTimeout covers a wait for the webhook's turn, the 5 s of the POST, and its recording.
const testTimeout = 30 * time.Second

// TestWebhook serves POST /webhooks/:id/test.
func (s *server) TestWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return s.sendNow(c, w, func(ctx context.Context) (uuid.UUID, bool, error) {
			return workflows.StartTest(ctx, s.cfg.Temporal, s.cfg.Attributes, subscriptions.TargetOf(w))
		})
	})
}

// VerifyWebhook serves POST /webhooks/:id/verify.
func (s *server) VerifyWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		return s.sendNow(c, w, func(ctx context.Context) (uuid.UUID, bool, error) {
			return workflows.StartVerification(ctx, s.cfg.Temporal, s.cfg.Attributes, subscriptions.TargetOf(w))
		})
	})
}

// RedeliverDelivery serves POST /webhooks/:id/deliveries/:deliveryId/redeliver.
func (s *server) RedeliverDelivery(c *gin.Context, id WebhookID, deliveryID string) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		old, err := parseID(deliveryID)
		if err != nil {
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(c.Request.Context(), readTimeout)
		defer cancel()
		next, err := s.history.NextAttempt(ctx, w.ID, old, s.cfg.Retention)
		switch {
		case problem.Is(err, problem.NotFound), err == nil && !next.IsKept:
			return reply{}, s.notKept()
		case err != nil:
			return reply{}, err
		case next.Attempts >= history.MaxAttempts:
			return reply{}, &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("This event has had %d attempts at the webhook, the most allowed.", history.MaxAttempts)}
		}
		return s.sendNow(c, w, func(ctx context.Context) (uuid.UUID, bool, error) {
			return workflows.StartRedelivery(ctx, s.cfg.Temporal, s.cfg.Attributes, subscriptions.TargetOf(w), next.EventID, int(next.Attempt))
		})
	})
}

// notKept answers for a delivery that is not there, or may be removed at any time.
func (s *server) notKept() error {
	if s.cfg.Retention == 0 {
		return problem.ErrNotFound
	}
	return &problem.Error{Kind: problem.NotFound, Detail: fmt.Sprintf("Delivery not found. Deliveries are kept for %v after the last one of their event.", s.cfg.Retention)}
}

// queuedEvery is how often the history is asked for a delivery that the webhook's queue makes.
const queuedEvery = 50 * time.Millisecond

// sendNow answers with the delivery that send makes. It is seen to its end, and counts until then, also when the client has
// gone: else whoever hangs up could have any number in progress.
func (s *server) sendNow(c *gin.Context, w db.Webhook, send func(context.Context) (deliveryID uuid.UUID, queued bool, err error)) (reply, error) {
	end, err := s.beginSend(w.BotID, w.ID.String())
	if err != nil {
		return reply{}, err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), testTimeout)
	defer cancel()
	return s.resulting(ctx, w.ID, func() (uuid.UUID, bool, error) { return send(ctx) })
}

// resulting answers with the delivery that send made, or had the webhook's queue make.
func (s *server) resulting(ctx context.Context, webhookID uuid.UUID, send func() (deliveryID uuid.UUID, queued bool, err error)) (reply, error) {
	deliveryID, queued, err := send()
	var limited workflows.RateLimitedError
	switch {
	case errors.As(err, &limited):
		return reply{}, &problem.Error{Kind: problem.TooManyRequests, Detail: "Delivery limit of this unverified endpoint reached. Verify the endpoint, or wait.", RetryAfter: limited.RetryIn}
	case errors.Is(err, workflows.ErrNotVerified):
		return reply{}, subscriptions.ErrNotVerified
	case errors.Is(err, workflows.ErrWebhookGone):
		return reply{}, problem.ErrNotFound
	case errors.Is(err, workflows.ErrBotSuspended):
		return reply{}, problem.ErrSuspended
	case errors.Is(err, workflows.ErrEventGone):
		return reply{}, s.notKept()
	case err != nil:
		return reply{}, temporalError(err)
	}
	row, err := s.history.Delivery(ctx, webhookID, deliveryID)
	for queued && problem.Of(err).Kind == problem.NotFound {
		select {
		case <-time.After(queuedEvery):
			row, err = s.history.Delivery(ctx, webhookID, deliveryID)
		case <-ctx.Done():
			return reply{}, &problem.Error{Kind: problem.Unavailable, Detail: fmt.Sprintf("The delivery waits in the webhook's queue and is sent soon. Look for delivery %s in the history.", deliveryID)}
		}
	}
	if err != nil { // not found: the webhook was deleted in this very moment, with its history
		return reply{}, err
	}
	return ok(toDelivery(row)), nil
}
