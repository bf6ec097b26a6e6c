package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

// Migrate changes the database's schema.
type Migrate struct {
	Up     migrateUpCommand     `cmd:"" default:"withargs" help:"Apply the pending migrations. The default of \"migrate\"."`
	Status migrateStatusCommand `cmd:"" help:"List the migrations and when each was applied. Exits with 1 if any is pending."`
	Down   migrateDownCommand   `cmd:"" help:"Revert the last migration, and lose its data."`
}

type migrateUpCommand struct{ settings.Database }

func (c *migrateUpCommand) Run(ctx context.Context) error {
	applied, err := db.Migrate(ctx, c.DatabaseURL)
	for _, name := range applied {
		fmt.Println("applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Println("the schema is up to date")
	}
	return err
}

type migrateStatusCommand struct {
	settings.Database
	JSON bool `help:"Print JSON."`
}

func (c *migrateStatusCommand) Run(ctx context.Context) error {
	list, err := db.Migrations(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	var lines string
	pending := 0
	for i, m := range list {
		when := "pending"
		if m.AppliedAt != nil {
			when = webhook.FormatTime(*m.AppliedAt)
		} else {
			pending++
		}
		if i > 0 {
			lines += "\n"
		}
		lines += fmt.Sprintf("%-24s  %s", when, m.Name)
	}
	if err := printed(c.JSON, list, lines); err != nil {
		return err
	}
	if pending > 0 {
		return fmt.Errorf("%d of %d migrations are pending; run `mathub-webhooks migrate`", pending, len(list))
	}
	return nil
}

type migrateDownCommand struct {
	settings.Database
	Yes bool `help:"Confirm that the data of the last migration is lost."`
}

func (c *migrateDownCommand) Run(ctx context.Context) error {
	if !c.Yes {
		return usageError{errors.New("this loses the data of the last migration, and programs that need it fail: see `migrate status`, deploy the previous version, then add --yes")}
	}
	name, err := db.MigrateDown(ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	if name == "" {
		fmt.Println("no migration is applied")
		return nil
	}
	fmt.Println("reverted", name)
	return nil
}
