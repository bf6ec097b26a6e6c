package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// testTimeout covers a wait for the webhook's turn, the 5 s of the POST, and its recording.
const testTimeout = 30 * time.Second

// ListDeliveries serves GET /webhooks/:id/deliveries.
func (s *server) ListDeliveries(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		list, err := s.deliveries(c, w.ID, uuid.NullUUID{})
		if err != nil {
			return reply{}, err
		}
		return ok(list), nil
	})
}

// TestWebhook serves POST /webhooks/:id/test.
func (s *server) TestWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(c, testTimeout)
		defer cancel()
		return s.resulting(ctx, w.ID, func() (uuid.UUID, error) { return workflows.StartTest(ctx, s.cfg.Temporal, w.ID) })
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
		next, err := s.queries.NextAttempt(c, s.cfg.Pool, db.NextAttemptParams{ID: old, WebhookID: w.ID})
		switch {
		case errors.Is(err, pgx.ErrNoRows), err == nil && next.LastAttemptedAt.Before(s.cfg.Retention.Since(time.Now())):
			return reply{}, s.notKept()
		case err != nil:
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(c, testTimeout)
		defer cancel()
		d := activities.Delivery{EventID: next.EventID, WebhookID: w.ID, Attempt: int(next.Attempt)}
		return s.resulting(ctx, w.ID, func() (uuid.UUID, error) { return workflows.StartRedelivery(ctx, s.cfg.Temporal, d) })
	})
}

// notKept answers for a delivery that is not there, or may be removed at any time.
func (s *server) notKept() error {
	if s.cfg.Retention == 0 {
		return errNotFound
	}
	return &Error{code: notFound, Detail: fmt.Sprintf("There is no such delivery. Deliveries are kept for %v, from the last one of their event on.", s.cfg.Retention)}
}

// resulting answers with the delivery that send made.
func (s *server) resulting(ctx context.Context, webhookID uuid.UUID, send func() (uuid.UUID, error)) (reply, error) {
	deliveryID, err := send()
	switch {
	case errors.Is(err, workflows.ErrWebhookGone):
		return reply{}, errNotFound
	case errors.Is(err, workflows.ErrEventGone):
		return reply{}, s.notKept()
	case errors.Is(err, workflows.ErrBusy):
		return reply{}, &Error{code: unavailable, Detail: "The webhook fails, and another request to it is still under way; nothing was sent. Try again."}
	case err != nil:
		return reply{}, temporalError(err)
	}
	list, err := s.deliveries(ctx, webhookID, uuid.NullUUID{UUID: deliveryID, Valid: true})
	if err != nil {
		return reply{}, err
	}
	if len(list) == 0 { // the webhook was deleted in this very moment, with its history
		return reply{}, errNotFound
	}
	return ok(list[0]), nil
}

// deliveries reads the webhook's last deliveries, or the one of the given id.
func (s *server) deliveries(ctx context.Context, webhookID uuid.UUID, id uuid.NullUUID) ([]Delivery, error) {
	rows, err := s.queries.ListDeliveries(ctx, s.cfg.Pool, db.ListDeliveriesParams{
		WebhookID: webhookID, ID: id, Most: webhook.MaxDeliveriesListed,
	})
	if err != nil {
		return nil, err
	}
	list := make([]Delivery, len(rows))
	for i, d := range rows {
		list[i] = Delivery{
			ID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType, Payload: d.Payload,
			Attempt: int(d.Attempt), Error: d.Error, Success: d.Success, DurationMs: int(d.DurationMs), AttemptedAt: timestamp(d.AttemptedAt),
		}
		if d.StatusCode != nil {
			code := int(*d.StatusCode)
			list[i].StatusCode = &code
		}
		if d.ResponseBody != nil {
			text := strings.ToValidUTF8(string(d.ResponseBody), "\uFFFD") // a receiver may send anything
			list[i].ResponseBody = &text
		}
	}
	return list, nil
}
