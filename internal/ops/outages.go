package ops

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/sleep"
)

const (
	// reportEvery is how often a worker looks at its outbound access and, while that fails, says so.
	reportEvery = 5 * time.Second
	// reportKept is how long a report is believed.
	reportKept = 6 * reportEvery
)

// ReportOutages says in Postgres, for processes that deliver nothing, while a worker's outbound access fails, until ctx ends. While
// it works, it asks nothing of Postgres.
func ReportOutages(ctx context.Context, pool *pgxpool.Pool, log *slog.Logger, worker string, access func(context.Context) egress.Access) {
	reported := false
	for sleep.For(ctx, reportEvery) {
		known := access(ctx)
		fails := known.DNS == egress.AccessFailed || known.Network == egress.AccessFailed
		var err error
		switch {
		case fails:
			err = db.New().ReportOutage(ctx, pool, db.ReportOutageParams{Worker: worker, Cause: known.Cause})
		case reported:
			err = db.New().EndOutage(ctx, pool, worker)
		}
		if err != nil && ctx.Err() == nil {
			log.Warn("could not report the state of outbound access", "error", err)
			continue
		}
		if fails != reported && ctx.Err() == nil {
			if reported = fails; fails {
				log.Warn("outbound access fails; deliveries wait, and no failure counts", "cause", known.Cause)
			} else {
				log.Info("outbound access works again")
			}
		}
	}
}
