package cli

import (
	"context"
	"fmt"
	"io"

	mathub "github.com/mathub/webhooks/clients/go"
)

// opsBots manages bots, over the service API.
type opsBots struct {
	List    opsBotsList    `cmd:"" help:"List bots, ordered by id."`
	Get     opsBotsGet     `cmd:"" help:"Show a bot."`
	Suspend opsBotsSuspend `cmd:"" help:"Suspend a bot: it receives nothing, and its keys and the portal are refused. What it misses can be recovered."`
	Resume  opsBotsResume  `cmd:"" help:"End the suspension of a bot."`
	Delete  opsBotsDelete  `cmd:"" help:"Delete a bot with its webhooks, their history, and its keys."`
}

// showBots writes bots as a table.
func (f outputFlags) showBots(raw []byte, next string, list ...mathub.BotDetail) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "BOT\tNAME\tACTIVE\tWEBHOOKS\tACTIVE WEBHOOKS\tDISABLED BY FAILURES\tSUSPENDED\tREASON") //nolint:errcheck // Flush tells
		for _, b := range list {
			//nolint:errcheck // Flush tells
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", b.ID, b.Name, yes(b.IsActive), b.Webhooks, b.ActiveWebhooks, b.DisabledByFailures,
				orNone(b.SuspendedAt), orDash(b.SuspendedReason))
		}
		for _, b := range list {
			if b.Unreadable {
				fmt.Fprintf(w, "\nUnreadable: no key of MATHUB_KEYSET decrypts the notification URL of %s\n", b.ID) //nolint:errcheck // Flush tells
			}
		}
		moreFollow(w, next)
		return nil
	})
}

type opsBotsList struct {
	ServiceFlags
	outputFlags
	pageFlags
	Search    string `arg:"" optional:"" help:"List only bots with this text in their id or name."`
	Suspended bool   `help:"List only suspended bots."`
}

// Run lists the bots.
func (c *opsBotsList) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	params := mathub.ListBotsParams{Search: c.Search}
	if c.Suspended {
		params.State = "suspended"
	}
	list, raw, next, err := gather(c.pageFlags, func(after string, limit int) (*mathub.Response[[]mathub.BotDetail], error) {
		params.After, params.Limit = after, limit
		return api.ListBots(ctx, &params)
	})
	if err != nil {
		return err
	}
	return c.showBots(raw, next, list...)
}

// opsBot is one that a command is about.
type opsBot struct {
	ServiceFlags
	ID string `arg:"" name:"bot" help:"The bot's id."`
}

type opsBotsGet struct {
	opsBot
	outputFlags
}

// Run shows the bot.
func (c *opsBotsGet) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetBot(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.showBots(found.Body, "", found.Value)
}

// change changes the bot and shows it.
func (c *opsBot) change(ctx context.Context, f outputFlags, change mathub.BotChange) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	changed, err := api.UpdateBot(ctx, c.ID, change)
	if err != nil {
		return err
	}
	b := changed.Value
	return f.show(changed.Body, func(w io.Writer) error {
		var reason *string
		if b.SuspendedReason != "" {
			reason = &b.SuspendedReason
		}
		_, err := fmt.Fprintf(w, "BOT\tNAME\tACTIVE\tREASON\n%s\t%s\t%s\t%s\n", b.ID, b.Name, yes(b.IsActive), orDash(reason))
		return err
	})
}

type opsBotsSuspend struct {
	opsBot
	outputFlags
	Reason string `help:"Why. The bot's developers read it in the 403 of their calls and in the portal."`
}

// Run suspends the bot.
func (c *opsBotsSuspend) Run(ctx context.Context) error {
	active := false
	return c.change(ctx, c.outputFlags, mathub.BotChange{IsActive: &active, SuspendedReason: c.Reason})
}

type opsBotsResume struct {
	opsBot
	outputFlags
}

// Run ends the suspension of the bot.
func (c *opsBotsResume) Run(ctx context.Context) error {
	active := true
	return c.change(ctx, c.outputFlags, mathub.BotChange{IsActive: &active})
}

type opsBotsDelete struct {
	opsBot
	confirmFlags
}

// Run deletes the bot.
func (c *opsBotsDelete) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	if err := c.confirm("the bot, its webhooks, their history and its keys", c.ID); err != nil {
		return err
	}
	return api.DeleteBot(ctx, c.ID)
}
