package cli

import (
	"context"
	"os/user"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

// Fuse shows and resets the fuses: see internal/history/fuse.go.
type Fuse struct {
	List  fuseListCommand  `cmd:"" help:"List the failure classes whose fuse has blown, and since when. They disable no webhook."`
	Reset fuseResetCommand `cmd:"" help:"Reset the fuse of a failure class, which can then disable webhooks again."`
}

type fuseListCommand struct {
	settings.Database
	JSON bool `help:"Print JSON."`
}

func (c *fuseListCommand) Run(ctx context.Context) error {
	return withPool(ctx, c.Database, func(ctx context.Context, pool *pgxpool.Pool) error {
		fuses, err := history.BlownFuses(ctx, pool)
		if err != nil {
			return err
		}
		list, lines := make([]blownFuse, len(fuses)), make([]string, len(fuses))
		for i, f := range fuses {
			list[i] = blownFuse{Class: f.Class, BlownAt: webhook.FormatTime(f.BlownAt)}
			lines[i] = list[i].Class + " " + list[i].BlownAt
		}
		text := strings.Join(lines, "\n")
		if len(fuses) == 0 {
			text = "no fuse is blown"
		}
		return printed(c.JSON, list, text)
	})
}

type blownFuse struct {
	Class   string `json:"class"`
	BlownAt string `json:"blownAt"`
}

type fuseResetCommand struct {
	settings.Database
	Class string `arg:"" help:"The failure class, as \"fuse list\" shows it."`
}

func (c *fuseResetCommand) Run(ctx context.Context) error {
	return withPool(ctx, c.Database, func(ctx context.Context, pool *pgxpool.Pool) error {
		return history.ResetFuse(ctx, pool, nil, c.Class)
	})
}

func withPool(ctx context.Context, f settings.Database, do func(context.Context, *pgxpool.Pool) error) error {
	pool, err := db.Open(ctx, f.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	return do(audit.As(ctx, audit.Actor{Kind: audit.Operator, Name: userName()}), pool)
}

// userName is the system's user that runs the command; empty where that is unknown.
func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
