package worker_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/worker"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// record writes the histories of this package's workflows to where the replay tests find them; do so on a release
// that changes workflow code, under the release's name.
var record = flag.String("record", "", "write the workflows' histories to ../workflows/testdata/NAME")

// stack is a worker on a real Temporal server and a real Postgres, and a receiver.
type stack struct {
	client     client.Client
	attributes *searchattr.Attributes
	pool       *pgxpool.Pool
	keyset     *db.Keyset
	url        string
	stops      []func() // of the workers

	mu       sync.Mutex
	received map[string]int // by path and webhook-id
	respond  func(w http.ResponseWriter, r *http.Request)
}

// newStack is a stack whose namespace has no search attributes, as it takes seconds to make them; but what is recorded
// has them.
func newStack(t testing.TB, schedule webhook.Schedule) *stack {
	if *record != "" {
		return newSearchableStack(t, schedule)
	}
	return start(t, &stack{client: temporaltest.New(t)}, schedule)
}

func newSearchableStack(t testing.TB, schedule webhook.Schedule) *stack {
	c, namespace := temporaltest.NewNamespace(t)
	attributes := new(searchattr.Attributes)
	require.NoError(t, attributes.Register(t.Context(), c, namespace))
	return start(t, &stack{client: c, attributes: attributes}, schedule)
}

func start(t testing.TB, s *stack, schedule webhook.Schedule) *stack {
	s.pool, s.received = dbtest.New(t), map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		s.mu.Lock()
		s.received[r.URL.Path+" "+r.Header.Get("webhook-id")]++
		respond := s.respond
		s.mu.Unlock()
		if respond != nil {
			respond(w, r)
		}
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	text, err := db.NewKeyset()
	require.NoError(t, err)
	s.keyset, err = db.ParseKeyset(text)
	require.NoError(t, err)
	s.startWorker(t, schedule)
	return s
}

// startWorker starts a worker, beside those that run.
func (s *stack) startWorker(t testing.TB, schedule webhook.Schedule) {
	t.Helper()
	egressClient := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true})
	t.Cleanup(egressClient.Close)
	w, err := worker.New(s.client, delivery.Config{
		Pool: s.pool, Egress: egressClient, Keyset: s.keyset, Schedule: schedule, Retention: webhook.DefaultRetention, Attributes: s.attributes, Version: "test", Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	stop := sync.OnceFunc(w.Stop)
	s.stops = append(s.stops, stop)
	t.Cleanup(stop)
	require.NoError(t, w.Start())
}

// stopWorkers stops those that run.
func (s *stack) stopWorkers() {
	for _, stop := range s.stops {
		stop()
	}
}

func (s *stack) subscribe(t *testing.T, path string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	_, err := s.pool.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	require.NoError(t, err)
	dbtest.AddWebhooks(t, s.pool, s.keyset, []string{"post.created"}, []dbtest.Webhook{{ID: id, BotID: "bot", URL: s.url + path}})
	return id
}

func (s *stack) target(id uuid.UUID) delivery.Target {
	return delivery.Target{WebhookID: id, BotID: "bot", Host: strings.TrimPrefix(s.url, "http://")}
}

func (s *stack) emit(t *testing.T, id string) emit.Receipt {
	t.Helper()
	receipt, err := emit.Event(t.Context(), s.client, webhook.Event{ID: id, Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"p1"}`)}, emit.SearchableBy(s.attributes))
	require.NoError(t, err)
	return receipt
}

func (s *stack) count(path, eventID string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received[path+" "+eventID]
}

// state is how a webhook stands, such as "queued, 3 failures, 2 rows".
func (s *stack) state(t *testing.T, id uuid.UUID) string {
	t.Helper()
	var mode string
	var failures, rows int
	require.NoError(t, s.pool.QueryRow(t.Context(), `SELECT CASE WHEN queued THEN 'queued' ELSE 'direct' END, failure_count,
		(SELECT count(*) FROM queue WHERE webhook_id = $1) FROM webhooks WHERE id = $1`, id).Scan(&mode, &failures, &rows))
	return fmt.Sprintf("%s, %d failures, %d rows", mode, failures, rows)
}

// awaitDelivery waits until a delivery that a queue makes is in the history.
func (s *stack) awaitDelivery(t *testing.T, a delivery.Attempt) {
	t.Helper()
	require.Eventually(t, func() bool {
		var made bool
		err := s.pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM deliveries WHERE event_id = $1 AND webhook_id = $2 AND attempt = $3)", a.EventID, a.WebhookID, a.Number).Scan(&made)
		return err == nil && made
	}, 3*time.Minute, 20*time.Millisecond)
}

func (s *stack) answer(f func(w http.ResponseWriter, r *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.respond = f
}

func result[T any](t *testing.T, c client.Client, workflowID string) (v T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	require.NoError(t, c.GetWorkflow(ctx, workflowID, "").Get(ctx, &v))
	return v
}

// counted is an event's result without the list of those that did not take it.
func (s *stack) counted(t *testing.T, workflowID string) workflows.Summary {
	t.Helper()
	sum := result[workflows.Summary](t, s.client, workflowID)
	sum.NotDelivered = nil
	return sum
}

// keep writes a workflow's history for the replay tests when -record says so.
func (s *stack) keep(t *testing.T, workflowID, name string) {
	t.Helper()
	var events []*historypb.HistoryEvent
	for it := s.client.GetWorkflowHistory(t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		require.NoError(t, err)
		events = append(events, e)
	}
	require.NotEmpty(t, events)
	if *record == "" {
		return
	}
	text, err := protojson.MarshalOptions{Indent: " "}.Marshal(&historypb.History{Events: events})
	require.NoError(t, err)
	folder := filepath.Join("..", "workflows", "testdata", *record)
	require.NoError(t, os.MkdirAll(folder, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(folder, name+".json"), append(text, '\n'), 0o600))
}

// batches waits until so many runs of an event's batches have begun, and for the end of the last run of each, whose ids it
// returns in order.
func (s *stack) batches(t *testing.T, eventID string, runs int) []string {
	t.Helper()
	query := fmt.Sprintf(`WorkflowType = 'DeliverBatch' AND WorkflowId STARTS_WITH 'batch-%s-'`, eventID)
	require.True(t, poll(func() bool { return len(s.found(t, query)) >= runs }))
	ids := s.found(t, query)
	require.Len(t, ids, runs)
	ids = slices.Compact(ids)
	for _, id := range ids {
		result[workflows.Summary](t, s.client, id)
	}
	return ids
}
