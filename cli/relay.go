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
	ServiceAPIFlags
	OutboxURL    string `env:"MATHUB_OUTBOX_URL" help:"The backend's Postgres, with the outbox table."`
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" help:"The service API's bearer token."`
	AtOnce       int    `default:"1" help:"The most concurrent calls, of up to 100 events each. With 1, a single relay emits in insertion order."`
	Once         bool   `help:"Emit the rows that are there and exit. Fails if rows were set aside."`
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
		return usageError{errors.New("MATHUB_OUTBOX_URL is not set; must be the backend's Postgres, such as postgres://relay:password@host/backend")}
	case c.ServiceToken == "":
		return usageError{errors.New("MATHUB_SERVICE_TOKEN is not set; the relay emits over the service API")}
	case c.AtOnce < 1:
		return usageError{fmt.Errorf("--at-once is %d; must be at least 1", c.AtOnce)}
	}
	door := &emit.HTTP{URL: c.API, Token: c.ServiceToken}
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
	}{{done.Conflicts, "duplicates with other content"}, {done.UnknownBots, "naming bots that do not exist"}} {
		if more.n > 0 {
			fmt.Printf(", %d %s", more.n, more.what)
		}
	}
	fmt.Println()
	if err == nil && done.SetAside > 0 {
		err = fmt.Errorf("%d rows with invalid events were set aside; see the column error of mathub_outbox", done.SetAside)
	}
	return err
}
