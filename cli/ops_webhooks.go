package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// opsFlags are what operators' commands need.
type opsFlags struct {
	APIFlags
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Better in the environment than on the command line."`
}

func (f opsFlags) client() *apiClient { return &apiClient{base: f.API, token: f.ServiceToken} }

// opsWebhooks manages webhooks of any bot, over the service API.
type opsWebhooks struct {
	List    opsWebhooksList    `cmd:"" help:"List a bot's webhooks, oldest first."`
	Get     opsWebhooksGet     `cmd:"" help:"Show a webhook."`
	Enable  opsWebhooksEnable  `cmd:"" help:"Enable a webhook, with a failure count of 0."`
	Disable opsWebhooksDisable `cmd:"" help:"Disable a webhook. Its owner can enable it again."`
	Delete  opsWebhooksDelete  `cmd:"" help:"Delete a webhook and its history."`
}

type opsWebhooksList struct {
	opsFlags
	outputFlags
	Bot string `arg:"" name:"bot" help:"The bot's id."`
}

// Run lists the webhooks.
func (c *opsWebhooksList) Run(ctx context.Context) error {
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodGet, serviceAPI+"webhooks?"+url.Values{"botId": {c.Bot}}.Encode(), nil, &raw); err != nil {
		return err
	}
	var list []webhookView
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	return c.webhooks(raw, list...)
}

// opsWebhook is one that a command is about.
type opsWebhook struct {
	opsFlags
	ID string `arg:"" name:"webhook" help:"The webhook's id."`
}

func (c *opsWebhook) call(ctx context.Context, method string, body, answer any) error {
	return c.client().call(ctx, method, serviceAPI+"webhooks/"+url.PathEscape(c.ID), body, answer)
}

// show prints what a call answers.
func (c *opsWebhook) show(ctx context.Context, f outputFlags, method string, body any) error {
	var raw json.RawMessage
	if err := c.call(ctx, method, body, &raw); err != nil {
		return err
	}
	return f.webhook(raw)
}

type opsWebhooksGet struct {
	opsWebhook
	outputFlags
}

// Run shows the webhook.
func (c *opsWebhooksGet) Run(ctx context.Context) error {
	return c.opsWebhook.show(ctx, c.outputFlags, http.MethodGet, nil)
}

type opsWebhooksEnable struct {
	opsWebhook
	outputFlags
}

// Run enables the webhook.
func (c *opsWebhooksEnable) Run(ctx context.Context) error {
	return c.opsWebhook.show(ctx, c.outputFlags, http.MethodPatch, map[string]bool{"isActive": true})
}

type opsWebhooksDisable struct {
	opsWebhook
	outputFlags
}

// Run disables the webhook.
func (c *opsWebhooksDisable) Run(ctx context.Context) error {
	return c.opsWebhook.show(ctx, c.outputFlags, http.MethodPatch, map[string]bool{"isActive": false})
}

type opsWebhooksDelete struct{ opsWebhook }

// Run deletes the webhook.
func (c *opsWebhooksDelete) Run(ctx context.Context) error {
	return c.call(ctx, http.MethodDelete, nil, nil)
}
