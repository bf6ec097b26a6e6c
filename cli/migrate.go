package cli

import (
	"context"
	"fmt"

	"github.com/mathub/webhooks/db"
)

// Migrate brings the database's schema up to this version.
type Migrate struct{ DatabaseFlags }

// Run migrates and prints what it applied.
func (c *Migrate) Run(ctx context.Context) error {
	applied, err := db.Migrate(ctx, c.DatabaseURL)
	for _, name := range applied {
		fmt.Println("applied", name)
	}
	if err == nil && len(applied) == 0 {
		fmt.Println("the schema is up to date")
	}
	return err
}
