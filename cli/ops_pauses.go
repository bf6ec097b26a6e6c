package cli

import (
	"context"
	"fmt"
	"io"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

type opsPauses struct {
	List opsPausesList `cmd:"" help:"List the pauses: of all, of bots and of hosts."`
}

type opsPausesList struct {
	ServiceFlags
	outputFlags
	pageFlags
}

// Run lists the pauses.
func (c *opsPausesList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, raw, next, err := gather(c.pageFlags, func(after string, limit int) (*mathub.Response[[]mathub.Pause], error) {
		return api.ListPauses(ctx, &mathub.ListPausesParams{After: after, Limit: limit})
	})
	if err != nil {
		return err
	}
	return c.pauses(raw, next, list...)
}

func (f outputFlags) pauses(raw []byte, next string, list ...mathub.Pause) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "SCOPE\tVALUE\tSINCE\tBY\tREASON") //nolint:errcheck // Flush tells
		for _, p := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Scope, orDash(p.Value), webhook.FormatTime(p.Since), p.By, p.Reason) //nolint:errcheck // Flush tells
		}
		moreFollow(w, next)
		return nil
	})
}

// opsPause begins pauses.
type opsPause struct {
	All  opsPauseAll  `cmd:"" help:"Pause all deliveries."`
	Bot  opsPauseBot  `cmd:"" help:"Pause the deliveries of a bot."`
	Host opsPauseHost `cmd:"" help:"Pause the deliveries to a host."`
}

type pauseFlags struct {
	ServiceFlags
	outputFlags
	Reason string `required:"" help:"Why, in one line of at most 200 characters. Operators and the owners of the webhooks read it."`
}

func (f *pauseFlags) pause(ctx context.Context, scope, value string) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	p, err := api.PauseDeliveries(ctx, mathub.NewPause{Scope: scope, Value: value, Reason: f.Reason})
	if err != nil {
		return err
	}
	return f.pauses(p.Body, "", p.Value)
}

type (
	botOfPause struct {
		Bot string `arg:"" help:"The bot's id."`
	}
	hostOfPause struct {
		Host string `arg:"" help:"A host name or an IP address, without a port. Subdomains are other hosts."`
	}
)

type opsPauseAll struct{ pauseFlags }

// Run pauses all deliveries.
func (c *opsPauseAll) Run(ctx context.Context) error { return c.pause(ctx, "all", "") }

type opsPauseBot struct {
	pauseFlags
	botOfPause
}

// Run pauses the bot's deliveries.
func (c *opsPauseBot) Run(ctx context.Context) error { return c.pause(ctx, "bot", c.Bot) }

type opsPauseHost struct {
	pauseFlags
	hostOfPause
}

// Run pauses the deliveries to the host.
func (c *opsPauseHost) Run(ctx context.Context) error { return c.pause(ctx, "host", c.Host) }

// opsResume ends pauses.
type opsResume struct {
	All  opsResumeAll  `cmd:"" help:"End the pause of all deliveries. Pauses of bots and hosts remain."`
	Bot  opsResumeBot  `cmd:"" help:"End the pause of a bot."`
	Host opsResumeHost `cmd:"" help:"End the pause of a host."`
}

func (f ServiceFlags) resume(ctx context.Context, scope, value string) error {
	api, err := f.client()
	if err != nil {
		return err
	}
	return api.ResumeDeliveries(ctx, &mathub.ResumeDeliveriesParams{Scope: scope, Value: value})
}

type opsResumeAll struct{ ServiceFlags }

// Run ends the pause of all deliveries.
func (c *opsResumeAll) Run(ctx context.Context) error { return c.resume(ctx, "all", "") }

type opsResumeBot struct {
	ServiceFlags
	botOfPause
}

// Run ends the bot's pause.
func (c *opsResumeBot) Run(ctx context.Context) error { return c.resume(ctx, "bot", c.Bot) }

type opsResumeHost struct {
	ServiceFlags
	hostOfPause
}

// Run ends the host's pause.
func (c *opsResumeHost) Run(ctx context.Context) error { return c.resume(ctx, "host", c.Host) }
