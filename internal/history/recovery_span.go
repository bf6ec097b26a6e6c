package history

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
)

// RecoverySpan is the span that a recovery of w covers unless another is asked for: from 24 h before the webhook was last
// disabled until now, as far as what it was sent is known. kept is the time from which on events are kept. removed is until
// when deliveries were removed for the bot's budget; nil: none were.
func RecoverySpan(ctx context.Context, tx db.DBTX, w db.Webhook, kept time.Time) (span Span, removed *time.Time, err error) {
	removed, err = db.New().HistoryRemovedBefore(ctx, tx, w.ID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return span, nil, err
	}
	now, err := db.ReadClock(ctx, tx)
	if err != nil {
		return span, nil, err
	}
	span = missedSpan(w, now.UTC())
	if span.Since.Before(kept) {
		span.Since = kept
	}
	if removed != nil && span.Since.Before(*removed) { // what was delivered until then is not known any more
		span.Since = *removed
	}
	return span, removed, nil
}

func missedSpan(w db.Webhook, now time.Time) Span {
	since := now
	if w.DisabledAt != nil {
		since = *w.DisabledAt
	}
	since = since.Add(-MissedBefore)
	if since.Before(w.CreatedAt) { // what came before the webhook, it did not miss
		since = w.CreatedAt
	}
	return Span{WebhookID: w.ID, Since: since, Until: now}
}

// lockAndRead reads a webhook under its lock. A webhook that was deleted is pgx.ErrNoRows.
func lockAndRead(ctx context.Context, tx pgx.Tx, id uuid.UUID) (db.Webhook, error) {
	if err := db.LockWebhook(ctx, tx, id); err != nil {
		return db.Webhook{}, err
	}
	return db.New().WebhookOfAny(ctx, tx, id)
}
