package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

// Bot makes bots and their keys.
type Bot struct {
	Create botCreateCommand `cmd:"" help:"Make a bot and print its id, and on a second line its notify secret, if one had to be made."`
	Set    botSetCommand    `cmd:"" help:"Suspend a bot or end that; set where its owner is told of disabled webhooks. Prints the secret that signs, if one had to be made."`
	Key    botKeyCommand    `cmd:"" help:"Make a key for a bot and print it, the only time."`
	Keys   botKeysCommand   `cmd:"" help:"List the ids of a bot's keys, oldest first, and when they were made."`
	Revoke botRevokeCommand `cmd:"" help:"Revoke a key of a bot, at once."`
}

type botCreateCommand struct {
	settings.Database
	Name string `arg:"" help:"The bot's name."`
	ID   string `help:"Mathub's id of the bot; a UUIDv7 when left out."`
	JSON bool   `help:"Print JSON."`
	notifyFlags
}

// notifyFlags say where a bot's owner is told of disabled webhooks.
type notifyFlags struct {
	NotifyURL    *string `name:"notify-url" help:"Where the owner is told that failures disabled a webhook; empty: nowhere."`
	NotifySecret *string `env:"MATHUB_NOTIFY_SECRET" help:"What signs that; made and printed where there is none."`
	Keyset       string  `env:"MATHUB_KEYSET" help:"The keys that encrypt URLs and secrets, needed with a URL or a secret."`
	settings.URLs
}

func (f *notifyFlags) change() (api.NotifyChange, error) {
	n := api.NotifyChange{
		SetURL: f.NotifyURL != nil, Secret: f.NotifySecret,
		Rules: f.Rules(),
	}
	if n.SetURL && *f.NotifyURL != "" {
		n.URL = f.NotifyURL
	}
	if n.URL == nil && n.Secret == nil {
		return n, nil
	}
	var err error
	if n.Keyset, err = db.ParseKeyset(f.Keyset); err != nil {
		return n, fmt.Errorf("MATHUB_KEYSET: %w", err)
	}
	return n, nil
}

type botSetCommand struct {
	settings.Database
	Bot  string `arg:"" name:"name-or-id" help:"The bot's id, or its name where only one has it."`
	JSON bool   `help:"Print JSON."`
	notifyFlags
	Active *bool `negatable:"" help:"Whether the bot is active: a suspended one is sent nothing, and its keys are refused."`
}

func (c *botSetCommand) Run(ctx context.Context) error {
	change, err := c.change()
	if err != nil {
		return err
	}
	if !change.SetURL && change.Secret == nil {
		return errors.New("give --notify-url or --notify-secret")
	}
	return withBot(ctx, c.Database, c.Bot, func(pool *pgxpool.Pool, botID string) error {
		bot, err := api.UpdateBot(ctx, pool, botID, api.BotUpdate{NotifyChange: change, IsActive: c.Active})
		if err != nil || bot.NotifySecret == nil && !c.JSON {
			return err
		}
		var made string
		if bot.NotifySecret != nil {
			made = *bot.NotifySecret
		}
		return printed(c.JSON, bot, made)
	})
}

func (c *botCreateCommand) Run(ctx context.Context) error {
	notify, err := c.change()
	if err != nil {
		return err
	}
	pool, err := db.Open(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	bot, err := api.CreateBot(ctx, pool, c.ID, c.Name, notify)
	if err != nil {
		return err
	}
	line := bot.ID
	if bot.NotifySecret != nil {
		line += "\n" + *bot.NotifySecret
	}
	return printed(c.JSON, bot, line)
}

type botKeyCommand struct {
	settings.Database
	Bot  string `arg:"" name:"name-or-id" help:"The bot's id, or its name where only one has it."`
	JSON bool   `help:"Print JSON."`
}

func (c *botKeyCommand) Run(ctx context.Context) error {
	return withBot(ctx, c.Database, c.Bot, func(pool *pgxpool.Pool, botID string) error {
		key, err := api.CreateKey(ctx, pool, botID)
		if err != nil {
			return err
		}
		return printed(c.JSON, key, key.Key)
	})
}

// withBot calls f with the database and the id of the bot of that name or id.
func withBot(ctx context.Context, database settings.Database, nameOrID string, f func(pool *pgxpool.Pool, botID string) error) error {
	return withPool(ctx, database, func(pool *pgxpool.Pool) error {
		botID, err := api.FindBot(ctx, pool, nameOrID)
		if err != nil {
			return err
		}
		return f(pool, botID)
	})
}

type botKeysCommand struct {
	settings.Database
	Bot  string `arg:"" name:"name-or-id" help:"The bot's id, or its name where only one has it."`
	JSON bool   `help:"Print JSON."`
}

func (c *botKeysCommand) Run(ctx context.Context) error {
	return withBot(ctx, c.Database, c.Bot, func(pool *pgxpool.Pool, botID string) error {
		keys, err := api.ListKeys(ctx, pool, botID)
		if err != nil {
			return err
		}
		lines := make([]string, len(keys))
		for i, key := range keys {
			lines[i] = key.ID.String() + "  " + webhook.FormatTime(time.Time(key.CreatedAt))
		}
		return printed(c.JSON, keys, strings.Join(lines, "\n"))
	})
}

type botRevokeCommand struct {
	settings.Database
	Bot string    `arg:"" name:"name-or-id" help:"The bot's id, or its name where only one has it."`
	Key uuid.UUID `arg:"" name:"key-id" help:"The key's id, as \"bot keys\" lists it."`
}

func (c *botRevokeCommand) Run(ctx context.Context) error {
	return withBot(ctx, c.Database, c.Bot, func(pool *pgxpool.Pool, botID string) error {
		return api.RevokeKey(ctx, pool, botID, c.Key)
	})
}
