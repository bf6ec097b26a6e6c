package cli

import (
	"context"
	"fmt"
	"io"

	mathub "github.com/mathub/webhooks/clients/go"
)

// opsWebhooks manages webhooks of any bot, over the service API.
type opsWebhooks struct {
	List     opsWebhooksList     `cmd:"" help:"List webhooks and how they stand."`
	Get      opsWebhooksGet      `cmd:"" help:"Show a webhook."`
	Enable   opsWebhooksEnable   `cmd:"" help:"Enable a webhook, with a failure count of 0."`
	Disable  opsWebhooksDisable  `cmd:"" help:"Disable a webhook. Its owner can enable it again."`
	Delete   opsWebhooksDelete   `cmd:"" help:"Delete a webhook and its history."`
	Recover  opsWebhooksRecover  `cmd:"" help:"Deliver the events that a webhook missed."`
	Waiting  opsWebhooksWaiting  `cmd:"" help:"List what waits for a webhook, in the order in which it is sent."`
	RetryNow opsWebhooksRetryNow `cmd:"" help:"Attempt now what waits for a webhook."`
}

type opsWebhooksList struct {
	ServiceFlags
	outputFlags
	pageFlags
	State          string `enum:",active,queued,failing,disabled,suspended" default:"" help:"List only webhooks in this state: active, queued, failing, disabled or suspended."`
	DisabledReason string `enum:",failures,owner,operator" default:"" help:"List only webhooks that are disabled for this reason: failures, owner or operator."`
	Bot            string `help:"List only webhooks of the bot with this id."`
	Host           string `help:"List only webhooks at this host. Without a port: at any of its ports."`
	ErrorClass     string `help:"List only webhooks whose last failure was of this class, such as timeout, dns or http_5xx."`
	Sort           string `enum:",created,disabled,failures,waiting,oldest" default:"" help:"The order: created, disabled (last first), failures (most first), waiting (longest queue first) or oldest (oldest due delivery first). Default: as the state asks for."`
}

// Run lists the webhooks.
func (c *opsWebhooksList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	params := mathub.ListWebhooksOfAnyParams{State: c.State, DisabledReason: c.DisabledReason, BotID: c.Bot, Host: c.Host, ErrorClass: c.ErrorClass, Sort: c.Sort}
	list, raw, next, err := gather(c.pageFlags, func(after string, limit int) (*mathub.Response[[]mathub.OperatorWebhook], error) {
		params.After, params.Limit = after, limit
		return api.ListWebhooksOfAny(ctx, &params)
	})
	if err != nil {
		return err
	}
	return c.show(raw, func(w io.Writer) error {
		listOperatorWebhooks(w, list)
		moreFollow(w, next)
		return nil
	})
}

// listOperatorWebhooks writes webhooks of any bot as a table.
func listOperatorWebhooks(w io.Writer, list []mathub.OperatorWebhook) {
	fmt.Fprintln(w, "WEBHOOK\tBOT\tHOST\tSTATE\tFAILURES\tWAITING\tOLDEST DUE\tLAST ERROR\tDISABLED\tBY") //nolint:errcheck // Flush tells
	for _, h := range list {
		by := orDash(h.DisabledReason)
		if h.DisabledNote != nil {
			by += ": " + *h.DisabledNote
		}
		//nolint:errcheck // Flush tells
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", h.ID, h.BotID, h.Host, h.State, h.FailureCount, h.Waiting, orNone(h.OldestDueAt),
			orDash(h.LastError), orNone(h.DisabledAt), by)
	}
}

// opsWebhook is one that a command is about.
type opsWebhook struct {
	ServiceFlags
	ID string `arg:"" name:"webhook" help:"The webhook's id."`
}

// setActive enables or disables the webhook and shows it.
func (c *opsWebhook) setActive(ctx context.Context, f outputFlags, change mathub.OperatorWebhookChange) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	changed, err := api.UpdateWebhookOfAny(ctx, c.ID, change)
	if err != nil {
		return err
	}
	return f.webhooks(changed.Body, changed.Value)
}

type opsWebhooksGet struct {
	opsWebhook
	outputFlags
}

// Run shows the webhook.
func (c *opsWebhooksGet) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetWebhookOfAny(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.webhooks(found.Body, briefly(found.Value)...)
}

type opsWebhooksEnable struct {
	opsWebhook
	outputFlags
}

// Run enables the webhook.
func (c *opsWebhooksEnable) Run(ctx context.Context) error {
	return c.setActive(ctx, c.outputFlags, mathub.OperatorWebhookChange{IsActive: true})
}

type opsWebhooksDisable struct {
	opsWebhook
	outputFlags
	Note string `help:"What its owner reads about it."`
}

// Run disables the webhook.
func (c *opsWebhooksDisable) Run(ctx context.Context) error {
	return c.setActive(ctx, c.outputFlags, mathub.OperatorWebhookChange{DisabledNote: c.Note})
}

type opsWebhooksDelete struct {
	opsWebhook
	confirmFlags
}

// Run deletes the webhook.
func (c *opsWebhooksDelete) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if err := c.confirm("the webhook and its history", c.ID); err != nil {
		return err
	}
	return api.DeleteWebhookOfAny(ctx, c.ID)
}

type opsWebhooksRecover struct {
	opsWebhook
	outputFlags
	recoverFlags
}

// Run starts a recovery, or shows or cancels one.
func (c *opsWebhooksRecover) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.run(ctx, c.outputFlags, recoveries{api.RecoverWebhookOfAny, api.GetRecoveryOfAny, api.CancelRecoveryOfAny}, c.ID)
}

type opsWebhooksWaiting struct {
	opsWebhook
	outputFlags
}

// Run lists what waits.
func (c *opsWebhooksWaiting) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.waiting(api.ListWaitingOfAny(ctx, c.ID))
}

type opsWebhooksRetryNow struct {
	opsWebhook
	outputFlags
	retryFlags
}

// Run makes what waits due.
func (c *opsWebhooksRetryNow) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.retryNow(api.RetryNowOfAny(ctx, c.ID, &mathub.RetryRequest{EventID: c.Event}))
}
