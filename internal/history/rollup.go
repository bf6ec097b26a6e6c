package history

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
)

// The table delivery_stats adds up deliveries by these steps: what is read of it for a chart is some hundred rows, however
// many deliveries there were.
const (
	minuteStep, hourStep, dayStep = time.Minute, time.Hour, 24 * time.Hour

	// MinutesKept is for how long what happened is known to the minute.
	MinutesKept = 24 * time.Hour
	// removedStats is how many rows one statement removes.
	removedStats = 1000
)

var statSteps = []time.Duration{minuteStep, hourStep, dayStep}

// statKey names a row of delivery_stats.
type statKey struct {
	webhook uuid.UUID
	step    int32 // seconds
	start   time.Time
}

// sizeKey names a row of history_sizes.
type sizeKey struct {
	webhook uuid.UUID
	span    int32
}

func rowAt[K comparable](rows map[K]*db.TallyDeliveriesRow, key K) *db.TallyDeliveriesRow {
	if rows[key] == nil {
		rows[key] = &db.TallyDeliveriesRow{}
	}
	return rows[key]
}

// countPage counts the new deliveries of some webhooks, up to a seq, and adds them to what their deliveries come to. more:
// one of them has others. The watermark moves in the same transaction, so that each delivery is counted once.
func countPage(ctx context.Context, q *db.Queries, tx pgx.Tx, ids []uuid.UUID, upto int64) (more bool, err error) {
	if len(ids) == 0 {
		return false, nil
	}
	if err := q.LockUsage(ctx, tx, ids); err != nil {
		return false, err
	}
	groups, err := q.TallyDeliveries(ctx, tx, db.TallyDeliveriesParams{WebhookIds: ids, Upto: upto, MostRead: countedOfEach, Bounds: durationBounds})
	if err != nil {
		return false, err
	}
	counted, uptos, tallies := map[sizeKey]*db.TallyDeliveriesRow{}, map[uuid.UUID]*db.TallyDeliveriesRow{}, map[statKey]*Tally{}
	for _, group := range groups {
		size, all := rowAt(counted, sizeKey{group.WebhookID, group.Span}), rowAt(uptos, group.WebhookID)
		size.Deliveries += group.Deliveries
		size.Bytes += group.Bytes
		all.Deliveries += group.Deliveries
		all.Upto = max(all.Upto, group.Upto)
		more = more || all.Deliveries >= countedOfEach
		tally := tallyOf(group)
		for _, step := range statSteps {
			key := statKey{group.WebhookID, int32(step.Seconds()), group.Minute.UTC().Truncate(step)}
			if tallies[key] == nil {
				tallies[key] = new(Tally)
			}
			tallies[key].Add(tally)
		}
	}
	if err := addStats(ctx, q, tx, tallies); err != nil {
		return false, err
	}
	var count db.CountHistoryParams
	for key, size := range counted {
		count.WebhookIds, count.Spans, count.Uptos = append(count.WebhookIds, key.webhook), append(count.Spans, key.span), append(count.Uptos, uptos[key.webhook].Upto)
		count.Deliveries, count.Bytes = append(count.Deliveries, size.Deliveries), append(count.Bytes, size.Bytes)
	}
	return more, q.CountHistory(ctx, tx, count)
}

// addStats adds tallies to the rows of delivery_stats. No other pass writes them meanwhile.
func addStats(ctx context.Context, q *db.Queries, tx pgx.Tx, tallies map[statKey]*Tally) error {
	var at db.StatsAtParams
	for key := range tallies {
		at.WebhookIds, at.Steps, at.Starts = append(at.WebhookIds, key.webhook), append(at.Steps, key.step), append(at.Starts, key.start)
	}
	present, err := q.StatsAt(ctx, tx, at)
	if err != nil {
		return err
	}
	for _, row := range present {
		var before Tally
		if err := json.Unmarshal(row.Tally, &before); err != nil {
			return err
		}
		tallies[statKey{row.WebhookID, row.Step, row.Start.UTC()}].Add(&before)
	}
	texts := make([]string, len(at.Starts))
	for i := range texts {
		text, err := json.Marshal(tallies[statKey{at.WebhookIds[i], at.Steps[i], at.Starts[i]}])
		if err != nil {
			return err
		}
		texts[i] = string(text)
	}
	return q.WriteStats(ctx, tx, db.WriteStatsParams{WebhookIds: at.WebhookIds, Steps: at.Steps, Starts: at.Starts, Tallies: texts})
}

// removeMinutes removes what is known to the minute and need not be any more, for about so long.
func (p *pass) removeMinutes(ctx context.Context, until time.Time) error {
	now, err := db.ReadClock(ctx, p.Pool)
	if err != nil {
		return err
	}
	before := db.Earlier(now).Add(-MinutesKept - hourStep) // so that a span of MinutesKept may begin at a full hour
	for more := true; more && time.Now().Before(until); {
		err := p.step(ctx, func(q *db.Queries, tx pgx.Tx) error {
			n, err := q.RemoveStats(ctx, tx, db.RemoveStatsParams{Step: int32(minuteStep.Seconds()), Before: before, Most: removedStats})
			more = n == removedStats
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeStats removes what deliveries before a time came to, for about so long.
func (r *Remover) removeStats(ctx context.Context, before, until time.Time) error {
	for _, step := range statSteps {
		for n := int64(removedStats); n == removedStats && time.Now().Before(until); {
			began := time.Now()
			var err error
			n, err = db.New().RemoveStats(ctx, r.Pool, db.RemoveStatsParams{Step: int32(step.Seconds()), Before: before.Add(-step), Most: removedStats})
			if err != nil {
				return err
			}
			rest(began)
		}
	}
	return nil
}
