package cli

import (
	"context"
	"fmt"
	"io"

	mathub "github.com/mathub/webhooks/clients/go"
)

type webhooksRecoverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	recoverFlags
}

// recoverFlags say what a recovery covers, or what is asked of one.
type recoverFlags struct {
	Since       moment `help:"Start: a time in RFC 3339, or how long ago, such as 24h. Default: 24 hours before the webhook was last disabled."`
	Until       moment `help:"End. Default: now."`
	Type        string `help:"Recover only this event type."`
	Error       string `help:"Recover only events of which an attempt failed so, such as timeout."`
	StatusClass string `enum:",2xx,3xx,4xx,5xx,none" default:"" help:"Recover only events of which an attempt was answered so: 2xx, 3xx, 4xx, 5xx, or none."`
	Wait        bool   `help:"Wait for the end. Fails if a delivery failed or the recovery did not complete."`
	Status      bool   `xor:"verb" help:"Show the progress of the last recovery."`
	Cancel      bool   `xor:"verb" help:"Cancel the running recovery."`
}

// recoveries are the calls about a webhook's recoveries.
type recoveries struct {
	start  func(ctx context.Context, id string, span *mathub.Span) (*mathub.Response[mathub.Recovery], error)
	get    func(ctx context.Context, id string) (*mathub.Response[mathub.Recovery], error)
	cancel func(ctx context.Context, id string) error
}

func (c *webhooksRecoverCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.run(ctx, c.outputFlags, recoveries{api.RecoverWebhook, api.GetRecovery, api.CancelRecovery}, c.ID)
}

func (f recoverFlags) run(ctx context.Context, out outputFlags, api recoveries, id string) error {
	if f.Cancel {
		return api.cancel(ctx, id)
	}
	answer, err := f.state(ctx, api, id)
	if err == nil && f.Wait {
		answer, err = await(ctx, answer, func(r mathub.Recovery) bool { return r.State != "running" }, recoveryProgress,
			func(ctx context.Context) (*mathub.Response[mathub.Recovery], error) { return api.get(ctx, id) })
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("the recovery goes on; --status shows how far it has come: %w", ctx.Err())
		}
	}
	if err != nil {
		return err
	}
	r := answer.Value
	if err := out.show(answer.Body, func(w io.Writer) error { return printRecovery(w, r) }); err != nil {
		return err
	}
	if f.Wait && (r.State != "completed" || r.Failed > 0) {
		return errFailed
	}
	return nil
}

// state is how far the last recovery has come: of a new one, unless only that is asked for.
func (f recoverFlags) state(ctx context.Context, api recoveries, id string) (*mathub.Response[mathub.Recovery], error) {
	if f.Status {
		return api.get(ctx, id)
	}
	return api.start(ctx, id, &mathub.Span{Since: f.Since.Time, Until: f.Until.Time, EventType: f.Type, Error: f.Error, StatusClass: f.StatusClass})
}

func recoveryProgress(r mathub.Recovery) string {
	return fmt.Sprintf("%s: %d found, %d delivered, %d failed, %d remaining", r.State, r.Found, r.Delivered, r.Failed, r.Remaining)
}

func printRecovery(w io.Writer, r mathub.Recovery) error {
	_, err := fmt.Fprintf(w, "STATE\tFOUND\tDELIVERED\tFAILED\tREMAINING\tLAST ERROR\n%s\t%d\t%d\t%d\t%d\t%s\n", r.State, r.Found, r.Delivered, r.Failed, r.Remaining, orDash(r.LastError))
	return err
}
