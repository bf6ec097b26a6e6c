package history

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// addDeliveries records n deliveries of a webhook over the last so many hours: every seventh fails, in one of four ways.
func addDeliveries(t testing.TB, pool *pgxpool.Pool, hook uuid.UUID, n, hours int) {
	t.Helper()
	for _, kind := range []string{"post.created", "mention"} {
		execute(t, pool, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, $1, '{}', 'r') ON CONFLICT DO NOTHING", kind)
	}
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, error, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now()")+`, $1, CASE WHEN n % 3 = 0 THEN 'mention' ELSE 'post.created' END, n, n % 7 <> 0,
			CASE WHEN n % 7 <> 0 THEN 200 WHEN n % 2 = 0 THEN 503 END,
			CASE WHEN n % 7 <> 0 THEN NULL WHEN n % 2 = 0 THEN 'HTTP 503' WHEN n % 3 = 0 THEN 'timeout' WHEN n % 5 = 0 THEN 'tls: certificate expired' ELSE 'something else' END,
			(n * 37) % 5000, now() - random() * $3::integer * interval '1 hour'
		FROM generate_series(1, $2::integer) n ORDER BY n`, hook, n, hours)
}

// bruteForce counts the deliveries that are kept, each by itself.
func bruteForce(t testing.TB, pool *pgxpool.Pool, q StatsQuery) []Bucket {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT success, coalesce(error, ''), duration_ms, attempted_at, event_id FROM deliveries WHERE webhook_id = ANY ($1)`, q.WebhookIDs)
	require.NoError(t, err)
	buckets := make([]Bucket, q.To.Sub(q.From)/q.Bucket)
	for i := range buckets {
		buckets[i].Start = q.From.Add(time.Duration(i) * q.Bucket)
	}
	var success bool
	var failure, kind string
	var ms int
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&success, &failure, &ms, &at, &kind}, func() error {
		if at.Before(q.From) || !at.Before(q.To) {
			return nil
		}
		tally := &Tally{ByType: map[string]int{kind: 1}, Durations: map[int32]int{}}
		least := durationBounds[0]
		for _, bound := range durationBounds {
			if int(bound) <= ms {
				least = bound
			}
		}
		tally.Durations[least] = 1
		if success {
			tally.Delivered = 1
		} else {
			tally.Failed = 1
			tally.ByError = map[string]int{map[string]string{"HTTP 503": "http_5xx", "timeout": "timeout", "tls: certificate expired": "tls", "something else": "other"}[failure]: 1}
		}
		buckets[at.Sub(q.From)/q.Bucket].Add(tally)
		return nil
	})
	require.NoError(t, err)
	return buckets
}

func statsQuery(t testing.TB, size string, back time.Duration, hooks ...uuid.UUID) StatsQuery {
	t.Helper()
	now := time.Now()
	from, to := now.Add(-back), now.Add(time.Minute)
	q, err := NewStatsQuery(&from, &to, ParseBucket(size), now)
	require.NoError(t, err)
	q.WebhookIDs = hooks
	return q
}

// requireTallied compares what is counted with what was recorded, in every length of buckets.
func requireTallied(t testing.TB, pool *pgxpool.Pool, hooks ...uuid.UUID) {
	t.Helper()
	reader := &Reader{Pool: pool}
	for _, size := range BucketSizes {
		back := 23 * time.Hour
		if ParseBucket(size) == minuteStep {
			back = 15 * time.Hour
		}
		q := statsQuery(t, size, back, hooks...)
		got, err := reader.Buckets(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, bruteForce(t, pool, q), got, size)
	}
}

// TestReader_Buckets: what is counted, what is not yet, and some of each, come to what was recorded; whoever counts it how often.
func TestReader_Buckets(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	one, two, other := addWebhook(t, pool), addWebhook(t, pool), addWebhook(t, pool)
	b := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	addDeliveries(t, pool, other, 100, 10)
	for range 3 {
		addDeliveries(t, pool, one, 400, 20)
		addDeliveries(t, pool, two, 70, 2)
		requireTallied(t, pool, one)
		requireTallied(t, pool, one, two)
		require.NoError(t, b.Pass(t.Context()))
		require.NoError(t, b.Pass(t.Context()))
		requireTallied(t, pool, one)
		requireTallied(t, pool, one, two)
	}
	requireTallied(t, pool)
	many := []uuid.UUID{one, two} // of which one statement reads some hours
	for range 48 {
		many = append(many, uuid.New())
	}
	requireTallied(t, pool, many...)
}

// TestRollUp_Interrupted: a pass that fails, or is made again, or by several processes at once, or with a commit that comes
// late, counts nothing twice and leaves nothing out.
func TestRollUp_Interrupted(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	b := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	addDeliveries(t, pool, hook, 200, 3)
	execute(t, pool, `CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $$no$$; END'`)
	for _, table := range []string{"delivery_stats", "history_usage", "history_sizes"} {
		execute(t, pool, "CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON "+table+" FOR EACH STATEMENT EXECUTE FUNCTION fail()")
		require.Error(t, b.Pass(t.Context()))
		requireTallied(t, pool, hook)
		execute(t, pool, "DROP TRIGGER fail ON "+table)
	}
	late := begin(t, pool)
	_, err := late.Exec(t.Context(), `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		VALUES (`+dbtest.DeliveryID("now()")+`, $1, 'mention', 1, true, 1, now())`, hook)
	require.NoError(t, err)
	addDeliveries(t, pool, hook, 50, 3)
	require.Error(t, b.Pass(t.Context()))
	require.NoError(t, late.Commit(t.Context()))
	done := make(chan error)
	for range 3 {
		go func() { done <- b.Pass(context.Background()) }()
	}
	for range 3 {
		require.NoError(t, <-done)
	}
	require.NoError(t, b.Pass(t.Context()))
	require.Equal(t, 251, count(t, pool, "delivery_stats s, generate_series(1, (tally->>'delivered')::integer + coalesce((tally->>'failed')::integer, 0)) WHERE step = 86400"))
	requireTallied(t, pool, hook)
}

// TestRollUp_ManyAtOnce: a webhook with more new deliveries than one statement counts.
func TestRollUp_ManyAtOnce(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook := addWebhook(t, pool)
	addDeliveries(t, pool, hook, 2*countedOfEach+10, 10)
	require.NoError(t, (&Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}).Pass(t.Context()))
	requireCounted(t, pool)
	require.Equal(t, 2*countedOfEach+10, count(t, pool, "history_sizes s, generate_series(1, s.deliveries)"))
	requireTallied(t, pool, hook)
}

// TestRollUp_OutlivesBudgets: what budgets remove stays counted, what retention removes does not, and nothing is left of a
// webhook that is deleted.
func TestRollUp_OutlivesBudgets(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook, gone := addWebhook(t, pool), addWebhook(t, pool)
	addDeliveries(t, pool, hook, 3000, 20)
	addDeliveries(t, pool, gone, 30, 20)
	q := statsQuery(t, "1h", 23*time.Hour, hook)
	want := bruteForce(t, pool, q)
	b := &Budget{Pool: pool, Deliveries: 100, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, b.Pass(t.Context()))
	require.LessOrEqual(t, count(t, pool, "deliveries"), 100)
	got, err := (&Reader{Pool: pool}).Buckets(t.Context(), q)
	require.NoError(t, err)
	require.Equal(t, want, got)

	execute(t, pool, "DELETE FROM webhooks WHERE id = $1", gone)
	require.NoError(t, b.Pass(t.Context()))
	require.Zero(t, count(t, pool, "delivery_stats WHERE webhook_id = $1", gone))

	// Minutes go after a day, all else with the retention.
	execute(t, pool, "UPDATE delivery_stats SET start = start - interval '2 days'")
	require.NoError(t, b.Pass(t.Context()))
	require.Zero(t, count(t, pool, "delivery_stats WHERE step = 60"))
	kept := count(t, pool, "delivery_stats")
	remover := &Remover{Pool: pool, Retention: webhook.DefaultRetention}
	_, err = remover.RemoveExpired(t.Context(), Removal{})
	require.NoError(t, err)
	require.Equal(t, kept, count(t, pool, "delivery_stats"))
	execute(t, pool, "UPDATE delivery_stats SET start = start - interval '31 days'")
	_, err = remover.RemoveExpired(t.Context(), Removal{})
	require.NoError(t, err)
	require.Zero(t, count(t, pool, "delivery_stats"))
}

// TestReader_Summaries: the last delivery and failure, and 24 hours, before and after they are counted.
func TestReader_Summaries(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	hook, unused := addWebhook(t, pool), addWebhook(t, pool)
	addDeliveries(t, pool, hook, 500, 30) // some of yesterday
	execute(t, pool, "UPDATE deliveries SET attempted_at = now() WHERE seq = (SELECT max(seq) FROM deliveries)")
	reader, b := &Reader{Pool: pool}, &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		q := StatsQuery{WebhookIDs: []uuid.UUID{hook}, To: time.Now().UTC().Truncate(time.Hour).Add(time.Hour), Bucket: time.Hour}
		q.From = q.To.Add(-24 * time.Hour)
		want := bruteForce(t, pool, q)
		got, err := reader.Summaries(t.Context(), []uuid.UUID{hook, unused})
		require.NoError(t, err)
		require.Len(t, got, 2)
		day := new(Tally)
		for i := range want {
			want[i].ByError, want[i].ByType = nil, nil
			day.Add(&want[i].Tally)
		}
		require.Equal(t, want, got[hook].Hours)
		require.Equal(t, *day, got[hook].Day)
		require.Less(t, day.Total(), 500)
		var last, failed uuid.UUID
		scan(t, pool, "SELECT (SELECT id FROM deliveries ORDER BY seq DESC LIMIT 1), (SELECT id FROM deliveries WHERE NOT success ORDER BY seq DESC LIMIT 1)", nil, &last, &failed)
		require.Equal(t, last, got[hook].LastDelivery.ID)
		require.Equal(t, failed, got[hook].LastFailure.ID)
		require.NotEmpty(t, *got[hook].LastFailure.Error)
		require.WithinDuration(t, time.Now(), got[hook].LastDelivery.AttemptedAt, time.Minute)
		require.Nil(t, got[unused].LastDelivery)
		require.Nil(t, got[unused].LastFailure)
		require.Zero(t, got[unused].Day.Total())
		require.NoError(t, b.Pass(t.Context()))
	}
}

func TestNewStatsQuery(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 20, 10, 31, 12, 500, time.UTC)
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		require.NoError(t, err)
		return parsed
	}
	for name, c := range map[string]struct {
		asked    StatsQuery
		from, to string
		size     string
		n        int
		faults   []string
	}{
		"nothing":                   {from: "2026-03-19T10:00:00Z", to: "2026-03-20T11:00:00Z", size: "1h", n: 25},
		"an hour":                   {asked: StatsQuery{From: now.Add(-time.Hour)}, from: "2026-03-20T09:31:00Z", to: "2026-03-20T10:32:00Z", size: "1m", n: 61},
		"a week":                    {asked: StatsQuery{From: now.Add(-7 * 24 * time.Hour)}, from: "2026-03-13T10:00:00Z", to: "2026-03-20T11:00:00Z", size: "1h", n: 169},
		"a month":                   {asked: StatsQuery{From: now.Add(-30 * 24 * time.Hour)}, from: "2026-02-18T00:00:00Z", to: "2026-03-21T00:00:00Z", size: "1d", n: 31},
		"an hour of last week":      {asked: StatsQuery{From: at("2026-03-11T10:00:00Z"), To: at("2026-03-11T11:00:00Z")}, from: "2026-03-11T10:00:00Z", to: "2026-03-11T11:00:00Z", size: "1h", n: 1},
		"another zone":              {asked: StatsQuery{From: at("2026-03-19T23:00:00-05:00"), To: at("2026-03-20T09:00:00+05:30"), Bucket: dayStep}, faults: []string{"from"}},
		"days":                      {asked: StatsQuery{From: at("2026-03-19T23:00:00-05:00"), To: at("2026-03-20T23:00:00-05:00"), Bucket: dayStep}, from: "2026-03-20T00:00:00Z", to: "2026-03-22T00:00:00Z", size: "1d", n: 2},
		"the future":                {asked: StatsQuery{From: now, To: now.Add(time.Hour), Bucket: 5 * time.Minute}, from: "2026-03-20T10:30:00Z", to: "2026-03-20T11:35:00Z", size: "5m", n: 13},
		"a day of minutes":          {asked: StatsQuery{Bucket: minuteStep}, faults: []string{"bucket"}},
		"a day of quarters":         {asked: StatsQuery{Bucket: 15 * minuteStep}, from: "2026-03-19T10:30:00Z", to: "2026-03-20T10:45:00Z", size: "15m", n: 97},
		"quarters of last week":     {asked: StatsQuery{From: now.Add(-7 * 24 * time.Hour), Bucket: 15 * minuteStep}, faults: []string{"bucket"}},
		"the most":                  {asked: StatsQuery{From: at("2026-02-06T18:00:00Z"), To: at("2026-03-20T10:00:00Z"), Bucket: hourStep}, from: "2026-02-06T18:00:00Z", to: "2026-03-20T10:00:00Z", size: "1h", n: 1000},
		"one too many":              {asked: StatsQuery{From: at("2026-02-06T17:00:00Z"), To: at("2026-03-20T10:00:00Z"), Bucket: hourStep}, faults: []string{"bucket"}},
		"years":                     {asked: StatsQuery{From: at("2020-01-01T00:00:00Z")}, faults: []string{"from"}},
		"backwards":                 {asked: StatsQuery{From: now, To: now.Add(-time.Hour)}, faults: []string{"from"}},
		"no time at all":            {asked: StatsQuery{From: now, To: now}, faults: []string{"from"}},
		"from after now":            {asked: StatsQuery{From: now.Add(time.Minute)}, faults: []string{"from"}},
		"the year 1 and year 9999":  {asked: StatsQuery{From: at("0001-01-01T00:00:01Z"), To: at("9999-01-01T00:00:00Z")}, faults: []string{"from", "to"}},
		"the least and most of int": {asked: StatsQuery{From: time.Unix(math.MinInt64, 0), To: time.Unix(math.MaxInt64, 0)}, faults: []string{"from", "to"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var from, to *time.Time
			if !c.asked.From.IsZero() {
				from = &c.asked.From
			}
			if !c.asked.To.IsZero() {
				to = &c.asked.To
			}
			q, err := NewStatsQuery(from, to, c.asked.Bucket, now)
			if c.faults != nil {
				var invalid *webhook.InvalidError
				require.ErrorAs(t, err, &invalid)
				var fields []string
				for _, f := range invalid.Fields {
					fields = append(fields, f.Field)
				}
				slices.Sort(fields)
				require.Equal(t, c.faults, fields, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{c.from, c.to, c.size}, []string{q.From.Format(time.RFC3339Nano), q.To.Format(time.RFC3339Nano), BucketSize(q.Bucket)})
			require.EqualValues(t, c.n, q.To.Sub(q.From)/q.Bucket)
		})
	}
}

// TestTally_Percentile: within an eighth of the true one.
func TestTally_Percentile(t *testing.T) {
	t.Parallel()
	require.Zero(t, new(Tally).Percentile(0.95))
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		tally, all := new(Tally), []int{}
		for range 1 + random.IntN(300) {
			ms := int(math.Exp(random.Float64() * math.Log(8000)))
			i, found := slices.BinarySearch(durationBounds, int32(ms))
			if !found {
				i--
			}
			all = append(all, ms)
			tally.Add(&Tally{Durations: map[int32]int{durationBounds[i]: 1}})
		}
		slices.Sort(all)
		for _, fraction := range []float64{0.5, 0.95, 1} {
			want := float64(all[int(math.Ceil(fraction*float64(len(all))))-1])
			require.InDelta(t, want, tally.Percentile(fraction), want/8+1, "%v of %v", fraction, all)
		}
	}
}
