package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

const (
	// startTimeout bounds the wait for Temporal to start what the sweep would start as well.
	startTimeout = 2 * time.Second
	// spanSlack is by how much a span may reach back over the retention, for clocks that differ and time that passes.
	spanSlack = 5 * time.Minute
)

// ErrNotVerified is for what an endpoint gets only once it has agreed.
var ErrNotVerified = &problem.Error{Kind: problem.Conflict, Detail: "The endpoint is not verified. Make it answer webhook.verify events with their nonce, then call POST …/verify."}

func (s *Service) queue() *history.Queue { return &history.Queue{Pool: s.Pool, Log: s.Logger} }

// Span is the time span that a recovery of w covers. since defaults to 24 h before the webhook was last disabled, until to
// now. Faults of either may have been found before.
func (s *Service) Span(ctx context.Context, w db.Webhook, since, until *time.Time, faults *problem.Faults) (history.Span, error) {
	kept := s.Retention.Since(time.Now().UTC())
	span, removed, err := history.RecoverySpan(ctx, s.Pool, w, kept)
	if err != nil {
		return span, err
	}
	if since != nil {
		span.Since = *since
	}
	if until != nil {
		span.Until = *until
	}
	if !faults.Any() && span.Since.After(span.Until) {
		faults.Add("since", "must not be after until, which defaults to now")
	}
	if removed != nil && span.Since.Before(*removed) {
		faults.Add("since", "must not be before "+webhook.FormatTime(*removed)+": earlier history was removed when the bot exceeded its budget, and what was delivered is unknown")
	}
	if span.Since.Before(kept.Add(-spanSlack)) {
		faults.Add("since", fmt.Sprintf("must be at most %v ago; events are not kept longer", s.Retention))
	}
	return span, faults.Err()
}

// Recover begins to deliver what w missed in the span.
func (s *Service) Recover(ctx context.Context, w db.Webhook, span history.Span) (db.Recovery, error) {
	if w.VerifiedAt == nil && s.Verification == webhook.VerificationRequire {
		return db.Recovery{}, ErrNotVerified
	}
	recovery, err := s.queue().StartRecovery(ctx, span)
	var running history.RecoveryRunningError
	if errors.As(err, &running) {
		return db.Recovery{}, &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf("A recovery of webhook %s is running, and a bot can run one at a time. Wait for it to end, or cancel it.", running.WebhookID)}
	}
	if errors.Is(err, history.ErrNotServed) {
		return db.Recovery{}, &problem.Error{Kind: problem.Conflict, Detail: "The webhook is disabled. Enable it, then start the recovery."}
	}
	if err != nil {
		return db.Recovery{}, problem.OrNotFound(err)
	}
	// The recovery is stored: what Temporal does not start now, the next sweep does.
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := workflows.StartRecover(ctx, s.Temporal, s.Attributes, TargetOf(w)); err != nil {
		s.Logger.Warn("could not start a recovery; the next sweep does", "webhook", w.ID, "error", err)
	}
	return recovery, nil
}

// maxMissedListed is how many of the missed events are listed.
const maxMissedListed = 50

// Missed counts what a recovery of the span would deliver now.
func (s *Service) Missed(ctx context.Context, w db.Webhook, span history.Span) (history.Missed, error) {
	if span.Since.Before(w.CreatedAt) {
		span.Since = w.CreatedAt
	}
	return s.history().Missed(ctx, span, maxMissedListed)
}

// LatestRecovery is the last recovery of w; remaining is how many of its attempts are planned.
func (s *Service) LatestRecovery(ctx context.Context, w db.Webhook) (db.LatestRecoveryRow, error) {
	r, err := db.New().LatestRecovery(ctx, s.Pool, w.ID)
	return r, problem.OrNotFound(err)
}

// Recoveries are the last recoveries of w, newest first, 50 at most.
func (s *Service) Recoveries(ctx context.Context, w db.Webhook) ([]db.ListRecoveriesRow, error) {
	return db.New().ListRecoveries(ctx, s.Pool, db.ListRecoveriesParams{WebhookID: w.ID, Most: history.MostRecoveries})
}

// CancelRecovery ends the recovery of w that is running.
func (s *Service) CancelRecovery(ctx context.Context, w db.Webhook) error {
	if err := s.queue().CancelRecovery(ctx, w.ID); err != nil {
		return problem.OrNotFound(err)
	}
	if w.Ordered { // its queue may have waited for the retry of what is removed
		s.wakeSoon(ctx, w)
	}
	return nil
}
