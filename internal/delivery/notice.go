package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/webhook"
)

// Why a notice was skipped.
const (
	BotGone         = "bot deleted"
	NoticesUnwanted = "the bot has no notify URL any more"
)

// Notice is one attempt to tell a bot's owner that a webhook was disabled.
type Notice struct {
	Disabling webhook.Disabling `json:"disabling"`
	Attempt   int               `json:"attempt"` // 1 for the first
}

// NotifyOwner makes the attempt, to the bot's present notify URL and signed with its present secret. It counts for and
// against nothing. An error means that our own side failed.
func (d *Deliverer) NotifyOwner(ctx context.Context, n Notice) (Result, error) {
	about := n.Disabling
	bot, err := d.queries.GetBot(ctx, d.cfg.Pool, about.BotID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Result{Status: Skipped, Error: BotGone}, nil
	case err != nil:
		return Result{}, fmt.Errorf("read bot %s: %w", about.BotID, err)
	case bot.NotifyURL == nil:
		return Result{Status: Skipped, Error: NoticesUnwanted}, nil
	}
	url, err := d.cfg.Keyset.OpenNotifyURL(bot.ID, bot.NotifyURL)
	var secret string
	if err == nil {
		secret, err = d.cfg.Keyset.OpenNotify(bot.ID, bot.NotifySecret)
	}
	if err != nil {
		d.cfg.Logger.Error("a notice waits as its bot does not open with the keyset", "notice", about.NoticeID(), "error", err)
		return Result{}, err
	}
	e := about.Event()
	body := e.Body()
	resp, err := d.cfg.Egress.Post(ctx, url, webhook.Headers(webhook.Delivery{
		Version: d.cfg.Version, Type: e.Type, EventID: e.ID, ID: webhook.DeliveryID(e.ID, about.WebhookID, n.Attempt), At: time.Now(),
		Secrets: []string{secret}, Body: body,
	}), body)
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
