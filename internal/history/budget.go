package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

// What a bot's history may take, and how it is held to that.
const (
	// DefaultBudgetMiB and DefaultBudgetRows are what a bot's history may take. They leave the busiest bot some days, and a
	// bot that has itself sent tests as fast as it may no more than others.
	DefaultBudgetMiB  = 2048
	DefaultBudgetRows = 5_000_000

	// passRest is for how long no pass has done anything when the next begins, in all processes together, and lookEvery how
	// often a process asks whether it is its turn.
	passRest, lookEvery = 15 * time.Second, 10 * time.Second
	// lookBack is how old the events are of which a pass looks for new deliveries: it need not look into all partitions for each
	// webhook. One in passesToLookBack looks for those of older events too, each ten minutes or so.
	lookBack, passesToLookBack = 3 * 24 * time.Hour, 20
	// leftTime is about how long a pass removes what deleted webhooks have left, minutesTime how long it removes statistics by
	// the minute, and trimTime how long it makes room: none takes another's.
	leftTime, minutesTime, trimTime = 8 * time.Second, 2 * time.Second, 15 * time.Second
	// settleTime is how long a pass waits for transactions that are recording, and settlePoll how often it looks.
	settleTime, settlePoll = 2 * time.Second, 20 * time.Millisecond
	// countedAtOnce is how many webhooks, and countedOfEach how many deliveries of each, one statement counts.
	countedAtOnce, countedOfEach = 500, 20_000
	// trimmedAtOnce is how many deliveries one statement looks at to make room: some tens of milliseconds.
	trimmedAtOnce = 1000
)

// Budget holds each bot's history to what it may take, and adds up what its deliveries come to. Recording does nothing for it:
// what was recorded is counted afterwards, each delivery once. Of what is too much goes, oldest first: the responses and exchanges of successes, then
// their rows, then the failures'.
type Budget struct {
	Pool *pgxpool.Pool
	// Bytes and Deliveries are a bot's; 0 is any number.
	Bytes, Deliveries int64
	// Retention is how long everything is kept. What is kept for ever (0) needs no new partitions, as these are made to be dropped.
	Retention webhook.Retention
	Log       *slog.Logger
}

// Run makes passes until ctx ends.
func (b *Budget) Run(ctx context.Context) {
	for {
		if err := b.pass(ctx, passRest); err != nil && ctx.Err() == nil {
			b.Log.Warn("could not hold histories to their budgets; retrying", "error", err)
		}
		if !sleep.For(ctx, lookEvery) {
			return
		}
	}
}

// Pass removes what deleted webhooks have left, counts what is new, and makes room, for about half a minute. A pass that
// another process is making ends.
func (b *Budget) Pass(ctx context.Context) error { return b.pass(ctx, 0) }

// pass makes a pass if none has done anything for so long. What one part of it cannot do keeps none of the others from being
// done.
func (b *Budget) pass(ctx context.Context, idle time.Duration) error {
	number, err := db.New().BeginPass(ctx, b.Pool, idle.Seconds())
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("begin a pass: %w", err)
	}
	p := &pass{Budget: b, number: number}
	if idle > 0 && number%passesToLookBack != 0 {
		p.since = time.Now().Add(-lookBack)
	}
	err = errors.Join(
		MakePartitions(ctx, b.Pool, b.Retention),
		describe(p.removeLeft(ctx, time.Now().Add(leftTime)), "remove the history of deleted webhooks"),
		describe(p.count(ctx), "count deliveries"),
		describe(p.removeMinutes(ctx, time.Now().Add(minutesTime)), "remove old statistics"),
		describe(p.makeRoom(ctx), "make room"),
	)
	if errors.Is(err, errSuperseded) {
		return nil
	}
	return err
}

// pass is one pass of a Budget.
type pass struct {
	*Budget
	number int64
	// since is from when on events were accepted whose deliveries are looked for; zero: ever.
	since time.Time
}

// errSuperseded: another pass has begun, as this one did nothing for long.
var errSuperseded = errors.New("another pass has begun")

// step makes a step of the pass, unless another pass has begun; none begins meanwhile. Then it rests for as long as the step
// took.
func (p *pass) step(ctx context.Context, f func(q *db.Queries, tx pgx.Tx) error) error {
	began := time.Now()
	q := db.New()
	err := db.WithTx(ctx, p.Pool, func(tx pgx.Tx) error {
		n, err := q.RenewPass(ctx, tx, p.number)
		if err == nil && n == 0 {
			err = errSuperseded
		}
		if err != nil {
			return err
		}
		return f(q, tx)
	})
	if err == nil {
		rest(began)
	}
	return err
}

// removeLeft goes on with the deletion of webhooks that had more deliveries than their deletion waits for.
func (p *pass) removeLeft(ctx context.Context, until time.Time) error {
	for after := uuid.Nil; ; {
		deleted, err := db.New().DeletedWithHistory(ctx, p.Pool, after)
		if err != nil || len(deleted) == 0 {
			return err
		}
		for _, id := range deleted {
			for more := true; more; {
				if time.Now().After(until) {
					return nil
				}
				if more, err = p.removeLeftOf(ctx, id); err != nil {
					return err
				}
			}
			after = id
		}
	}
}

// removeLeftOf removes some of what a deleted webhook has left.
func (p *pass) removeLeftOf(ctx context.Context, id uuid.UUID) (more bool, err error) {
	err = p.step(ctx, func(q *db.Queries, tx pgx.Tx) error {
		n, err := q.DeleteDeliveries(ctx, tx, db.DeleteDeliveriesParams{WebhookID: id, Most: removalRows})
		if more = n == removalRows; more || err != nil {
			return err
		}
		if err := q.ForgetStats(ctx, tx, id); err != nil {
			return err
		}
		return q.ForgetHistory(ctx, tx, id)
	})
	return more, err
}

// count counts what was recorded since the last pass, webhook by webhook.
func (p *pass) count(ctx context.Context) error {
	upto, err := p.settled(ctx)
	if err != nil {
		return err
	}
	for after := uuid.Nil; ; {
		var page []db.WebhooksToCountRow
		var more bool
		err := p.step(ctx, func(q *db.Queries, tx pgx.Tx) (err error) {
			page, err = q.WebhooksToCount(ctx, tx, db.WebhooksToCountParams{After: after, PageSize: countedAtOnce, Upto: upto, Since: p.since})
			if err != nil {
				return err
			}
			var ids []uuid.UUID
			for _, w := range page {
				if w.HasNew {
					ids = append(ids, w.ID)
				}
			}
			more, err = countPage(ctx, q, tx, ids, upto)
			return err
		})
		switch {
		case err != nil:
			return err
		case more: // of the same webhooks
		case len(page) < countedAtOnce:
			return nil
		default:
			after = page[len(page)-1].ID
		}
	}
}

// settled returns a seq below which no delivery can be committed any more. Deliveries are not committed in the order of their
// seqs, and one that is committed below a counted seq would never be counted.
func (p *pass) settled(ctx context.Context) (seq int64, err error) {
	q := db.New()
	last, err := q.LastSeq(ctx, p.Pool)
	if err == nil && !last.MayRead {
		err = errors.New("the database role lacks USAGE on the sequence deliveries_seq_seq; see db/roles.sql")
	}
	if err != nil {
		return 0, err
	}
	open, err := q.DeliveryWriters(ctx, p.Pool) // after the seq was read: who has it is among them, or has ended
	for until := time.Now().Add(settleTime); err == nil && len(open) > 0; {
		if time.Now().After(until) {
			return 0, fmt.Errorf("%d transactions that write to the history have been open for %s", len(open), settleTime)
		}
		if !sleep.For(ctx, settlePoll) {
			return 0, ctx.Err()
		}
		var still []string
		still, err = q.DeliveryWriters(ctx, p.Pool)
		open = slices.DeleteFunc(open, func(transaction string) bool { return !slices.Contains(still, transaction) })
	}
	return last.Seq, err
}

// makeRoom makes room in the histories that are over their budgets.
func (p *pass) makeRoom(ctx context.Context) error {
	over, err := db.New().BotsOverBudget(ctx, p.Pool, db.BotsOverBudgetParams{MostBytes: p.Bytes, MostDeliveries: p.Deliveries})
	if err != nil {
		return err
	}
	until := time.Now().Add(trimTime)
	for i, bot := range over {
		// Each has its share of the time.
		share := time.Until(until) / time.Duration(len(over)-i)
		if err := p.trim(ctx, bot, time.Now().Add(share)); err != nil {
			return fmt.Errorf("bot %s: %w", bot.BotID, err)
		}
	}
	return nil
}

// trim makes room in a bot's history, until it is within its budget or the time is over.
func (p *pass) trim(ctx context.Context, bot db.BotsOverBudgetRow, until time.Time) (err error) {
	before := bot
	defer func() {
		if bot != before {
			p.Log.Info("removed the oldest history of a bot over its budget", "bot", bot.BotID,
				"deliveries", before.Deliveries-bot.Deliveries, "bytes", before.Bytes-bot.Bytes)
		}
	}()
	for _, part := range []func(context.Context, *db.BotsOverBudgetRow) (more bool, err error){p.strip, p.removeSuccesses, p.removeFailures} {
		for more := true; more && p.isOver(bot) && time.Now().Before(until); {
			if more, err = part(ctx, &bot); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) isOver(bot db.BotsOverBudgetRow) bool {
	return p.Bytes > 0 && bot.Bytes > p.Bytes || p.Deliveries > 0 && bot.Deliveries > p.Deliveries
}

// strip is of no use against too many rows.
func (p *pass) strip(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	if p.Bytes == 0 || bot.Bytes <= p.Bytes {
		return false, nil
	}
	var page db.StripSuccessesRow
	err = p.step(ctx, func(q *db.Queries, tx pgx.Tx) (err error) {
		page, err = q.StripSuccesses(ctx, tx, db.StripSuccessesParams{BotID: bot.BotID, PageSize: trimmedAtOnce})
		return err
	})
	if err != nil {
		return false, err
	}
	bot.Bytes -= page.Bytes
	return page.LookedAt > 0, nil
}

func (p *pass) removeSuccesses(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	return p.remove(ctx, bot, true)
}

func (p *pass) removeFailures(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	return p.remove(ctx, bot, false)
}

func (p *pass) remove(ctx context.Context, bot *db.BotsOverBudgetRow, successes bool) (more bool, err error) {
	var page db.RemoveOldestRow
	err = p.step(ctx, func(q *db.Queries, tx pgx.Tx) (err error) {
		page, err = q.RemoveOldest(ctx, tx, db.RemoveOldestParams{BotID: bot.BotID, Success: successes, PageSize: trimmedAtOnce})
		if err == nil && len(page.Tests) > 0 { // which went to nobody else
			_, err = q.RemoveEvents(ctx, tx, page.Tests)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	bot.Bytes, bot.Deliveries = bot.Bytes-page.Bytes, bot.Deliveries-page.Deliveries
	if !successes { // the next page would be the same
		return page.Deliveries > 0, nil
	}
	return page.LookedAt > 0, nil
}

// rest rests as long as what began then took, so that such work uses half of one connection.
func rest(began time.Time) { time.Sleep(max(removalRest, time.Since(began))) }
