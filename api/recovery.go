package api

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// recoverByDefault is how far back a recovery goes: from now, or from when the webhook was last disabled, as what
// failed until then is attempted again no more. The default schedule's retries take 18 h.
const recoverByDefault = 24 * time.Hour

// queryTimeout bounds the wait for a worker that answers a query.
const queryTimeout = 10 * time.Second

// RecoverWebhook serves POST /webhooks/:id/recover.
func (s *server) RecoverWebhook(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		span, err := s.readSpan(c, w)
		if err != nil {
			return reply{}, err
		}
		if !w.IsActive {
			return reply{}, &Error{code: conflict, Detail: "The webhook is disabled: enable it first, then recover what it missed."}
		}
		found, err := s.queries.CountMissed(c, s.cfg.Pool, db.CountMissedParams{WebhookID: w.ID, Since: span.Since, Until: span.Until})
		if err != nil {
			return reply{}, err
		}
		progress, err := workflows.StartRecovery(c, s.cfg.Temporal, s.cfg.Attributes, span, targetOf(w), int(found))
		if errors.Is(err, workflows.ErrRecoveryRunning) {
			return reply{}, &Error{code: conflict, Detail: "A recovery of this webhook is running: wait for its end, or cancel it."}
		}
		if err != nil {
			return reply{}, temporalError(err)
		}
		return accepted(toRecovery(progress)), nil
	})
}

// GetRecovery serves GET /webhooks/:id/recover.
func (s *server) GetRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		ctx, cancel := context.WithTimeout(c, queryTimeout)
		defer cancel()
		progress, err := workflows.RecoveryProgress(ctx, s.cfg.Temporal, w.ID)
		if errors.Is(err, workflows.ErrNoRecovery) {
			return reply{}, errNotFound
		}
		if err != nil {
			return reply{}, temporalError(err)
		}
		return ok(toRecovery(progress)), nil
	})
}

// CancelRecovery serves DELETE /webhooks/:id/recover.
func (s *server) CancelRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		err = workflows.CancelRecovery(c, s.cfg.Temporal, w.ID)
		if errors.Is(err, workflows.ErrNoRecovery) {
			return reply{}, errNotFound
		}
		if err != nil {
			return reply{}, temporalError(err)
		}
		return noContent(), nil
	})
}

// spanSlack is by how much a span may reach back over the retention, for clocks that differ and time that passes.
const spanSlack = 5 * time.Minute

// readSpan reads {since?, until?}; no body at all is as good as an empty object.
func (s *server) readSpan(c *gin.Context, w db.Webhook) (activities.Span, error) {
	now := time.Now().UTC()
	span := defaultSpan(w, now)
	kept := s.cfg.Retention.Since(now)
	if span.Since.Before(kept) {
		span.Since = kept
	}
	raw, err := readOptionalJSON(c, webhook.MaxRequestBytes)
	if err != nil || raw == nil {
		return span, err
	}
	values, err := webhook.ParseObject(raw, "since", "until")
	if err != nil {
		return span, err
	}
	m := &members{values: values}
	span.Since, span.Until = m.time("since", span.Since), m.time("until", span.Until)
	if len(m.faults) == 0 && span.Since.After(span.Until) {
		m.fault("since", "must not be after until, which is now when left out")
	}
	if span.Since.Before(kept.Add(-spanSlack)) {
		m.fault("since", fmt.Sprintf("must be at most %v ago: events are kept no longer", s.cfg.Retention))
	}
	return span, m.err()
}

func defaultSpan(w db.Webhook, now time.Time) activities.Span {
	since := now
	if w.DisabledAt != nil {
		since = *w.DisabledAt
	}
	since = since.Add(-recoverByDefault)
	if since.Before(w.CreatedAt) { // what came before the webhook, it did not miss
		since = w.CreatedAt
	}
	return activities.Span{WebhookID: w.ID, Since: since, Until: now}
}

func readOptionalJSON(c *gin.Context, limit int64) ([]byte, error) {
	if c.Request.ContentLength == 0 {
		return nil, nil
	}
	return readJSON(c, limit)
}

// targetOf is the webhook as workflows know it: without the rest of its URL, which may hold a token.
func targetOf(w db.Webhook) activities.Target {
	target := activities.Target{WebhookID: w.ID, BotID: w.BotID}
	if u, err := url.Parse(w.URL); err == nil {
		target.Host = u.Host
	}
	return target
}

func toRecovery(p workflows.Progress) Recovery {
	r := Recovery{State: RecoveryState(p.State), Found: p.Found, Delivered: p.Delivered, Failed: p.Failed, Remaining: p.Remaining}
	if p.LastError != "" {
		r.LastError = &p.LastError
	}
	return r
}
