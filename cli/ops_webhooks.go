package cli

import (
	"context"

	mathub "github.com/mathub/webhooks/clients/go"
)

// opsWebhooks manages webhooks of any bot, over the service API.
type opsWebhooks struct {
	List    opsWebhooksList    `cmd:"" help:"List a bot's webhooks, oldest first."`
	Get     opsWebhooksGet     `cmd:"" help:"Show a webhook."`
	Enable  opsWebhooksEnable  `cmd:"" help:"Enable a webhook, with a failure count of 0."`
	Disable opsWebhooksDisable `cmd:"" help:"Disable a webhook. Its owner can enable it again."`
	Delete  opsWebhooksDelete  `cmd:"" help:"Delete a webhook and its history."`
}

type opsWebhooksList struct {
	ServiceFlags
	outputFlags
	Bot string `arg:"" name:"bot" help:"The bot's id."`
}

// Run lists the webhooks.
func (c *opsWebhooksList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, err := api.ListWebhooksOfBot(ctx, &mathub.ListWebhooksOfBotParams{BotID: c.Bot})
	if err != nil {
		return err
	}
	return c.webhooks(list.Body, listed(list.Value)...)
}

// opsWebhook is one that a command is about.
type opsWebhook struct {
	ServiceFlags
	ID string `arg:"" name:"webhook" help:"The webhook's id."`
}

// setActive enables or disables the webhook and shows it.
func (c *opsWebhook) setActive(ctx context.Context, f outputFlags, active bool) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	changed, err := api.UpdateWebhookOfAny(ctx, c.ID, mathub.OperatorWebhookChange{IsActive: active})
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
	h := found.Value
	return c.webhooks(found.Body, mathub.Webhook{
		ID: h.ID, IsActive: h.IsActive, FailureCount: h.FailureCount, HasSecret: h.HasSecret, Verified: h.Verified, Paused: h.Paused, Events: h.Events, URL: h.URL,
	})
}

type opsWebhooksEnable struct {
	opsWebhook
	outputFlags
}

// Run enables the webhook.
func (c *opsWebhooksEnable) Run(ctx context.Context) error {
	return c.setActive(ctx, c.outputFlags, true)
}

type opsWebhooksDisable struct {
	opsWebhook
	outputFlags
}

// Run disables the webhook.
func (c *opsWebhooksDisable) Run(ctx context.Context) error {
	return c.setActive(ctx, c.outputFlags, false)
}

type opsWebhooksDelete struct{ opsWebhook }

// Run deletes the webhook.
func (c *opsWebhooksDelete) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return api.DeleteWebhookOfAny(ctx, c.ID)
}
