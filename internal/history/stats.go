package history

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/go-json-experiment/json" // which takes a fifth of the time that encoding/json does
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

const (
	// MaxBuckets is how many buckets one call answers.
	MaxBuckets = 1000
	// restRead is how many deliveries that are not counted yet a call reads, and restOfEach how many of each webhook at least.
	// A pass over the budgets counts them within half a minute.
	restRead, restOfEach = 20_000, 200
	// statsAtOnce is how many rows of delivery_stats one statement reads.
	statsAtOnce = 5_000
	// maxStatsAge is how far back statistics go, which keeps the arithmetic of times from overflowing.
	maxStatsAge = 100 * 366 * dayStep
)

// BucketSizes are the lengths of the buckets of statistics, as they are written.
var BucketSizes = []string{"1m", "5m", "15m", "1h", "6h", "1d"}

var bucketLengths = []time.Duration{minuteStep, 5 * minuteStep, 15 * minuteStep, hourStep, 6 * hourStep, dayStep}

// ParseBucket reads a length of BucketSizes; 0: it is none.
func ParseBucket(size string) time.Duration {
	if i := slices.Index(BucketSizes, size); i >= 0 {
		return bucketLengths[i]
	}
	return 0
}

// BucketSize writes what ParseBucket reads.
func BucketSize(length time.Duration) string { return BucketSizes[slices.Index(bucketLengths, length)] }

// StatsQuery asks what the deliveries of some webhooks come to, in buckets of a span.
type StatsQuery struct {
	WebhookIDs []uuid.UUID
	// From and To are whole buckets, in UTC.
	From, To time.Time
	Bucket   time.Duration
}

// NewStatsQuery asks for a span widened to whole buckets: nil stands for the 24 hours up to now, and a length of 0 for one that
// suits the span. Its error is a *webhook.InvalidError whose fields are from, to and bucket.
func NewStatsQuery(from, to *time.Time, bucket time.Duration, now time.Time) (StatsQuery, error) {
	q := StatsQuery{To: now, Bucket: bucket}
	if to != nil {
		q.To = *to
	}
	q.From = q.To.Add(-dayStep)
	if from != nil {
		q.From = *from
	}
	return q, q.complete(now)
}

func (q *StatsQuery) complete(now time.Time) error {
	var faults problem.Faults
	for field, at := range map[string]time.Time{"from": q.From, "to": q.To} {
		if now.Sub(at).Abs() > maxStatsAge {
			faults.Add(field, "must be within a century of now")
		}
	}
	if !faults.Any() && !q.From.Before(q.To) {
		faults.Add("from", "must be before to")
	}
	if faults.Any() {
		return faults.Err()
	}
	field := "bucket"
	byMinute := now.Sub(q.From) <= MinutesKept+minuteStep
	if q.Bucket == 0 {
		field, q.Bucket = "from", usualBucket(q.To.Sub(q.From), byMinute)
	}
	if q.Bucket < hourStep && !byMinute {
		return webhook.Invalid(field, fmt.Sprintf("must be 1h or longer for a span that began more than %.0f hours ago", MinutesKept.Hours()))
	}
	if end := q.To.UTC().Truncate(q.Bucket); end.Before(q.To) {
		q.To = end.Add(q.Bucket)
	}
	q.From, q.To = q.From.UTC().Truncate(q.Bucket), q.To.UTC()
	if n := q.To.Sub(q.From) / q.Bucket; n > MaxBuckets {
		return webhook.Invalid(field, fmt.Sprintf("makes %d buckets; at most %d are allowed: choose longer buckets or a shorter span", n, MaxBuckets))
	}
	return nil
}

// usualBucket makes some dozens of buckets.
func usualBucket(span time.Duration, byMinute bool) time.Duration {
	switch {
	case span <= 2*hourStep && byMinute:
		return minuteStep
	case span <= 8*dayStep:
		return hourStep
	}
	return dayStep
}

// step is the step of delivery_stats that the buckets are made of.
func (q *StatsQuery) step() time.Duration {
	switch {
	case q.Bucket < hourStep:
		return minuteStep
	case q.Bucket < dayStep:
		return hourStep
	}
	return dayStep
}

// Bucket is what the deliveries come to that were attempted in a part of a span.
type Bucket struct {
	Start time.Time
	Tally
}

// Buckets reads what deliveries come to, in buckets from the first to the last: as the query says.
func (r *Reader) Buckets(ctx context.Context, q StatsQuery) ([]Bucket, error) {
	buckets := make([]Bucket, q.To.Sub(q.From)/q.Bucket)
	for i := range buckets {
		buckets[i].Start = q.From.Add(time.Duration(i) * q.Bucket)
	}
	add := func(at time.Time, tally *Tally) {
		if i := at.Sub(q.From) / q.Bucket; !at.Before(q.From) && int(i) < len(buckets) {
			buckets[i].Add(tally)
		}
	}
	// Of one moment, so that what is being counted is not left out, nor counted twice.
	err := db.WithSnapshot(ctx, r.Pool, func(tx pgx.Tx) error {
		if err := q.eachCounted(ctx, tx, add); err != nil {
			return err
		}
		rest, err := db.New().TallyDeliveries(ctx, tx, db.TallyDeliveriesParams{
			WebhookIds: q.WebhookIDs, Upto: math.MaxInt64, MostRead: restOf(len(q.WebhookIDs)), Bounds: durationBounds,
		})
		for _, row := range rest {
			add(row.Minute, tallyOf(row))
		}
		return err
	})
	return buckets, err
}

// Rows is how many rows of delivery_stats the answer is made of at most.
func (q *StatsQuery) Rows() int {
	return len(q.WebhookIDs) * int(q.To.Sub(q.From)/q.step())
}

// eachCounted reads the rows of delivery_stats, some thousand at once, so that any number of them takes little memory.
func (q *StatsQuery) eachCounted(ctx context.Context, tx db.DBTX, add func(at time.Time, tally *Tally)) error {
	span := q.step() * time.Duration(max(statsAtOnce/max(len(q.WebhookIDs), 1), 1))
	for since := q.From; since.Before(q.To); since = since.Add(span) {
		until := since.Add(span)
		if until.After(q.To) {
			until = q.To
		}
		rows, err := db.New().StatsOf(ctx, tx, db.StatsOfParams{WebhookIds: q.WebhookIDs, Step: int32(q.step().Seconds()), Since: since, Until: until})
		if err != nil {
			return err
		}
		for _, row := range rows {
			var tally Tally
			if err := json.Unmarshal(row.Tally, &tally); err != nil {
				return err
			}
			add(row.Start, &tally)
		}
	}
	return nil
}

// restOf is how many deliveries that are not counted yet are read of each of so many webhooks.
func restOf(webhooks int) int32 {
	return int32(max(restRead/max(webhooks, 1), restOfEach))
}

// Last is a webhook's last delivery, or its last failure.
type Last struct {
	ID          uuid.UUID `json:"id"`
	EventID     string    `json:"eventId"`
	EventType   string    `json:"eventType"`
	Attempt     int       `json:"attempt"`
	Success     bool      `json:"success"`
	StatusCode  *int      `json:"statusCode"`
	Error       *string   `json:"error"`
	DurationMs  int       `json:"durationMs"`
	AttemptedAt time.Time `json:"attemptedAt"`
}

// summaryHours are the hours of a Summary: the present one and those before it.
const summaryHours = 24

// Summary says how a webhook has been doing.
type Summary struct {
	LastDelivery, LastFailure *Last // nil: there is none that is kept
	// Hours are the present hour and the 23 before it, the oldest first, without errors and types; Day is their sum.
	Hours []Bucket
	Day   Tally
	// RemovedBefore is until when deliveries were removed for the bot's budget; nil: none were.
	RemovedBefore *time.Time
}

// Summaries say how some webhooks have been doing, by one statement.
func (r *Reader) Summaries(ctx context.Context, webhookIDs []uuid.UUID) (map[uuid.UUID]*Summary, error) {
	since := time.Now().UTC().Truncate(hourStep).Add(-(summaryHours - 1) * hourStep)
	rows, err := db.New().WebhookSummaries(ctx, r.Pool, db.WebhookSummariesParams{
		WebhookIds: webhookIDs, Since: since, Bounds: durationBounds, MostRead: restOf(len(webhookIDs)),
	})
	if err != nil {
		return nil, err
	}
	summaries := make(map[uuid.UUID]*Summary, len(rows))
	for _, row := range rows {
		summary, err := summaryOf(row, since)
		if err != nil {
			return nil, err
		}
		summaries[row.ID] = summary
	}
	return summaries, nil
}

func summaryOf(row db.WebhookSummariesRow, since time.Time) (*Summary, error) {
	s := &Summary{Hours: make([]Bucket, summaryHours), RemovedBefore: row.RemovedBefore}
	var uncounted []struct {
		Minute  time.Time
		Success bool
		Ms      int32
		N       int
	}
	for _, part := range []struct {
		raw  []byte
		into any
	}{{row.LastDelivery, &s.LastDelivery}, {row.LastFailure, &s.LastFailure}, {row.Uncounted, &uncounted}} {
		if part.raw == nil {
			continue
		}
		if err := json.Unmarshal(part.raw, part.into, json.MatchCaseInsensitiveNames(true)); err != nil {
			return nil, err
		}
	}
	for i := range s.Hours {
		s.Hours[i].Start = since.Add(time.Duration(i) * hourStep)
	}
	add := func(at time.Time, tally *Tally) {
		s.Hours[min(at.Sub(since)/hourStep, summaryHours-1)].Add(tally) // a little later than now, by another clock
		s.Day.Add(tally)
	}
	for i, raw := range row.Counted {
		var counted struct { // the rest is not decoded
			Delivered int           `json:"delivered"`
			Failed    int           `json:"failed"`
			Durations map[int32]int `json:"durations"`
		}
		if err := json.Unmarshal(raw, &counted); err != nil {
			return nil, err
		}
		add(row.CountedStarts[i], &Tally{Delivered: counted.Delivered, Failed: counted.Failed, Durations: counted.Durations})
	}
	for _, row := range uncounted {
		tally := Tally{Delivered: row.N, Durations: map[int32]int{row.Ms: row.N}}
		if !row.Success {
			tally.Delivered, tally.Failed = 0, row.N
		}
		add(row.Minute, &tally)
	}
	return s, nil
}
