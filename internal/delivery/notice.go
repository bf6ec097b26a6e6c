package delivery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// Why a notice was skipped.
const (
	NoticeGone      = "no such notice waits"
	NoticesUnwanted = "the bot has no notify URL any more"
)

// Notice is one attempt to tell a bot's owner that a webhook was disabled. It names what Postgres knows.
type Notice struct {
	WebhookID  uuid.UUID `json:"webhookId"`
	Generation int       `json:"generation"` // the webhook's
	Attempt    int       `json:"attempt"`    // 1 for the first
}

func (n Notice) check() error {
	switch {
	case n.WebhookID == uuid.Nil:
		return webhook.Invalid("webhookId", "is required")
	case n.Generation < 0 || n.Generation > math.MaxInt32:
		return webhook.Invalid("generation", "must be 0 or more, and no larger than a webhook's can be")
	case n.Attempt < 1 || n.Attempt > maxNoticeAttempts:
		return webhook.Invalid("attempt", fmt.Sprintf("must be 1 to %d", maxNoticeAttempts))
	}
	return nil
}

// maxNoticeAttempts is more than any retry schedule makes.
const maxNoticeAttempts = 1000

// NotifyOwner makes the attempt, to the bot's present notify URL and signed with its present secret. It counts for and
// against nothing. An error means that our own side failed.
func (d *Deliverer) NotifyOwner(ctx context.Context, n Notice) (Result, error) {
	if err := n.check(); err != nil {
		return Result{}, err
	}
	row, err := d.queries.GetNotice(ctx, d.cfg.Pool, db.GetNoticeParams{WebhookID: n.WebhookID, Generation: int32(n.Generation)})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Result{Status: Skipped, Error: NoticeGone}, nil
	case err != nil:
		return Result{}, fmt.Errorf("read the notice of webhook %s: %w", n.WebhookID, err)
	}
	r, err := d.notify(ctx, n, row)
	if err == nil && r.RetryIn == 0 {
		if err := d.queries.DeleteNotice(ctx, d.cfg.Pool, db.DeleteNoticeParams{WebhookID: n.WebhookID, Generation: int32(n.Generation)}); err != nil {
			d.cfg.Logger.Warn("could not remove a notification that has ended", "webhook", n.WebhookID, "error", err) // and costs a row
		}
	}
	return r, err
}

// notify makes the attempt, if the bot is to be sent any.
func (d *Deliverer) notify(ctx context.Context, n Notice, row db.GetNoticeRow) (Result, error) {
	switch {
	case !row.IsActive:
		return Result{Status: Skipped, Error: BotSuspended}, nil
	case row.NotifyURL == nil:
		return Result{Status: Skipped, Error: NoticesUnwanted}, nil
	}
	about := webhook.Disabling{
		WebhookID: n.WebhookID, Generation: n.Generation, BotID: row.BotID, Host: row.Host, FailureCount: int(row.FailureCount),
		DisabledAt: row.DisabledAt.UTC(), LastError: row.LastError, EventID: row.EventID,
	}
	url, err := d.cfg.Keyset.OpenNotifyURL(row.BotID, row.NotifyURL)
	var secret string
	if err == nil {
		secret, err = d.cfg.Keyset.OpenNotify(row.BotID, row.NotifySecret)
	}
	if err != nil {
		d.cfg.Logger.Error("notification waits: the keyset cannot decrypt its bot's URL or secret", "notice", about.NoticeID(), "error", err)
		return Result{}, err
	}
	resp, err := d.postNotice(ctx, url, secret, about, n.Attempt)
	if err != nil {
		return Result{}, fmt.Errorf("notice %s was not attempted: %w", about.NoticeID(), err)
	}
	if resp.Success() {
		return Result{Status: Delivered, StatusCode: resp.StatusCode}, nil
	}
	r := Result{Status: Failed, StatusCode: resp.StatusCode, Error: resp.Error}
	if delay, more := d.cfg.Schedule.Delay(n.Attempt, resp.RetryAfter, 2*rand.Float64()-1); more {
		r.RetryIn = max(time.Millisecond, delay)
	}
	return r, nil
}

func (d *Deliverer) postNotice(ctx context.Context, url, secret string, about webhook.Disabling, attempt int) (egress.Response, error) {
	e := about.Event()
	body := e.Body()
	return d.cfg.Egress.Post(ctx, url, webhook.Headers(webhook.Delivery{
		Version: d.cfg.Version, Type: e.Type, EventID: e.ID, ID: webhook.DeliveryID(e.ID, about.WebhookID, attempt), At: time.Now(),
		Secrets: []string{secret}, Body: body,
	}), body)
}
