package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/emit/outbox"
)

// Relay emits what a backend has put into its outbox table.
type Relay struct {
	APIFlags
	OutboxURL    string `env:"MATHUB_OUTBOX_URL" help:"The backend's Postgres, with the outbox table."`
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" help:"The service API's bearer token."`
	AtOnce       int    `default:"1" help:"How many calls, of up to 100 events each, may be under way at once; with 1, a single relay emits in the order of insertion."`
	Once         bool   `help:"Emit what is there and exit, instead of waiting for more: with an error where rows were set aside."`
	PrintSchema  bool   `help:"Print the SQL of the outbox table and exit."`
}

// Run relays until ctx ends.
func (c *Relay) Run(ctx context.Context) error {
	if c.PrintSchema {
		fmt.Print(outbox.Schema)
		return nil
	}
	switch {
	case c.OutboxURL == "":
		return usageError{errors.New("MATHUB_OUTBOX_URL is missing: the backend's Postgres, such as postgres://relay:password@host/backend")}
	case c.ServiceToken == "":
		return usageError{errors.New("MATHUB_SERVICE_TOKEN is missing: events are emitted over the service API")}
	case c.AtOnce < 1:
		return usageError{fmt.Errorf("--at-once is %d: it must be at least 1", c.AtOnce)}
	}
	door := &emit.HTTP{URL: c.API.String(), Token: c.ServiceToken}
	relay := &outbox.Relay{
		URL: c.OutboxURL, Emit: door.TryEvents, AtOnce: c.AtOnce, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if !c.Once {
		return relay.Run(ctx)
	}
	done, err := relay.Drain(ctx)
	fmt.Printf("%d events accepted", done.Accepted)
	for _, more := range []struct {
		n    int
		what string
	}{{done.Conflicts, "before with other content"}, {done.UnknownBots, "for bots that do not exist"}} {
		if more.n > 0 {
			fmt.Printf(", %d %s", more.n, more.what)
		}
	}
	fmt.Println()
	if err == nil && done.SetAside > 0 {
		err = fmt.Errorf("%d rows were set aside, as their events are at fault: the column error of mathub_outbox says why", done.SetAside)
	}
	return err
}
