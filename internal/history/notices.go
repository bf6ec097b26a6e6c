package history

import (
	"context"
	"fmt"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

const (
	// noticesEvery is when notices are looked for that another process left behind.
	noticesEvery = time.Minute
	// noticesAgain is when those are tried again that could not be handed over.
	noticesAgain = 5 * time.Second
	// noticesLost is when a workflow is started again for a notice that is still there: an operator may have terminated it.
	noticesLost = 10 * time.Minute
	// noticesPage is how many are read at once.
	noticesPage = 100
)

// RunNotices starts the workflows that notify owners of webhooks that were disabled, fail or have recovered: at once when this
// process has disabled a webhook and every minute, after it has looked for failing webhooks, until ctx ends. The transaction that
// disables a webhook, or finds it so, writes a row to the outbox notices, so a crash loses none. The row is marked when start has
// started a workflow, and stays until the notification is delivered or given up; until then start is called again from time to
// time. It may be called more than once for the same notice, also by several processes, and must do nothing while a workflow sees
// to it.
func (r *Recorder) RunNotices(ctx context.Context, start func(context.Context, webhook.Notice) error) {
	for {
		wait := noticesEvery
		if err := r.lookForFailing(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("could not look for failing webhooks; retrying", "error", err)
		}
		if err := r.handOverNotices(ctx, start); err != nil && ctx.Err() == nil {
			r.log.Warn("could not start notifications of webhooks; retrying", "error", err)
			wait = noticesAgain
		}
		select {
		case <-r.noticed:
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) handOverNotices(ctx context.Context, start func(context.Context, webhook.Notice) error) error {
	for {
		page, err := r.queries.ListNotices(ctx, r.pool, db.ListNoticesParams{Seconds: noticesLost.Seconds(), PageSize: noticesPage})
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		for _, row := range page {
			d := webhook.Notice{Kind: webhook.NoticeKind(row.Kind), WebhookID: row.WebhookID, Generation: int(row.Generation), BotID: row.BotID, Host: row.Host}
			if err := start(ctx, d); err != nil {
				return fmt.Errorf("start %s: %w", d.NoticeID(), err)
			}
			failpoint.Here("notice-started")
			if err := r.queries.NoticeStarted(ctx, r.pool, db.NoticeStartedParams{WebhookID: row.WebhookID, Kind: row.Kind, Generation: row.Generation}); err != nil {
				return fmt.Errorf("mark %s in the outbox: %w", d.NoticeID(), err)
			}
		}
		if len(page) < noticesPage {
			return nil
		}
	}
}
