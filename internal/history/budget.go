package history

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
)

// What a bot's history may take, and how it is held to that.
const (
	// DefaultBudgetMiB and DefaultBudgetRows are what a bot's history may take. They leave the busiest bot some days, and a
	// bot that has itself sent tests as fast as it may no more than others.
	DefaultBudgetMiB  = 2048
	DefaultBudgetRows = 5_000_000

	// passEvery is how often histories are held to their budgets, in all processes together; lookEvery is how often a process
	// asks whether it is its turn, and passTime about how long a pass goes on.
	passEvery, lookEvery, passTime = 30 * time.Second, 10 * time.Second, 25 * time.Second
	// countedAtOnce is how many webhooks, and countedOfEach how many deliveries of each, one statement counts.
	countedAtOnce, countedOfEach = 500, 20_000
	// trimmedAtOnce is how many deliveries one statement looks at to make room: some tens of milliseconds.
	trimmedAtOnce = 1000
)

// Budget holds each bot's history to what it may take. Recording does nothing for it: what was recorded is counted
// afterwards, each delivery once. Of what is too much goes, oldest first: the responses and exchanges of successes, then
// their rows, then the failures'.
type Budget struct {
	Pool *pgxpool.Pool
	// Bytes and Deliveries are a bot's; 0 is any number.
	Bytes, Deliveries int64
	Log               *slog.Logger
}

// Run makes passes until ctx ends.
func (b *Budget) Run(ctx context.Context) {
	for {
		begun, err := db.New().BeginPass(ctx, b.Pool, passEvery.Seconds())
		if err == nil && begun > 0 {
			err = b.Pass(ctx)
		}
		if err != nil && ctx.Err() == nil {
			b.Log.Warn("histories are not held to their budgets for now", "error", err)
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return
		}
	}
}

// Pass removes what deleted webhooks have left, counts what is new, and makes room, for about half a minute.
func (b *Budget) Pass(ctx context.Context) error {
	until := time.Now().Add(passTime)
	if err := b.removeLeft(ctx, until); err != nil {
		return fmt.Errorf("remove the history of deleted webhooks: %w", err)
	}
	if err := b.count(ctx); err != nil {
		return fmt.Errorf("count deliveries: %w", err)
	}
	over, err := db.New().BotsOverBudget(ctx, b.Pool, db.BotsOverBudgetParams{MostBytes: b.Bytes, MostDeliveries: b.Deliveries})
	if err != nil {
		return fmt.Errorf("look for histories over their budget: %w", err)
	}
	for i, bot := range over {
		// Each has its share of the time.
		share := time.Until(until) / time.Duration(len(over)-i)
		if err := b.trim(ctx, bot, time.Now().Add(share)); err != nil {
			return fmt.Errorf("hold the history of bot %s to its budget: %w", bot.BotID, err)
		}
	}
	return nil
}

// removeLeft goes on with the deletion of webhooks that had more deliveries than their deletion waits for.
func (b *Budget) removeLeft(ctx context.Context, until time.Time) error {
	q := db.New()
	for after := uuid.Nil; ; {
		deleted, err := q.DeletedWithHistory(ctx, b.Pool, after)
		if err != nil || len(deleted) == 0 {
			return err
		}
		for _, id := range deleted {
			for rows := int64(removalRows); rows == removalRows; {
				began := time.Now()
				if began.After(until) {
					return nil
				}
				if rows, err = q.DeleteDeliveries(ctx, b.Pool, db.DeleteDeliveriesParams{WebhookID: id, Most: removalRows}); err != nil {
					return err
				}
				rest(began)
			}
			if err := q.ForgetHistory(ctx, b.Pool, id); err != nil {
				return err
			}
			after = id
		}
	}
}

// count counts what was recorded since the last pass, webhook by webhook.
func (b *Budget) count(ctx context.Context) error {
	for after := uuid.Nil; ; {
		began := time.Now()
		page, err := db.New().CountHistory(ctx, b.Pool, db.CountHistoryParams{After: after, PageSize: countedAtOnce, MostRead: countedOfEach})
		if err != nil || len(page) < countedAtOnce {
			return err
		}
		after = page[len(page)-1]
		rest(began)
	}
}

// trim makes room in a bot's history, until it is within its budget or the time is over.
func (b *Budget) trim(ctx context.Context, bot db.BotsOverBudgetRow, until time.Time) error {
	before := bot
	for _, step := range []func(context.Context, *db.BotsOverBudgetRow) (more bool, err error){b.strip, b.removeSuccesses, b.removeFailures} {
		for more := true; more && b.isOver(bot) && time.Now().Before(until); {
			began := time.Now()
			var err error
			if more, err = step(ctx, &bot); err != nil {
				return err
			}
			rest(began)
		}
	}
	b.Log.Info("a bot's history was over its budget: the oldest of it was removed", "bot", bot.BotID,
		"deliveries", before.Deliveries-bot.Deliveries, "bytes", before.Bytes-bot.Bytes)
	return nil
}

func (b *Budget) isOver(bot db.BotsOverBudgetRow) bool {
	return b.Bytes > 0 && bot.Bytes > b.Bytes || b.Deliveries > 0 && bot.Deliveries > b.Deliveries
}

// strip is of no use against too many rows.
func (b *Budget) strip(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	if b.Bytes == 0 || bot.Bytes <= b.Bytes {
		return false, nil
	}
	page, err := db.New().StripSuccesses(ctx, b.Pool, db.StripSuccessesParams{BotID: bot.BotID, PageSize: trimmedAtOnce})
	bot.Bytes -= page.Bytes
	return page.LookedAt > 0, err
}

func (b *Budget) removeSuccesses(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	return b.remove(ctx, bot, true)
}

func (b *Budget) removeFailures(ctx context.Context, bot *db.BotsOverBudgetRow) (more bool, err error) {
	return b.remove(ctx, bot, false)
}

func (b *Budget) remove(ctx context.Context, bot *db.BotsOverBudgetRow, successes bool) (more bool, err error) {
	page, err := db.New().RemoveOldest(ctx, b.Pool, db.RemoveOldestParams{BotID: bot.BotID, Success: successes, PageSize: trimmedAtOnce})
	if err == nil && len(page.Tests) > 0 { // which went to nobody else
		_, err = db.New().RemoveEvents(ctx, b.Pool, page.Tests)
	}
	bot.Bytes, bot.Deliveries = bot.Bytes-page.Bytes, bot.Deliveries-page.Deliveries
	return page.LookedAt > 0, err
}

// rest rests as long as what began then took, so that such work uses half of one connection.
func rest(began time.Time) { time.Sleep(max(removalRest, time.Since(began))) }
