package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/settings"
)

// Keyset makes and changes the keys that encrypt webhook URLs and secrets.
type Keyset struct {
	New    keysetNewCommand    `cmd:"" help:"Make a keyset and print it, for MATHUB_KEYSET."`
	Rotate keysetRotateCommand `cmd:"" help:"Print the keyset with a fresh key, which encrypts from then on; the others still decrypt."`
	Prune  keysetPruneCommand  `cmd:"" help:"Print the keyset without the keys that no secret in the database needs any more."`
}

type keysetNewCommand struct{}

func (c *keysetNewCommand) Run() error {
	keyset, err := db.NewKeyset()
	if err != nil {
		return err
	}
	fmt.Println(keyset)
	return nil
}

type keysetRotateCommand struct {
	settings.Encryption
	Later bool `help:"Let the fresh key decrypt only, until the keyset is rotated once more: for several processes, which learn of it one after the other."`
}

func (c *keysetRotateCommand) Run() error {
	keyset, err := db.RotateKeyset(c.Keyset, c.Later)
	if err != nil {
		return err
	}
	fmt.Println(keyset)
	return nil
}

type keysetPruneCommand struct {
	settings.Database
	settings.Encryption
}

func (c *keysetPruneCommand) Run(ctx context.Context) error {
	keyset, err := db.ParseKeyset(c.Keyset)
	if err != nil {
		return fmt.Errorf("MATHUB_KEYSET: %w", err)
	}
	pool, err := db.Open(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	needed, err := db.SealedOtherwise(ctx, pool, keyset)
	if err != nil {
		return err
	}
	if needed {
		return errors.New("URLs and secrets are still encrypted with older keys: run a worker with this keyset first, which encrypts them anew")
	}
	pruned, err := db.PruneKeyset(c.Keyset)
	if err != nil {
		return err
	}
	fmt.Println(pruned)
	return nil
}
