package history

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// woken gathers which webhooks were woken.
type woken struct {
	mu  sync.Mutex
	all []Webhook
}

func (w *woken) add(h Webhook) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, h)
}

// take returns what was woken since the last call.
func (w *woken) take() []Webhook {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all
	w.all = nil
	return all
}

func newTestRecorder(t testing.TB, pool *pgxpool.Pool) (*Recorder, *woken) {
	w := new(woken)
	r := NewRecorder(pool, slog.New(slog.DiscardHandler), nil, w.add)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r, w
}

func addWebhook(t testing.TB, pool *pgxpool.Pool) uuid.UUID {
	t.Helper()
	return addWebhookAt(t, pool, "https://example.com")
}

func addWebhookAt(t testing.TB, pool *pgxpool.Pool, url string) uuid.UUID {
	t.Helper()
	return addWebhookOf(t, pool, "bot", url)
}

// addWebhookOf adds a webhook of a bot that was made long ago.
func addWebhookOf(t testing.TB, pool *pgxpool.Pool, bot, url string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	execute(t, pool, "INSERT INTO bots (id, name) VALUES ($1, 'bot') ON CONFLICT DO NOTHING", bot)
	execute(t, pool, "INSERT INTO webhooks (id, bot_id, url, origin, events, created_at) VALUES ($1, $2, 'sealed', $3, '{post.created}', now() - interval '40 days')", id, bot, webhook.OriginOf(url))
	return id
}

// addEvent adds an event that was accepted so long ago.
func addEvent(t testing.TB, pool *pgxpool.Pool, id string, age time.Duration) {
	t.Helper()
	execute(t, pool, "INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ($1, 'post.created', '{}', 'run', now() - make_interval(secs => $2))", id, age.Seconds())
}

func addRow(t testing.TB, pool *pgxpool.Pool, webhookID uuid.UUID, eventID string, trigger webhook.Trigger, due time.Duration) {
	t.Helper()
	execute(t, pool, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, CASE $3::text WHEN 'retry' THEN 2 ELSE 1 END, $3::text::delivery_trigger, now() + make_interval(secs => $4))",
		webhookID, eventID, string(trigger), due.Seconds())
}

func execute(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// scan reads one row.
func scan(t require.TestingT, pool *pgxpool.Pool, sql string, args []any, into ...any) {
	require.NoError(t, pool.QueryRow(context.Background(), sql, args...).Scan(into...))
}

func count(t require.TestingT, pool *pgxpool.Pool, sql string, args ...any) (n int) {
	scan(t, pool, "SELECT count(*) FROM "+sql, args, &n)
	return n
}

// outcome is a first attempt at a new event, by a process that had read the webhook before it had a run of failures.
func outcome(webhookID uuid.UUID, success bool) Attempt {
	event := webhook.NewID()
	a := Attempt{
		DeliveryID: webhook.DeliveryID(time.Now(), webhook.AttemptKey(event, webhookID, 1)), WebhookID: webhookID, EventID: event, Number: 1, Trigger: webhook.TriggerEvent, Step: 1,
		Success: success, StatusCode: 200, ResponseBody: []byte("ok"), Duration: time.Millisecond, StartedAt: time.Now(),
	}
	if !success {
		a.StatusCode, a.Error, a.Class = 500, "HTTP 500", "http_5xx"
	}
	return a
}

// of is the same outcome of an attempt at a stored event.
func (a Attempt) of(t testing.TB, pool *pgxpool.Pool, eventID string, number int) Attempt {
	t.Helper()
	var acceptedAt time.Time
	scan(t, pool, "SELECT accepted_at FROM events WHERE id = $1", []any{eventID}, &acceptedAt)
	a.EventID, a.Number, a.DeliveryID = eventID, number, webhook.DeliveryID(acceptedAt, webhook.AttemptKey(eventID, a.WebhookID, number))
	return a
}

// again is the next attempt at the same event, made by the webhook's queue.
func again(a Attempt, success bool) Attempt {
	next := outcome(a.WebhookID, success)
	next.EventID, next.Number, next.Step, next.Trigger, next.Queued = a.EventID, a.Number+1, a.Step+1, webhook.TriggerRetry, true
	next.DeliveryID = webhook.DeliveryID(time.Now(), webhook.AttemptKey(a.EventID, a.WebhookID, next.Number))
	return next
}

// prepared is outcome by a process that has read the webhook just now.
func prepared(t require.TestingT, pool *pgxpool.Pool, webhookID uuid.UUID, success bool) Attempt {
	s := stateOf(t, pool, webhookID)
	a := outcome(webhookID, success)
	a.Generation = s.Generation
	if s.FailureCount > 0 {
		a.FailureRun = s.FailureRun
	}
	return a
}

func record(t testing.TB, r *Recorder, a Attempt) Recorded {
	t.Helper()
	after, err := r.Record(t.Context(), a)
	require.NoError(t, err)
	return after
}

func enqueue(t testing.TB, r *Recorder, p Plan) Recorded {
	t.Helper()
	after, err := r.Enqueue(t.Context(), p)
	require.NoError(t, err)
	return after
}

type state struct {
	Health
	DisabledAt     *time.Time
	DisabledReason *string
	DisabledBy     uuid.NullUUID
	// ResumeIn is how long the webhook is left alone from now on, 0 for not at all.
	ResumeIn time.Duration
	Xmin     string
}

func stateOf(t require.TestingT, pool *pgxpool.Pool, id uuid.UUID) (s state) {
	var resumeIn float64
	scan(t, pool, `SELECT is_active, queued, failure_count, early_failures, generation, failure_run, failure_class, disabled_at, disabled_reason, disabled_by,
		coalesce(greatest(0, extract(epoch FROM resume_at - now())), 0)::float8, xmin::text FROM webhooks WHERE id = $1`, []any{id},
		&s.Active, &s.Queued, &s.FailureCount, &s.EarlyFailures, &s.Generation, &s.FailureRun, &s.FailureClass, &s.DisabledAt, &s.DisabledReason, &s.DisabledBy, &resumeIn, &s.Xmin)
	s.ResumeIn = seconds(resumeIn)
	return s
}

// historyOf are the ids of the webhook's deliveries, oldest recording first.
func historyOf(t require.TestingT, pool *pgxpool.Pool, id uuid.UUID) []uuid.UUID {
	rows, err := pool.Query(context.Background(), "SELECT id FROM deliveries WHERE webhook_id = $1 ORDER BY seq", id)
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	return ids
}

type queueRow struct {
	EventID       string
	Attempt, Step int
	Trigger       string
	DueIn         float64 // seconds from now
}

// queueOf is the webhook's queue in the order in which it is worked off.
func queueOf(t require.TestingT, pool *pgxpool.Pool, id uuid.UUID) []queueRow {
	rows, err := pool.Query(context.Background(), "SELECT event_id, attempt, step, trigger::text, extract(epoch FROM due_at - now())::float8 FROM queue WHERE webhook_id = $1 ORDER BY due_at, seq", id)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[queueRow])
	require.NoError(t, err)
	return list
}

func eventsOf(rows []queueRow) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.EventID
	}
	return ids
}

func begin(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// waitsForLock returns once so many sessions of the test's database wait for an advisory lock.
func waitsForLock(t testing.TB, pool *pgxpool.Pool, sessions int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return count(t, pool, "pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == sessions
	}, 3*time.Minute, 5*time.Millisecond)
}
