package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const statsPath = "/api/bot/v1/stats"

// deliver records a delivery of a webhook so long ago.
func (a *testAPI) deliver(hook, eventType string, ago time.Duration, ms int, failure string) (id string) {
	a.t.Helper()
	a.execute("INSERT INTO events (id, type, payload, run_id) VALUES ($1, $1, '{}', 'run') ON CONFLICT DO NOTHING", eventType)
	id = webhook.DeliveryID(time.Now(), uuid.New()).String()
	a.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
		VALUES ($1, $2, $3, 1, $4 = '', NULLIF($4, ''), $5, now() - make_interval(secs => $6))`, id, hook, eventType, failure, ms, ago.Seconds())
	return id
}

// TestGetStats: of a webhook and of all of a bot's, of what is counted already and what is not yet.
func TestGetStats(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	one, two, strangers := a.hook(key), a.hook(key), a.hook(stranger)
	budget := &history.Budget{Pool: a.pool, Log: slog.New(slog.DiscardHandler)}
	for round := range 2 {
		a.deliver(one, "post.created", 0, 10, "")
		a.deliver(one, "post.created", 0, 10, "")
		a.deliver(one, "mention", 0, 10, "timeout")
		a.deliver(one, "mention", 3*time.Hour, 10, "connection refused")
		a.deliver(two, "mention", 0, 10, "")
		a.deliver(strangers, "mention", 0, 10, "")
		for query, want := range map[string]map[string]int{
			"":                                  {"delivered": 3, "failed": 2, "mention": 3, "post.created": 2, "timeout": 1, "connection": 1},
			"?webhookId=" + one:                 {"delivered": 2, "failed": 2, "mention": 2, "post.created": 2, "timeout": 1, "connection": 1},
			"?webhookId=" + two + "&bucket=1d":  {"delivered": 1, "mention": 1},
			"?webhookId=" + one + "&bucket=15m": {"delivered": 2, "failed": 2, "mention": 2, "post.created": 2, "timeout": 1, "connection": 1},
			"?from=" + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339):   {"delivered": 3, "failed": 1, "mention": 2, "post.created": 2, "timeout": 1},
			"?to=" + time.Now().Add(-2*time.Hour).UTC().Format(time.RFC3339):   {"failed": 1, "mention": 1, "connection": 1},
			"?to=" + time.Now().Add(-400*time.Hour).UTC().Format(time.RFC3339): {},
		} {
			got := a.do("GET", statsPath+query, key, nil)
			require.Equal(t, http.StatusOK, got.status, "%s: %s", query, got.body)
			var stats mathub.DeliveryStats
			got.into(t, &stats)
			sum := map[string]int{}
			for i, b := range stats.Buckets {
				for name, n := range map[string]int{"delivered": b.Delivered, "failed": b.Failed} {
					if n > 0 {
						sum[name] += n
					}
				}
				for _, counts := range []map[string]int{b.ByError, b.ByType} {
					for name, n := range counts {
						sum[name] += n
					}
				}
				require.Equal(t, b.Delivered+b.Failed > 0, b.P50 != nil && *b.P50 == 10 && b.P95 != nil && *b.P95 == 10, "%+v", b)
				if i > 0 {
					require.Equal(t, stats.Buckets[1].Start.Sub(stats.Buckets[0].Start), b.Start.Sub(stats.Buckets[i-1].Start))
				}
			}
			for name := range want {
				want[name] *= round + 1
			}
			require.Equal(t, want, sum, query)
		}
		require.NoError(t, budget.Pass(t.Context()))
	}
	_, none := a.bot()
	require.Equal(t, http.StatusOK, a.do("GET", statsPath, none, nil).status)
}

// TestManyStatisticsAreCountedInTurn: of 50 webhooks by the minute, a day takes half a second of a processor and some tens of MiB. A bot
// that asks for that ten times at once, and two others, had everybody's calls and the backend's emits answered 503. Of four webhooks,
// which take some 50 ms, two bots did so by eight calls a second each.
func TestManyStatisticsAreCountedInTurn(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	keys := make([]string, 2)
	for i := range keys {
		_, keys[i] = a.bot()
		for range 2 { // each of 1,440 minutes
			a.hook(keys[i])
		}
	}
	tx, err := a.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "LOCK TABLE delivery_stats IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	const of = 3
	statuses := make(chan int, 2*of)
	for _, key := range keys {
		for range of {
			go func() { statuses <- a.do("GET", statsPath+"?bucket=15m", key, nil).status }()
		}
	}
	tally := map[int]int{}
	for range 2*of - 1 {
		tally[<-statuses]++
	}
	require.NoError(t, tx.Commit(t.Context()))
	tally[<-statuses]++
	require.Equal(t, 2*of-1, tally[http.StatusTooManyRequests], "one is counted, which may run out of time first: %v", tally)
	require.Equal(t, http.StatusOK, a.do("GET", statsPath+"?bucket=15m", keys[0], nil).status, "the next one")
}

func TestGetStats_Faults(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	_, stranger := a.bot()
	strangers := a.hook(stranger)
	for query, fields := range map[string][]string{
		"webhookId=" + strangers: {"webhookId"}, "webhookId=" + uuid.NewString(): {"webhookId"}, "webhookId=x": {"webhookId"}, "webhookId=": {"webhookId"},
		"from=yesterday": {"from"}, "to=1700000000": {"to"}, "from=&to=": {"from", "to"}, "from=2025-03-20T10:30:00": {"from"}, "from=0001-01-01T00:00:00Z": {"from"},
		"bucket=1h&bucket=1h": {"bucket"}, "bucket=2h": {"bucket"}, "bucket=0": {"bucket"}, "bucket=-1h": {"bucket"}, "bucket=1m": {"bucket"}, "bucket=": {"bucket"},
		"from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": {"from"}, "from=2020-01-01T00:00:00Z": {"from"}, "from=2026-01-01T00:00:00Z&bucket=5m": {"bucket"},
		"interval=1h": {"interval"}, "webhookId=x&from=x&to=x&bucket=x": {"from", "to", "bucket", "webhookId"},
	} {
		got := a.do("GET", statsPath+"?"+query, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, query)
		require.Equal(t, fields, got.fields(t), query)
	}
	require.Contains(t, string(a.do("GET", statsPath+"?bucket=2h", key, nil).body), "1m, 5m, 15m, 1h, 6h, 1d")
	require.Equal(t, http.StatusUnauthorized, a.do("GET", statsPath, "", nil).status)
}

// TestWebhooksSayHowTheyDo: in the list, alone, and to operators: the last day, the last delivery and the last failure.
func TestWebhooksSayHowTheyDo(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id, unused := a.hook(key), a.hook(key)
	budget := &history.Budget{Pool: a.pool, Log: slog.New(slog.DiscardHandler)}
	for range 10 {
		a.deliver(id, "post.created", 25*time.Hour, 4000, "HTTP 500")
	}
	for ms := 11; ms <= 109; ms++ {
		a.deliver(id, "post.created", 22*time.Hour, ms, map[bool]string{true: "timeout"}[ms <= 13])
	}
	failed := a.deliver(id, "mention", time.Hour, 110, "HTTP 503")
	last := a.deliver(id, "mention", 0, 1, "")
	for range 2 {
		var own []mathub.WebhookDetail
		a.do("GET", webhooksPath, key, nil).into(t, &own)
		var alone, service mathub.WebhookDetail
		a.do("GET", webhooksPath+"/"+id, key, nil).into(t, &alone)
		a.do("GET", "/api/internal/v1/webhooks/"+id, serviceToken, nil).into(t, &service)
		require.Equal(t, []string{id, unused}, []string{own[0].ID, own[1].ID})
		require.Equal(t, own[0], service)
		require.Equal(t, own[0], alone)
		require.Equal(t, 101, alone.Stats.Deliveries24H)
		require.InDelta(t, 0.9604, *alone.Stats.SuccessRate24H, 1e-9)
		require.InDelta(t, 105, *alone.Stats.P95DurationMs24H, 8)
		require.Len(t, alone.Stats.Hours24H, 24)
		sum := mathub.HourCount{}
		for _, hour := range alone.Stats.Hours24H {
			sum.Delivered, sum.Failed = sum.Delivered+hour.Delivered, sum.Failed+hour.Failed
		}
		require.Equal(t, mathub.HourCount{Delivered: 97, Failed: 4}, sum)
		require.Equal(t, 1, alone.Stats.Hours24H[23].Delivered, "the present hour is the last")
		require.Equal(t, last, alone.LastDelivery.ID)
		require.Equal(t, "mention", alone.LastDelivery.EventType)
		require.True(t, alone.LastDelivery.Success)
		require.Equal(t, failed, alone.LastError.ID)
		require.Equal(t, "HTTP 503", *alone.LastError.Error)
		require.WithinDuration(t, time.Now().Add(-time.Hour), alone.LastError.AttemptedAt, time.Minute)
		require.Nil(t, own[1].LastDelivery)
		require.Nil(t, own[1].LastError)
		require.Zero(t, own[1].Stats.Deliveries24H)
		require.NoError(t, budget.Pass(t.Context()))
	}
}
