package history

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

var historyRows = flag.Int("history-rows", 100_000_000, "how many deliveries TestHistoryOfHundredMillion has in the end")

const (
	historyDays  = 35 // in seven partitions
	historyHooks = 1000
	ofEachEvent  = 10
)

// TestHistoryOfHundredMillion: what recording a delivery, reading a page and removing what is expired cost with a history of a
// million deliveries, and of a hundred million. The history is made by SQL, 35 days of it; a delivery of it takes some 300 bytes.
func TestHistoryOfHundredMillion(t *testing.T) { //nolint:paralleltest // it measures time
	if os.Getenv("MATHUB_BENCH") == "" {
		t.Skip("MATHUB_BENCH=1 runs it")
	}
	for _, rows := range []int{min(1_000_000, *historyRows), *historyRows} {
		t.Run(strconv.Itoa(rows), func(t *testing.T) { // which drops its database at its end
			h := &longHistory{dbtest.New(t)}
			h.fill(t, rows)
			var size string
			h.scan(t, "SELECT pg_size_pretty(pg_database_size(current_database()))", &size)
			t.Logf("%d deliveries, %s:", rows, size)
			h.record(t)
			h.page(t)
			h.remove(t)
		})
	}
}

type longHistory struct{ pool *pgxpool.Pool }

func (h *longHistory) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := h.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (h *longHistory) scan(t *testing.T, sql string, into ...any) {
	t.Helper()
	require.NoError(t, h.pool.QueryRow(t.Context(), sql).Scan(into...))
}

// fill adds so many deliveries, day by day, in the partitions that they would have.
func (h *longHistory) fill(t *testing.T, rows int) {
	h.exec(t, "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 99) n")
	h.exec(t, `INSERT INTO webhooks (id, bot_id, url, origin, events, created_at)
		SELECT md5('w' || n)::uuid, 'bot-' || n % 100, 'sealed', 'https://example.com', '{post.created}', now() - interval '90 days' FROM generate_series(0, $1::integer - 1) n`, historyHooks)
	h.exec(t, `DO $$
		DECLARE present integer := span_of(first_delivery(now()));
		BEGIN
			FOR span IN present - 8 .. present - 1 LOOP
				EXECUTE format('CREATE TABLE %I PARTITION OF deliveries FOR VALUES FROM (%L) TO (%L)',
					partition_of(span), first_delivery(span_start(span)), first_delivery(span_start(span + 1)));
			END LOOP;
		END $$`)
	events := rows / ofEachEvent / historyDays
	for day := historyDays; day > 0; day-- {
		h.exec(t, `INSERT INTO events (id, type, payload, run_id, accepted_at)
			SELECT $1::integer || '-' || lpad(n::text, 9, '0'), 'post.created', convert_to(repeat('x', 300), 'UTF8'), 'run', now() - $1::integer * interval '1 day' + n * interval '86400 s' / $2::integer
			FROM generate_series(0, $2::integer - 1) n`, day, events)
		h.exec(t, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, duration_ms, attempted_at)
			SELECT overlay(md5(e.id || n) placing left(first_delivery(e.accepted_at)::text, 8) from 1 for 8)::uuid, md5('w' || ((hashtext(e.id) & 65535) + n) % $2::integer)::uuid, e.id, 1, n <> 0, 204, 20, e.accepted_at
			FROM events e, generate_series(0, $3::integer - 1) n WHERE e.id LIKE $1::integer || '-%' AND e.accepted_at BETWEEN now() - $1::integer * interval '1 day' - interval '1 hour' AND now() - ($1::integer - 1) * interval '1 day' + interval '1 hour'
			ORDER BY e.accepted_at`, day, historyHooks, ofEachEvent)
	}
	h.exec(t, "VACUUM ANALYZE")
	h.exec(t, "CHECKPOINT")
}

// record records successes, 64 at once, as the product does.
func (h *longHistory) record(t *testing.T) {
	const all, atOnce = 20_000, 64
	recorder := NewRecorder(h.pool, slog.New(slog.DiscardHandler), nil, func(Webhook) {})
	defer recorder.Close(t.Context())
	hooks := h.hooks(t)
	var before, after int64
	h.scan(t, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn", &before)
	began := time.Now()
	errs := make(chan error, atOnce)
	for range atOnce {
		go func() {
			var err error
			for range all / atOnce {
				event, hook := webhook.NewID(), hooks[rand.IntN(len(hooks))]
				if _, err = recorder.Record(t.Context(), Attempt{
					DeliveryID: webhook.DeliveryID(time.Now(), webhook.AttemptKey(event, hook, 1)), WebhookID: hook, EventID: event, Number: 1,
					Trigger: webhook.TriggerEvent, Step: 1, Success: true, StatusCode: 200, Duration: time.Millisecond, StartedAt: time.Now(),
				}); err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	for range atOnce {
		require.NoError(t, <-errs)
	}
	took := time.Since(began)
	h.scan(t, "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn", &after)
	t.Logf("  a recording: %v, %d bytes of WAL", took/all, (after-before)/all)
}

// page reads the newest 50 deliveries of one webhook after another.
func (h *longHistory) page(t *testing.T) {
	reader, hooks := &Reader{Pool: h.pool}, h.hooks(t)
	var took []time.Duration
	for range 500 {
		began := time.Now()
		page, err := reader.Deliveries(t.Context(), []uuid.UUID{hooks[rand.IntN(len(hooks))]}, Filter{Before: Newest, Limit: 50}, 1<<20)
		require.NoError(t, err)
		require.Len(t, page.Deliveries, 50)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("  a page: median %v, 10th of a hundred %v", took[len(took)/2], took[len(took)/10])
}

// remove removes what is expired: events one by one, deliveries with their partitions.
func (h *longHistory) remove(t *testing.T) {
	var expired int
	before := time.Now().AddDate(0, 0, -30)
	require.NoError(t, h.pool.QueryRow(t.Context(), "SELECT count(*) FROM events WHERE accepted_at < $1", before).Scan(&expired))
	remover := &Remover{Pool: h.pool, Retention: webhook.Retention(29 * 24 * time.Hour), Schedule: webhook.DefaultSchedule}
	removed, began := Removal{Before: before}, time.Now()
	for !removed.Done {
		var err error
		removed, err = remover.RemoveExpired(t.Context(), removed)
		require.NoError(t, err)
	}
	took := time.Since(began)
	require.Equal(t, expired, removed.Events)
	require.Positive(t, removed.Partitions)
	var name string
	began = time.Now()
	h.scan(t, fmt.Sprintf("SELECT drop_partition(now() - interval '%d days')", 24), &name)
	t.Logf("  a removal: %v an event with its %d deliveries, rests included; the drop of %s %v", took/time.Duration(expired), ofEachEvent, name, time.Since(began))
}

func (h *longHistory) hooks(t *testing.T) (ids []uuid.UUID) {
	h.scan(t, "SELECT array_agg(id) FROM webhooks", &ids)
	return ids
}
