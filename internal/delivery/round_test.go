package delivery

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// stage is a Deliverer, a webhook and its receiver, which answers with status.
type stage struct {
	*Deliverer
	t         *testing.T
	pool      *pgxpool.Pool
	webhookID uuid.UUID
	status    int
	received  atomic.Int32
}

func newStage(t *testing.T, status int) *stage {
	s := &stage{t: t, pool: dbtest.New(t), webhookID: uuid.Must(uuid.NewV7()), status: status}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.received.Add(1)
		w.WriteHeader(s.status)
	}))
	t.Cleanup(server.Close)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	client := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true})
	t.Cleanup(client.Close)
	s.Deliverer = New(Config{
		Pool: s.pool, Egress: client, Keyset: keyset, Schedule: webhook.DefaultSchedule, Logger: slog.New(slog.DiscardHandler), Wake: func(Target) {},
	})
	t.Cleanup(func() { s.Close(t.Context()) })
	s.exec("INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	s.exec("INSERT INTO webhooks (id, bot_id, url, events) VALUES ($1, 'bot', $2, '{post.created}')", s.webhookID, server.URL)
	return s
}

func (s *stage) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

// plan stores n events and plans an attempt at each that is due now.
func (s *stage) plan(n int) Round {
	s.t.Helper()
	round := Round{WebhookID: s.webhookID, BotID: "bot", Next: 1}
	for i := range n {
		row := history.Row{EventID: fmt.Sprintf("e%d", i+1), Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}
		s.exec("INSERT INTO events (id, type, payload, run_id) VALUES ($1, 'post.created', '{}', 'run')", row.EventID)
		s.exec("INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 1, 'event', now())", s.webhookID, row.EventID)
		round.Rows = append(round.Rows, row)
	}
	return round
}

func (s *stage) run(round Round) RoundResult {
	s.t.Helper()
	result, err := s.RunRound(s.t.Context(), round)
	require.NoError(s.t, err)
	return result
}

// TestDeliverer_RunRound_RecordedAlready: a direct attempt that was in flight when the row was added took the event. The row
// must go, or the queue would turn in a circle.
func TestDeliverer_RunRound_RecordedAlready(t *testing.T) {
	s := newStage(t, http.StatusOK)
	round := s.plan(1)
	s.exec("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, status_code, duration_ms, attempted_at) VALUES ($1, $2, 'e1', 1, true, 200, 1, now())",
		webhook.DeliveryID("e1", s.webhookID, 1), s.webhookID)
	require.Zero(t, s.run(round).State.Waiting)
	require.Zero(t, s.received.Load())
}

// TestDeliverer_RunRound_FailsMeanwhile: a failure was recorded after the queue was looked at.
func TestDeliverer_RunRound_FailsMeanwhile(t *testing.T) {
	s := newStage(t, http.StatusServiceUnavailable)
	round := s.plan(8)
	s.exec("UPDATE webhooks SET queued = true, failure_count = 1, early_failures = 1, failure_run = 1, resume_at = now() + interval '3 s' WHERE id = $1", s.webhookID)
	result := s.run(round)
	require.Zero(t, s.received.Load(), "its pause lasts")
	require.Zero(t, result.Made)
	require.Len(t, result.State.Due, 1)
	s.exec("UPDATE webhooks SET resume_at = NULL")
	require.Equal(t, 1, s.run(round).Failed)
	require.EqualValues(t, 1, s.received.Load(), "one at a time")
}

// TestDeliverer_RunRound_FailsTogether: however long Postgres takes to prepare the last of a round's attempts, they were
// under way together, and count five.
func TestDeliverer_RunRound_FailsTogether(t *testing.T) {
	s := newStage(t, http.StatusServiceUnavailable)
	require.Equal(t, LargestWindow, s.run(s.plan(LargestWindow)).Failed)
	var count, early int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT failure_count, early_failures FROM webhooks WHERE id = $1", s.webhookID).Scan(&count, &early))
	require.Equal(t, 5, count)
	require.Equal(t, 5, early)
}

// TestDeliverer_RouteManual_Planned: a redelivery of what is planned is made in its place of the schedule.
func TestDeliverer_RouteManual_Planned(t *testing.T) {
	s := newStage(t, http.StatusServiceUnavailable)
	s.plan(1)
	s.exec("UPDATE queue SET attempt = 2, step = 2, trigger = 'retry', due_at = now() + interval '1 h'")
	route, err := s.RouteManual(t.Context(), Attempt{EventID: "e1", WebhookID: s.webhookID, Number: 2, Trigger: webhook.TriggerRedeliver})
	require.NoError(t, err)
	require.True(t, route.Queued)
	row, due, planned, err := s.Queue().Planned(t.Context(), s.webhookID, "e1")
	require.NoError(t, err)
	require.True(t, planned)
	require.Equal(t, history.Row{EventID: "e1", Attempt: 2, Step: 2, Trigger: webhook.TriggerRetry}, row)
	require.True(t, due.Before(time.Now()), "it goes before all that is due")
}
