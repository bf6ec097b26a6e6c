package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// BlownFuses are the fuses that have blown, by class.
func BlownFuses(ctx context.Context, pool *pgxpool.Pool) ([]db.ListFusesRow, error) {
	return db.New().ListFuses(ctx, pool)
}

// ResetFuse resets the blown fuse of a class of failure, which can then disable webhooks again. One that is not blown is not
// found. log has a line for it; nil: none.
func ResetFuse(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, class string) error {
	return audit.Tx(ctx, pool, log, func(tx pgx.Tx, note func(audit.Change) error) error {
		blownAt, err := db.New().ResetFuse(ctx, tx, class)
		if err != nil {
			return err
		}
		if len(blownAt) == 0 {
			return notBlown(class)
		}
		return note(audit.Change{Action: audit.FuseReset, Subject: class, Before: audit.Fields{"blownAt": webhook.FormatTime(blownAt[0])}})
	})
}

// BlownSince is when the fuse of a class of failure blew. One that is not blown is not found.
func BlownSince(ctx context.Context, pool *pgxpool.Pool, class string) (time.Time, error) {
	at, err := db.New().BlownSince(ctx, pool, class)
	if errors.Is(err, pgx.ErrNoRows) {
		return at, notBlown(class)
	}
	return at, err
}

func notBlown(class string) error {
	return &problem.Error{Kind: problem.NotFound, Detail: fmt.Sprintf("The fuse of %q is not blown.", class)}
}
