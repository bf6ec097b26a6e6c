package history

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// spanDays is how many days a partition holds.
const spanDays = 5

// addPartitions makes the partitions of so many spans before the present one, as they were made at their time.
func addPartitions(t testing.TB, pool *pgxpool.Pool, spans int) {
	t.Helper()
	execute(t, pool, `DO $$
		DECLARE present integer := span_of(first_delivery(now()));
		BEGIN
			FOR span IN present - `+strconv.Itoa(spans)+` .. present - 1 LOOP
				EXECUTE format('CREATE TABLE %I PARTITION OF deliveries FOR VALUES FROM (%L) TO (%L)',
					partition_of(span), first_delivery(span_start(span)), first_delivery(span_start(span + 1)));
			END LOOP;
		END $$`)
}

// partitions are those that there are, oldest first.
func partitions(t testing.TB, pool *pgxpool.Pool) (names []string) {
	t.Helper()
	scan(t, pool, `SELECT coalesce(array_agg(inhrelid::regclass::text ORDER BY inhrelid::regclass::text), '{}') FROM pg_inherits
		WHERE inhparent = 'deliveries'::regclass AND inhrelid::regclass::text <> 'deliveries_default'`, nil, &names)
	return names
}

// addMonths adds an event an hour, for so many days, each delivered to every webhook, and again after days.
func addMonths(t testing.TB, pool *pgxpool.Pool, days int, hooks ...uuid.UUID) {
	t.Helper()
	execute(t, pool, `INSERT INTO events (id, type, payload, run_id, accepted_at)
		SELECT 'h' || n, 'post.created', '{}', 'r', now() - n * interval '1 hour' FROM generate_series(1, $1::integer * 24) n`, days)
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("e.accepted_at")+`, w, e.id, a, a = 2, CASE a WHEN 1 THEN 'timeout' END, 1, e.accepted_at + a * interval '10 hours'
		FROM events e, unnest($1::uuid[]) w, generate_series(1, 2) a
		WHERE e.accepted_at + a * interval '10 hours' < now() ORDER BY e.accepted_at + a * interval '10 hours'`, hooks)
}

// TestPartitions_Dropped: what is expired goes, and all else stays: whole partitions at once, with what was counted of them, and
// nobody sees what waits for that.
func TestPartitions_Dropped(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	pool := r.Pool
	addPartitions(t, pool, 9) // 45 to 50 days: some of what is older stands outside of partitions
	hooks := []uuid.UUID{addWebhook(t, pool), addWebhook(t, pool)}
	addMonths(t, pool, 60, hooks...)
	budget := &Budget{Pool: pool, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, budget.Pass(t.Context()))
	requireCounted(t, pool)

	before := time.Now().Add(-30 * 24 * time.Hour)
	old := count(t, pool, "events WHERE accepted_at < $1", before)
	young := count(t, pool, "deliveries d JOIN events e ON e.id = d.event_id WHERE e.accepted_at >= $1", before)
	were := partitions(t, pool)
	removed := r.remove(t, before)
	require.Equal(t, old, removed.Events)
	require.Positive(t, removed.Deliveries, "those outside of partitions")

	// Each partition went of which all events are expired, and no other.
	expired := slices.DeleteFunc(slices.Clone(were), func(name string) bool {
		day, err := time.Parse("deliveries_20060102", name)
		require.NoError(t, err)
		return day.AddDate(0, 0, spanDays).After(before)
	})
	require.Len(t, expired, removed.Partitions)
	require.GreaterOrEqual(t, removed.Partitions, 3)
	require.Equal(t, were[len(expired):], partitions(t, pool))
	require.Zero(t, count(t, pool, "events WHERE accepted_at < $1", before))
	require.Equal(t, young, count(t, pool, "deliveries d JOIN events e ON e.id = d.event_id"), "nothing younger is removed")
	require.NoError(t, budget.Pass(t.Context()))
	requireCounted(t, pool)

	// The pages show all that is kept, in order, and nothing else.
	reader, shown := &Reader{Pool: pool}, 0
	for _, hook := range hooks {
		for f := (Filter{Before: Newest, Limit: 100}); ; {
			page, next, err := reader.List(t.Context(), []uuid.UUID{hook}, f)
			require.NoError(t, err)
			for _, d := range page {
				require.Less(t, d.Seq, f.Before)
				require.NotEmpty(t, d.EventType)
				f.Before = d.Seq
				shown++
			}
			if next == 0 {
				break
			}
			f.Before = next
		}
	}
	require.Equal(t, young, shown)
}

// TestPartitions_DroppedBesideAReader: who reads for long sees all to the end, and no recording waits for him, nor for the drop.
func TestPartitions_DroppedBesideAReader(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	addPartitions(t, r.Pool, 9)
	hook := addWebhook(t, r.Pool)
	addMonths(t, r.Pool, 50, hook)
	recorder, _ := newTestRecorder(t, r.Pool)
	before := time.Now().Add(-30 * 24 * time.Hour)

	reads := begin(t, r.Pool)
	var had int
	require.NoError(t, reads.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&had))
	ended := make(chan Removal)
	go func() { ended <- r.remove(t, before) }()
	var longest time.Duration
	var removed Removal
	for done := false; !done; {
		began := time.Now()
		record(t, recorder, outcome(hook, true))
		longest = max(longest, time.Since(began))
		select {
		case removed = <-ended:
			done = true
		default:
		}
	}
	t.Logf("the longest recording took %v", longest)
	require.Less(t, longest, time.Second) // 50 ms, where nothing else runs
	require.Zero(t, removed.Partitions, "it is left for the next time")
	require.Positive(t, removed.Events)
	var has int
	require.NoError(t, reads.QueryRow(t.Context(), "SELECT count(*) FROM deliveries WHERE attempted_at < $1", before.Add(-24*time.Hour)).Scan(&has))
	require.Positive(t, has)
	require.NoError(t, reads.Commit(t.Context()))
	require.Positive(t, r.remove(t, before).Partitions)
	require.Zero(t, count(t, r.Pool, "deliveries WHERE attempted_at < $1", before.AddDate(0, 0, -spanDays)))
}

// TestPartitions_Made: also by many at once, and by a process that starts after weeks. What has no partition is kept all the same.
func TestPartitions_Made(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	made := partitions(t, pool)
	require.Len(t, made, 2, "by the migration: the present one and the next")
	hook := addWebhook(t, pool)
	recorder, _ := newTestRecorder(t, pool)
	record(t, recorder, outcome(hook, true))
	require.Zero(t, count(t, pool, "deliveries_default"))

	for _, name := range made { // as weeks later
		execute(t, pool, "DROP TABLE "+name)
	}
	record(t, recorder, outcome(hook, true))
	require.Equal(t, 1, count(t, pool, "deliveries_default"))
	require.NoError(t, MakePartitions(t.Context(), pool, 0))
	require.Empty(t, partitions(t, pool), "what is kept for ever needs none")
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))
	require.Equal(t, made[1:], partitions(t, pool), "what has rows elsewhere gets none")
	record(t, recorder, outcome(hook, true))
	require.Equal(t, 2, count(t, pool, "deliveries WHERE webhook_id = $1", hook))

	execute(t, pool, "TRUNCATE deliveries_default")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := MakePartitions(context.Background(), pool, webhook.DefaultRetention); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, made, partitions(t, pool))
}

// TestPartitions_MadeBesideALargeTable: a history that was kept for ever gets partitions too. No recording waits while Postgres reads
// it, and none is refused.
func TestPartitions_MadeBesideALargeTable(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	for _, name := range partitions(t, pool) {
		execute(t, pool, "DROP TABLE "+name)
	}
	hook := addWebhook(t, pool)
	recorder, _ := newTestRecorder(t, pool)
	execute(t, pool, "ALTER TABLE deliveries_default SET (fillfactor = 10)")
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at, response_body)
		SELECT `+dbtest.DeliveryID("now()")+`, $1, 'e' || n, 1, true, 1, now(), convert_to(repeat('x', 800), 'UTF8') FROM generate_series(1, 9000) n`, hook)
	constraints := func() int {
		return count(t, pool, "pg_constraint WHERE conrelid = 'deliveries_default'::regclass AND contype = 'c'")
	}
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))
	require.Equal(t, 1, constraints())
	record(t, recorder, outcome(hook, true))
	require.NoError(t, MakePartitions(t.Context(), pool, 0))
	require.Zero(t, constraints(), "of a history that is kept for ever again, no recording would be taken after five days")
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))

	tx := begin(t, pool)
	scans := func() (n int) {
		require.NoError(t, tx.QueryRow(t.Context(), "SELECT pg_stat_get_xact_numscans('deliveries_default'::regclass)").Scan(&n))
		return n
	}
	_, err := tx.Exec(t.Context(), "SELECT make_partitions(true)")
	require.NoError(t, err)
	require.Equal(t, 1, scans(), "to validate the constraint, not once more to attach the partition")
	require.NoError(t, tx.Commit(t.Context()))
	require.Len(t, partitions(t, pool), 1)
	require.Zero(t, constraints(), "which would refuse what comes after the new partition")
	execute(t, pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("span_start(span_of(first_delivery(now() + interval '1 day')) + n)")+`, $1, 'f' || n, 1, true, 1, now() FROM generate_series(0, 2) n`, hook)
	require.Equal(t, 1, count(t, pool, partitions(t, pool)[0]))

	execute(t, pool, "DROP TABLE "+partitions(t, pool)[0])
	execute(t, pool, "ALTER TABLE deliveries_default ADD CONSTRAINT before_1 CHECK (id < first_delivery('infinity')) NOT VALID")
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))
	require.Zero(t, constraints(), "what a process left that was killed goes, and none comes where rows are that it would refuse")
	require.Empty(t, partitions(t, pool))
}

// TestPartitions_MadeBesideAReader: who reads for long holds up neither the maker nor anybody behind it.
func TestPartitions_MadeBesideAReader(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	made := partitions(t, pool)
	execute(t, pool, "DROP TABLE "+made[1])
	reads := begin(t, pool)
	var n int
	require.NoError(t, reads.QueryRow(t.Context(), "SELECT count(*) FROM deliveries").Scan(&n))
	began := time.Now()
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))
	require.Less(t, time.Since(began), 5*time.Second) // 50 ms, where nothing else runs
	require.Equal(t, made[:1], partitions(t, pool))
	require.NoError(t, reads.Commit(t.Context()))
	require.NoError(t, MakePartitions(t.Context(), pool, webhook.DefaultRetention))
	require.Equal(t, made, partitions(t, pool))
}

// TestPartitions_WaitingEvents: what waits for the end of a pause is kept, and sent, when the partition of its day is gone; no
// recovery sends it anew to whom it was delivered.
func TestPartitions_WaitingEvents(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	addPartitions(t, r.Pool, 9)
	paused, other := addWebhook(t, r.Pool), addWebhook(t, r.Pool)
	addMonths(t, r.Pool, 45, other)
	addRow(t, r.Pool, paused, "h1000", webhook.TriggerEvent, -time.Hour)
	_, err := (&Pauses{Pool: r.Pool, Log: slog.New(slog.DiscardHandler)}).Begin(t.Context(), PauseAll, "", "test")
	require.NoError(t, err)
	removed := r.remove(t, time.Now().Add(-30*24*time.Hour))
	require.Positive(t, removed.Partitions)
	require.Equal(t, 1, count(t, r.Pool, "events WHERE id = 'h1000'"))
	require.Zero(t, count(t, r.Pool, "deliveries WHERE event_id = 'h1000'"))

	recorder, _ := newTestRecorder(t, r.Pool)
	late := outcome(paused, true).of(t, r.Pool, "h1000", 1)
	late.Queued = true
	record(t, recorder, late)
	require.Equal(t, 1, count(t, r.Pool, "deliveries_default WHERE event_id = 'h1000'"))
	rows, err := db.New().ListMissed(t.Context(), r.Pool, db.ListMissedParams{
		WebhookID: other, AfterTime: time.Now().AddDate(0, 0, -60), Upto: time.Now().AddDate(0, 0, -29), MostRead: 100,
	})
	require.NoError(t, err)
	require.Empty(t, slices.DeleteFunc(rows, func(e db.ListMissedRow) bool { return !e.Missed }))

	execute(t, r.Pool, "DELETE FROM queue")
	require.Equal(t, 1, r.remove(t, time.Now().Add(-30*24*time.Hour)).Deliveries, "and its late delivery goes with it")
}
