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
	New    keysetNewCommand    `cmd:"" help:"Create a keyset and print it, for MATHUB_KEYSET."`
	Rotate keysetRotateCommand `cmd:"" help:"Print the keyset with a new key that encrypts. The other keys still decrypt."`
	Prune  keysetPruneCommand  `cmd:"" help:"Print the keyset without the keys that nothing in the database needs."`
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
	Later bool `help:"Let the new key only decrypt until the next rotation. Use it when several processes get the keyset one after another."`
}

func (c *keysetRotateCommand) Run() error {
	keyset, err := db.RotateKeyset(c.Keyset, c.Later)
	if err != nil {
		return usageError{err}
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
		return usageError{fmt.Errorf("MATHUB_KEYSET: %w", err)}
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
		return errors.New("URLs and secrets are still encrypted with older keys; run a worker with this keyset first, which encrypts them again")
	}
	pruned, err := db.PruneKeyset(c.Keyset)
	if err != nil {
		return err
	}
	fmt.Println(pruned)
	return nil
}
