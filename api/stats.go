package api

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
)

// GetStats serves GET /stats.
func (s *server) GetStats(c *gin.Context, _ GetStatsParams) {
	s.answer(c, func() (reply, error) {
		query, err := s.readStats(c)
		if err != nil {
			return reply{}, err
		}
		end, err := s.beginStats(c, query.Rows())
		if err != nil {
			return reply{}, err
		}
		defer end()
		buckets, err := s.history.Buckets(c, query)
		if err != nil {
			return reply{}, err
		}
		answer := DeliveryStats{From: timestamp(query.From), To: timestamp(query.To), Bucket: history.BucketSize(query.Bucket), Buckets: make([]StatsBucket, len(buckets))}
		for i := range buckets {
			answer.Buckets[i] = toBucket(&buckets[i])
		}
		return ok(answer), nil
	})
}

const (
	// fewStats is how many rows of statistics a call reads that need not wait for its turn, as those of one webhook: some 10 ms of the
	// processors, since a bot may ask ten times a second.
	fewStats = 1_500
	// ofAll stands beside the bots' ids for the whole process.
	ofAll = ""
)

var errStatsBusy = &problem.Error{Kind: problem.TooManyRequests, Detail: "Other calls for many statistics are in progress. Try again, or ask for one webhook, a shorter span, or longer buckets."}

// beginStats waits for the turn of a call that reads so many rows of statistics, which lasts until end is called. One of a bot, and one
// in the process, reads many at once: of 50 webhooks by the minute, a day takes the processors half a second, and memory.
func (s *server) beginStats(c *gin.Context, rows int) (end func(), err error) {
	if rows <= fewStats {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(clientContext(c), callPatience)
	defer cancel()
	bot := botID(c)
	if !s.stats.begin(ctx, bot) {
		return nil, errStatsBusy
	}
	if !s.stats.begin(ctx, ofAll) {
		s.stats.end(bot)
		return nil, errStatsBusy
	}
	return func() {
		s.stats.end(ofAll)
		s.stats.end(bot)
	}, nil
}

// readStats reads which counts are asked for.
func (s *server) readStats(c *gin.Context) (stats history.StatsQuery, err error) {
	q, err := readQuery(c, "webhookId", "from", "to", "bucket")
	if err != nil {
		return stats, err
	}
	from, to, bucket := q.time("from"), q.time("to"), time.Duration(0)
	if size, given := q.text("bucket"); given {
		if bucket = history.ParseBucket(size); bucket == 0 {
			q.Add("bucket", "must be one of: "+strings.Join(history.BucketSizes, ", "))
		}
	}
	if !q.Any() {
		stats, err = history.NewStatsQuery(from, to, bucket, time.Now())
		q.Check(err)
	}
	text, given := q.text("webhookId")
	if !given {
		if err := q.Err(); err != nil {
			return stats, err
		}
		stats.WebhookIDs, err = s.webhooks.IDs(c, botID(c))
		return stats, err
	}
	w, err := s.owned(c, text)
	if problem.Is(err, problem.NotFound) {
		q.Add("webhookId", "must be the id of a webhook of the bot")
	} else if err != nil {
		return stats, err
	}
	stats.WebhookIDs = []uuid.UUID{w.ID}
	return stats, q.Err()
}

func toBucket(b *history.Bucket) StatsBucket {
	view := StatsBucket{Start: timestamp(b.Start), Delivered: b.Delivered, Failed: b.Failed, ByError: b.ByError, ByType: b.ByType}
	if view.ByError == nil {
		view.ByError = map[string]int{}
	}
	if view.ByType == nil {
		view.ByType = map[string]int{}
	}
	if b.Total() > 0 {
		p50, p95 := b.Percentile(0.5), b.Percentile(0.95)
		view.P50, view.P95 = &p50, &p95
	}
	return view
}

// webhookDetail is a webhook with how it has been doing.
type webhookDetail struct {
	Webhook
	HistoryRemovedBefore *timestamp    `json:"historyRemovedBefore,omitempty"`
	Stats                Stats         `json:"stats"`
	LastDelivery         *LastDelivery `json:"lastDelivery"`
	LastError            *LastDelivery `json:"lastError"`
}

// details are webhooks with how they have been doing.
func (s *server) details(ctx context.Context, webhooks []db.Webhook) ([]webhookDetail, error) {
	ids := make([]uuid.UUID, len(webhooks))
	for i, w := range webhooks {
		ids[i] = w.ID
	}
	summaries, err := s.history.Summaries(ctx, ids)
	if err != nil {
		return nil, err
	}
	paused, err := s.webhooks.Pauses().Covering(ctx, ids)
	if err != nil {
		return nil, err
	}
	details := make([]webhookDetail, len(webhooks))
	for i, w := range webhooks {
		of := summaries[w.ID]
		details[i] = webhookDetail{
			Webhook: s.view(w, paused), HistoryRemovedBefore: (*timestamp)(of.RemovedBefore), Stats: toStats(of),
			LastDelivery: toLast(of.LastDelivery), LastError: toLast(of.LastFailure),
		}
	}
	return details, nil
}

func toStats(of *history.Summary) Stats {
	stats := Stats{Deliveries24H: of.Day.Total(), Hours24H: make([]HourCount, len(of.Hours))}
	for i, hour := range of.Hours {
		stats.Hours24H[i] = HourCount{Delivered: hour.Delivered, Failed: hour.Failed}
	}
	if n := of.Day.Total(); n > 0 {
		rate := math.Round(1e4*float64(of.Day.Delivered)/float64(n)) / 1e4
		p95 := of.Day.Percentile(0.95)
		stats.SuccessRate24H, stats.P95DurationMs24H = &rate, &p95
	}
	return stats
}

func toLast(l *history.Last) *LastDelivery {
	if l == nil {
		return nil
	}
	return &LastDelivery{
		ID: l.ID, EventID: l.EventID, EventType: l.EventType, Attempt: l.Attempt, Success: l.Success, StatusCode: l.StatusCode,
		Error: l.Error, DurationMs: l.DurationMs, AttemptedAt: timestamp(l.AttemptedAt),
	}
}
