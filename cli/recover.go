package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/pause"
)

type webhooksRecoverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Since       moment `help:"Start: a time in RFC 3339, or how long ago, such as 24h. Default: 24 hours before the webhook was last disabled."`
	Until       moment `help:"End. Default: now."`
	Type        string `help:"Recover only this event type."`
	Error       string `help:"Recover only events of which an attempt failed so, such as timeout."`
	StatusClass string `enum:",2xx,3xx,4xx,5xx,none" default:"" help:"Recover only events of which an attempt was answered so: 2xx, 3xx, 4xx, 5xx, or none."`
	Wait        bool   `help:"Wait for the end. Fails if a delivery failed or the recovery did not complete."`
	Status      bool   `xor:"verb" help:"Show the progress of the last recovery."`
	Cancel      bool   `xor:"verb" help:"Cancel the running recovery."`
}

func (c *webhooksRecoverCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if c.Cancel {
		return api.CancelRecovery(ctx, c.ID)
	}
	answer, err := c.state(ctx, api)
	for err == nil && c.Wait && answer.Value.State == "running" {
		if !pause.For(ctx, time.Second) {
			return ctx.Err()
		}
		answer, err = api.GetRecovery(ctx, c.ID)
	}
	if err != nil {
		return err
	}
	r := answer.Value
	if err := c.show(answer.Body, func(w io.Writer) error { return printRecovery(w, r) }); err != nil {
		return err
	}
	if c.Wait && (r.State != "completed" || r.Failed > 0) {
		return errFailed
	}
	return nil
}

// state is how far the last recovery has come: of a new one, unless only that is asked for.
func (c *webhooksRecoverCommand) state(ctx context.Context, api *mathub.Client) (*mathub.Response[mathub.Recovery], error) {
	if c.Status {
		return api.GetRecovery(ctx, c.ID)
	}
	return api.RecoverWebhook(ctx, c.ID, &mathub.Span{Since: c.Since.Time, Until: c.Until.Time, EventType: c.Type, Error: c.Error, StatusClass: c.StatusClass})
}

func printRecovery(w io.Writer, r mathub.Recovery) error {
	lastError := "-"
	if r.LastError != nil {
		lastError = *r.LastError
	}
	_, err := fmt.Fprintf(w, "STATE\tFOUND\tDELIVERED\tFAILED\tREMAINING\tLAST ERROR\n%s\t%d\t%d\t%d\t%d\t%s\n", r.State, r.Found, r.Delivered, r.Failed, r.Remaining, lastError)
	return err
}
