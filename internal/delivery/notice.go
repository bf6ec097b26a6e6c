package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// Why a notice was skipped.
const (
	NoticeGone      = "no such notice waits"
	NoticesUnwanted = "the bot has no notify URL any more"
	NoticeOver      = "it is not so any more"
)

// Notice is one attempt to tell a bot's owner that a webhook was disabled, fails or has recovered. What it says, and where it goes
// to, is in Postgres.
type Notice struct {
	Kind       webhook.NoticeKind `json:"kind,omitempty"` // empty: that it was disabled
	WebhookID  uuid.UUID          `json:"webhookId"`
	Generation int                `json:"generation"`        // see webhook.Notice
	BotID      string             `json:"botId"`             // for the fairness of the task queue
	Attempt    int                `json:"attempt,omitempty"` // 1 for the first
}

// Check finds what no notice of ours has.
func (n Notice) Check() error {
	switch {
	case n.WebhookID == uuid.Nil:
		return webhook.Invalid("webhookId", "is required")
	case !n.Kind.Valid():
		return webhook.Invalid("kind", "must be disabled, failing or recovered")
	case n.Generation < 0 || n.Generation > math.MaxInt32:
		return webhook.Invalid("generation", "must be 0 or more, and no larger than a webhook's can be")
	case len(n.BotID) > webhook.MaxIDBytes:
		return webhook.Invalid("botId", "must be a bot's id")
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
	n.Kind = cmp.Or(n.Kind, webhook.NoticeDisabled)
	if err := n.Check(); err != nil {
		return Result{}, err
	}
	row, err := d.queries.GetNotice(ctx, d.cfg.Pool, db.GetNoticeParams{Kind: string(n.Kind), WebhookID: n.WebhookID, Generation: int32(n.Generation)})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Result{Status: Skipped, Error: NoticeGone}, nil
	case err != nil:
		return Result{}, fmt.Errorf("read the notice of webhook %s: %w", n.WebhookID, err)
	}
	r, err := d.notify(ctx, n, row)
	if err == nil && r.RetryIn == 0 {
		if err := d.queries.DeleteNotice(ctx, d.cfg.Pool, db.DeleteNoticeParams{Kind: string(n.Kind), WebhookID: n.WebhookID, Generation: int32(n.Generation)}); err != nil {
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
	case row.IsOver:
		return Result{Status: Skipped, Error: NoticeOver}, nil
	}
	about := webhook.Notice{
		Kind: n.Kind, WebhookID: n.WebhookID, Generation: n.Generation, BotID: row.BotID, Host: row.Host, FailureCount: int(row.FailureCount),
		At: row.NoticedAt.UTC(), LastError: row.LastError, EventID: row.EventID,
		Reason: row.Reason, Since: row.Since.UTC(), Delivered: row.Delivered, Failed: row.Failed,
	}
	url, secret, err := d.openNotify(row.BotID, row.NotifyURL, row.NotifySecret)
	if err != nil {
		return Result{}, err
	}
	r, resp, err := d.postNotice(ctx, url, secret, about.Event(), webhook.AttemptKey(about.NoticeID(), n.WebhookID, n.Attempt))
	if err != nil || r.Status == Delivered {
		return r, err
	}
	if delay, more := d.cfg.Schedule.Delay(n.Attempt, resp.RetryAfter, 2*rand.Float64()-1); more {
		r.RetryIn = max(time.Millisecond, delay)
	}
	return r, nil
}

// openNotify decrypts where a bot's owner is notified, and the secret that signs it.
func (d *Deliverer) openNotify(botID string, sealedURL, sealedSecret []byte) (url, secret string, err error) {
	if url, err = d.cfg.Keyset.OpenNotifyURL(botID, sealedURL); err == nil {
		secret, err = d.cfg.Keyset.OpenNotify(botID, sealedSecret)
	}
	if err != nil {
		d.cfg.Logger.Error("notification waits: the keyset cannot decrypt its bot's URL or secret", "bot", botID, "error", err)
	}
	return url, secret, err
}

// postNotice sends an event to a bot's owner. The result does not say when it is attempted again.
func (d *Deliverer) postNotice(ctx context.Context, url, secret string, e webhook.Event, id uuid.UUID) (Result, egress.Response, error) {
	body := e.Body()
	resp, err := d.cfg.Egress.Post(ctx, url, webhook.Headers(webhook.Delivery{
		Version: d.cfg.Version, Type: e.Type, EventID: e.ID, ID: id, At: d.cfg.Clock.Now(), Secrets: []string{secret}, Body: body,
	}), body)
	switch {
	case err != nil:
		return Result{}, resp, fmt.Errorf("notice %s was not attempted: %w", e.ID, err)
	case resp.Success():
		return Result{Status: Delivered, StatusCode: resp.StatusCode}, resp, nil
	}
	return Result{Status: Failed, StatusCode: resp.StatusCode, Error: resp.Error}, resp, nil
}

// NoticeTest names a test of a bot's notify URL.
type NoticeTest struct {
	BotID   string    `json:"botId"`
	EventID string    `json:"eventId"`
	At      time.Time `json:"at"`
}

// SendTestNotice sends a bot's owner a notice that says that it is a test, once. As nobody has agreed to it at the notify URL, it
// takes of what the bot may send to an endpoint that is not verified. It counts for and against nothing.
func (d *Deliverer) SendTestNotice(ctx context.Context, n NoticeTest) (Result, error) {
	bot, err := d.queries.GetBot(ctx, d.cfg.Pool, n.BotID)
	switch {
	case errors.Is(err, pgx.ErrNoRows), err == nil && bot.NotifyURL == nil:
		return Result{Status: Skipped, Error: NoticesUnwanted}, nil
	case err != nil:
		return Result{}, fmt.Errorf("read bot %s: %w", n.BotID, err)
	case !bot.IsActive:
		return Result{Status: Skipped, Error: BotSuspended}, nil
	}
	url, secret, err := d.openNotify(bot.ID, bot.NotifyURL, bot.NotifySecret)
	if err != nil {
		return Result{}, err
	}
	if !d.limiter.IsOff() {
		wait, err := d.limiter.TakeOne(ctx, allowance.Key{BotID: bot.ID, Endpoint: webhook.PartyOf(url)})
		if err != nil {
			return Result{}, err
		}
		if wait > 0 {
			return Result{Status: Skipped, Error: RateLimited, RetryIn: wait}, nil
		}
	}
	e := webhook.DisabledTest(bot.ID, n.EventID, n.At)
	r, _, err := d.postNotice(ctx, url, secret, e, webhook.AttemptKey(e.ID, uuid.Nil, 1))
	return r, err
}
