package history

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// ResetFuse resets the blown fuse of a class of failure, which can then disable webhooks again. One that is not blown is not
// found. log has a line for it; nil: none.
func ResetFuse(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, class string) error {
	return audit.Tx(ctx, pool, log, func(tx pgx.Tx, note func(audit.Change) error) error {
		blownAt, err := db.New().ResetFuse(ctx, tx, class)
		if err != nil {
			return err
		}
		if len(blownAt) == 0 {
			return &problem.Error{Kind: problem.NotFound, Detail: fmt.Sprintf("The fuse of %q is not blown.", class)}
		}
		return note(audit.Change{Action: audit.FuseReset, Subject: class, Before: audit.Fields{"blownAt": webhook.FormatTime(blownAt[0])}})
	})
}
