package history

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// failingEvery is how often failing webhooks are looked for, by one of all processes, in seconds.
	failingEvery = 5 * 60
	// failingAttempts is how many attempts of a day it takes to judge by how many of them failed.
	failingAttempts = 20
	// failingPage is how many a pass finds at most; the next one goes on.
	failingPage = 1000
)

// lookForFailing writes notices of webhooks that were found to fail, or to work again, unless a pass was made lately. Processes
// agree on that in Postgres, so each is found once.
func (r *Recorder) lookForFailing(ctx context.Context) error {
	return db.WithTx(ctx, r.pool, func(tx pgx.Tx) error {
		begun, err := r.queries.BeginFailingPass(ctx, tx, failingEvery)
		if err != nil || begun == 0 {
			return err
		}
		if _, err := r.queries.NoticeRecovered(ctx, tx, failingPage); err != nil {
			return err
		}
		_, err = r.queries.NoticeFailing(ctx, tx, db.NoticeFailingParams{
			LeastAttempts: failingAttempts, InARow: webhook.FailingInARow, Mostly: webhook.FailingMostly, Most: failingPage,
		})
		return err
	})
}
