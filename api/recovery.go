package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// startTimeout bounds the wait for Temporal to start what the sweep would start as well.
const startTimeout = 2 * time.Second

// maxRecoveriesListed is how many past recoveries of a webhook are listed.
const maxRecoveriesListed = 50

func (s *server) queue() *history.Queue { return &history.Queue{Pool: s.cfg.Pool} }

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
			return reply{}, &problem.Error{Kind: problem.Conflict, Detail: "The webhook is disabled: enable it first, then recover what it missed."}
		}
		if w.VerifiedAt == nil && s.cfg.Verification == webhook.VerificationRequire {
			return reply{}, errNotVerified
		}
		recovery, err := s.queue().StartRecovery(c, span)
		var running history.RecoveryRunningError
		if errors.As(err, &running) {
			return reply{}, &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("A recovery of the webhook %s is running, and a bot may have one at a time: wait for its end, or cancel it.", running.WebhookID)}
		}
		if err != nil {
			return reply{}, problem.OrNotFound(err)
		}
		s.changed(c, "recovery started", w.BotID, "webhook", w.ID)
		// The recovery is stored: what Temporal does not start now, the next sweep does.
		ctx, cancel := context.WithTimeout(c.Request.Context(), startTimeout)
		defer cancel()
		if err := workflows.StartRecover(ctx, s.cfg.Temporal, s.cfg.Attributes, targetOf(w)); err != nil {
			s.log.Warn("a recovery starts with the next sweep", "webhook", w.ID, "error", err)
		}
		return accepted(toRecovery(recovery, 0)), nil
	})
}

// GetRecovery serves GET /webhooks/:id/recover.
func (s *server) GetRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		r, err := s.queries.LatestRecovery(c, s.cfg.Pool, w.ID)
		if err != nil {
			return reply{}, problem.OrNotFound(err)
		}
		return ok(toRecovery(r.Recovery, r.Remaining)), nil
	})
}

// ListRecoveries serves GET /webhooks/:id/recoveries.
func (s *server) ListRecoveries(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		rows, err := s.queries.ListRecoveries(c, s.cfg.Pool, db.ListRecoveriesParams{WebhookID: w.ID, Most: maxRecoveriesListed})
		if err != nil {
			return reply{}, err
		}
		list := make([]Recovery, len(rows))
		for i, r := range rows {
			list[i] = toRecovery(r.Recovery, r.Remaining)
		}
		return ok(list), nil
	})
}

// CancelRecovery serves DELETE /webhooks/:id/recover.
func (s *server) CancelRecovery(c *gin.Context, id WebhookID) {
	s.answer(c, func() (reply, error) {
		w, err := s.owned(c, id)
		if err != nil {
			return reply{}, err
		}
		if err := s.queue().CancelRecovery(c, w.ID); err != nil {
			return reply{}, problem.OrNotFound(err)
		}
		s.changed(c, "recovery cancelled", w.BotID, "webhook", w.ID)
		return noContent(), nil
	})
}

// spanSlack is by how much a span may reach back over the retention, for clocks that differ and time that passes.
const spanSlack = 5 * time.Minute

// readSpan reads {since?, until?}; no body at all is as good as an empty object.
func (s *server) readSpan(c *gin.Context, w db.Webhook) (history.Span, error) {
	now := time.Now().UTC()
	span := defaultSpan(w, now)
	removed, err := s.removedBefore(c, w.ID)
	if err != nil {
		return span, err
	}
	kept := s.cfg.Retention.Since(now)
	if span.Since.Before(kept) {
		span.Since = kept
	}
	if removed != nil && span.Since.Before(*removed) { // what was delivered until then is not known any more
		span.Since = *removed
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
	if !m.Any() && span.Since.After(span.Until) {
		m.Add("since", "must not be after until, which is now when left out")
	}
	if removed != nil && span.Since.Before(*removed) {
		m.Add("since", "must not be before "+webhook.FormatTime(*removed)+": until then the webhook's history was over the bot's budget, and it is not known what was delivered")
	}
	if span.Since.Before(kept.Add(-spanSlack)) {
		m.Add("since", fmt.Sprintf("must be at most %v ago: events are kept no longer", s.cfg.Retention))
	}
	return span, m.Err()
}

func defaultSpan(w db.Webhook, now time.Time) history.Span {
	since := now
	if w.DisabledAt != nil {
		since = *w.DisabledAt
	}
	since = since.Add(-history.MissedBefore)
	if since.Before(w.CreatedAt) { // what came before the webhook, it did not miss
		since = w.CreatedAt
	}
	return history.Span{WebhookID: w.ID, Since: since, Until: now}
}

// targetOf is the webhook as workflows know it: without the rest of its URL, which may hold a token.
func targetOf(w db.Webhook) delivery.Target {
	return delivery.Target{WebhookID: w.ID, BotID: w.BotID, Host: webhook.HostOf(w.Origin)}
}

func toRecovery(r db.Recovery, remaining int64) Recovery {
	return Recovery{
		State: r.State, Found: int(r.Found), Delivered: int(r.Delivered), Failed: int(r.Failed), Remaining: int(remaining),
		LookedThrough: r.LookedThrough, LastError: r.LastError, Since: timestamp(r.Since), Until: timestamp(r.Until),
		StartedAt: timestamp(r.CreatedAt), EndedAt: (*timestamp)(r.EndedAt),
	}
}
