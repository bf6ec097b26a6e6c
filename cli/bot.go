package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

// Bot makes bots and their keys, with the database alone. All else about them is "ops", over the service API.
type Bot struct {
	Create botCreateCommand `cmd:"" help:"Create a bot and print its id and, if one was generated, its notify secret on a second line."`
	Set    botSetCommand    `cmd:"" help:"Change a bot's notification URL. Prints the notify secret if one was generated."`
	Key    botKeyCommand    `cmd:"" help:"Create a key for a bot and print it. It cannot be shown again."`
	Portal botPortalCommand `cmd:"" help:"Print a link that opens the portal of a bot, once, within 10 minutes."`
}

type botCreateCommand struct {
	settings.Database
	Name string `arg:"" help:"The bot's name."`
	ID   string `help:"Mathub's id of the bot. Default: a new UUIDv7."`
	JSON bool   `help:"Print JSON."`
	notifyFlags
}

// notifyFlags say where a bot's owner is notified of webhooks that fail.
type notifyFlags struct {
	NotifyURL    *string `name:"notify-url" help:"The URL that is notified when a webhook fails or failures disable it. Empty: none."`
	NotifySecret *string `env:"MATHUB_NOTIFY_SECRET" help:"The secret that signs notifications. Generated and printed if missing."`
	Keyset       string  `env:"MATHUB_KEYSET" help:"The keys that encrypt URLs and secrets. Required with a URL or a secret."`
	settings.URLs
}

// change is what the flags say.
func (f *notifyFlags) change() bots.NotifyChange {
	n := bots.NotifyChange{SetURL: f.NotifyURL != nil, Secret: f.NotifySecret}
	if n.SetURL && *f.NotifyURL != "" {
		n.URL = f.NotifyURL
	}
	return n
}

// service is needed with a keyset only where a URL or a secret is given.
func (f *notifyFlags) service(pool *pgxpool.Pool) (*bots.Service, error) {
	s := &bots.Service{Pool: pool, URLRules: f.Rules()}
	if f.Keyset == "" && f.change().URL == nil && f.NotifySecret == nil {
		return s, nil
	}
	var err error
	if s.Keyset, err = db.ParseKeyset(f.Keyset); err != nil {
		return nil, usageError{fmt.Errorf("MATHUB_KEYSET: %w", err)}
	}
	return s, nil
}

// botView is a bot as JSON, in the form that the service API gives it.
type botView struct {
	ID           string  `json:"id"`
	Name         string  `json:"name"`
	IsActive     bool    `json:"isActive"`
	CreatedAt    string  `json:"createdAt"`
	NotifyURL    *string `json:"notifyUrl"`
	NotifySecret *string `json:"notifySecret,omitempty"`
}

func viewOf(b bots.Bot) botView {
	return botView{b.ID, b.Name, b.IsActive, webhook.FormatTime(b.CreatedAt), b.NotifyURL, b.NotifySecret}
}

// keyView is a key as JSON.
type keyView struct {
	ID        uuid.UUID `json:"id"`
	BotID     string    `json:"botId,omitempty"`
	Name      string    `json:"name"`
	Prefix    string    `json:"prefix"`
	Key       string    `json:"key,omitempty"`
	CreatedAt string    `json:"createdAt"`
}

type botSetCommand struct {
	settings.Database
	Bot  string `arg:"" name:"name-or-id" help:"The bot's id, or its name if it is unique."`
	JSON bool   `help:"Print JSON."`
	notifyFlags
}

func (c *botSetCommand) Run(ctx context.Context) error {
	change := bots.Change{NotifyChange: c.change()}
	if !change.SetURL && change.Secret == nil {
		return usageError{errors.New("give --notify-url or --notify-secret")}
	}
	return withPool(ctx, c.Database, func(ctx context.Context, pool *pgxpool.Pool) error {
		service, err := c.service(pool)
		if err != nil {
			return err
		}
		id, err := service.Find(ctx, c.Bot)
		if err != nil {
			return err
		}
		bot, err := service.Update(ctx, id, change)
		if err != nil || bot.NotifySecret == nil && !c.JSON {
			return err
		}
		var made string
		if bot.NotifySecret != nil {
			made = *bot.NotifySecret
		}
		return printed(c.JSON, viewOf(bot), made)
	})
}

func (c *botCreateCommand) Run(ctx context.Context) error {
	return withPool(ctx, c.Database, func(ctx context.Context, pool *pgxpool.Pool) error {
		service, err := c.service(pool)
		if err != nil {
			return err
		}
		bot, err := service.Create(ctx, bots.New{ID: c.ID, Name: c.Name, NotifyChange: c.change()})
		if err != nil {
			return err
		}
		line := bot.ID
		if bot.NotifySecret != nil {
			line += "\n" + *bot.NotifySecret
		}
		return printed(c.JSON, viewOf(bot), line)
	})
}

type botKeyCommand struct {
	settings.Database
	Bot  string `arg:"" name:"name-or-id" help:"The bot's id, or its name if it is unique."`
	Name string `help:"What the key is for."`
	JSON bool   `help:"Print JSON."`
}

func (c *botKeyCommand) Run(ctx context.Context) error {
	return withBot(ctx, c.Database, c.Bot, func(ctx context.Context, service *bots.Service, botID string) error {
		key, secret, err := service.CreateKey(ctx, botID, c.Name)
		if err != nil {
			return err
		}
		return printed(c.JSON, keyView{ID: key.ID, BotID: key.BotID, Name: key.Name, Prefix: key.Prefix, Key: secret, CreatedAt: webhook.FormatTime(key.CreatedAt)}, secret)
	})
}

// withBot calls f with the service and the id of the bot of that name or id.
func withBot(ctx context.Context, database settings.Database, nameOrID string, f func(ctx context.Context, service *bots.Service, botID string) error) error {
	return withPool(ctx, database, func(ctx context.Context, pool *pgxpool.Pool) error {
		service := &bots.Service{Pool: pool}
		botID, err := service.Find(ctx, nameOrID)
		if err != nil {
			return err
		}
		return f(ctx, service, botID)
	})
}
