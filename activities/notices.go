package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// noticesEvery is when notices are looked for that another process left behind.
	noticesEvery = time.Minute
	// noticesAgain is when those are tried again that could not be handed over.
	noticesAgain = 5 * time.Second
	// noticesPage is how many are read at once.
	noticesPage = 100
)

// Why a notice was skipped.
const (
	BotGone         = "bot deleted"
	NoticesUnwanted = "the bot has no notify URL any more"
)

// Notices are the disablings that owners have yet to be told of. The transaction that disables a webhook writes one to
// the outbox disabled_notices; it is removed once start has a workflow see to it, so that a crash in between loses none.
type Notices struct {
	pool *pgxpool.Pool
	log  *slog.Logger
	wake <-chan struct{}
}

// Notices are those that the recorder writes.
func (a *Activities) Notices() *Notices {
	return &Notices{pool: a.cfg.Pool, log: a.cfg.Logger, wake: a.recorder.noticed}
}

// Run hands over what is in the outbox, at once when this process has disabled a webhook and every minute, until ctx
// ends. start may be called more than once for the same notice, also by several processes, and must then do nothing.
func (n *Notices) Run(ctx context.Context, start func(context.Context, webhook.Disabling) error) {
	for {
		wait := noticesEvery
		if err := n.handOver(ctx, start); err != nil && ctx.Err() == nil {
			n.log.Warn("notices of disabled webhooks wait", "error", err)
			wait = noticesAgain
		}
		select {
		case <-n.wake:
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (n *Notices) handOver(ctx context.Context, start func(context.Context, webhook.Disabling) error) error {
	q := db.New()
	for {
		page, err := q.ListNotices(ctx, n.pool, noticesPage)
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
		for _, row := range page {
			d := webhook.Disabling{
				WebhookID: row.WebhookID, Generation: int(row.Generation), BotID: row.BotID, Host: hostOf(row.URL),
				FailureCount: int(row.FailureCount), DisabledAt: row.DisabledAt.UTC(), LastError: row.LastError, EventID: row.EventID,
			}
			if err := start(ctx, d); err != nil {
				return fmt.Errorf("start %s: %w", d.NoticeID(), err)
			}
			failpoint("notice-started")
			if err := q.DeleteNotice(ctx, n.pool, db.DeleteNoticeParams{WebhookID: row.WebhookID, Generation: row.Generation}); err != nil {
				return fmt.Errorf("remove %s from the outbox: %w", d.NoticeID(), err)
			}
		}
		if len(page) < noticesPage {
			return nil
		}
	}
}

// Notice is one attempt to tell a bot's owner that a webhook was disabled.
type Notice struct {
	Disabling webhook.Disabling `json:"disabling"`
	Attempt   int               `json:"attempt"` // 1 for the first
}

// NotifyOwner makes the attempt, to the bot's present notify URL and signed with its present secret. It counts for and
// against nothing. An error means that our own side failed.
func (a *Activities) NotifyOwner(ctx context.Context, n Notice) (Result, error) {
	d := n.Disabling
	bot, err := a.queries.GetBot(ctx, a.cfg.Pool, d.BotID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Result{Status: Skipped, Error: BotGone}, nil
	case err != nil:
		return Result{}, fmt.Errorf("read bot %s: %w", d.BotID, err)
	case bot.NotifyURL == nil:
		return Result{Status: Skipped, Error: NoticesUnwanted}, nil
	}
	secret, err := a.cfg.Keyset.OpenNotify(bot.ID, bot.NotifySecret)
	if err != nil {
		a.cfg.Logger.Error("a notice waits as it cannot be signed", "notice", d.NoticeID(), "error", err)
		return Result{}, err
	}
	e := d.Event()
	body := e.Body()
	resp, err := a.cfg.Egress.Post(ctx, *bot.NotifyURL, webhook.Headers(webhook.Delivery{
		Version: a.cfg.Version, Type: e.Type, EventID: e.ID, ID: webhook.DeliveryID(e.ID, d.WebhookID, n.Attempt), At: time.Now(),
		Secrets: []string{secret}, Body: body,
	}), body)
	if err != nil {
		return Result{}, fmt.Errorf("notice %s was not attempted: %w", d.NoticeID(), err)
	}
	return a.result(Delivery{Attempt: n.Attempt}, resp.Success(), resp.StatusCode, resp.Error, resp.RetryAfter, true), nil
}
