package delivery

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// rig is a Deliverer on a database of its own.
type rig struct {
	*Deliverer
	pool   *pgxpool.Pool
	keyset *db.Keyset

	mu    sync.Mutex
	woken []Target
}

func newRig(t testing.TB, changes ...func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, dbtest.New(t), changes...)
}

// newRigOn is another process on a database.
func newRigOn(t testing.TB, pool *pgxpool.Pool, changes ...func(*Config)) *rig {
	t.Helper()
	r := &rig{pool: pool, keyset: testKeyset(t)}
	cfg := Config{
		Pool: pool, Egress: newEgress(t, nil), Keyset: r.keyset, Schedule: webhook.DefaultSchedule, Version: "test", Logger: slog.New(slog.DiscardHandler),
		Wake: func(w Target) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.woken = append(r.woken, w)
		},
		HasEnded: func(context.Context, string, string) (bool, error) { return false, nil },
	}
	for _, change := range changes {
		change(&cfg)
	}
	r.Deliverer = New(cfg)
	t.Cleanup(func() { r.Close(context.Background()) })
	return r
}

func newEgress(t testing.TB, resolver *net.Resolver) *egress.Client {
	client := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true, Resolver: resolver})
	t.Cleanup(client.Close)
	return client
}

// withoutSockets is an egress client on a machine that is out of sockets whenever it looks up a name.
func withoutSockets(t testing.TB) func(*Config) {
	client := newEgress(t, &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}})
	return func(c *Config) { c.Egress = client }
}

// unresolved is a URL whose host has to be looked up.
const unresolved = "http://receiver.example/hook"

var testKeyset = func() func(t testing.TB) *db.Keyset {
	once := sync.OnceValues(func() (*db.Keyset, error) {
		s, err := db.NewKeyset()
		if err != nil {
			return nil, err
		}
		return db.ParseKeyset(s)
	})
	return func(t testing.TB) *db.Keyset {
		k, err := once()
		require.NoError(t, err)
		return k
	}
}()

// taken returns which queues were woken since the last call.
func (r *rig) taken() (ids []uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.woken {
		ids = append(ids, w.WebhookID)
	}
	r.woken = nil
	return ids
}

func (r *rig) execute(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (r *rig) count(t testing.TB, from string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+from, args...).Scan(&n))
	return n
}

// subscribe adds a webhook of the bot "bot" for post.created.
func (r *rig) subscribe(t testing.TB, url, secret string) uuid.UUID {
	t.Helper()
	id := uuid.Must(uuid.NewV7())
	sealedURL, err := r.keyset.SealURL(id, url)
	require.NoError(t, err)
	var sealed []byte
	if secret != "" {
		sealed, err = r.keyset.Seal(id, secret)
		require.NoError(t, err)
	}
	r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot') ON CONFLICT DO NOTHING")
	r.execute(t, "INSERT INTO webhooks (id, bot_id, url, origin, events, secret) VALUES ($1, 'bot', $2, $3, '{post.created}', $4)", id, sealedURL, webhook.OriginOf(url), sealed)
	return id
}

func (r *rig) set(t testing.TB, id uuid.UUID, change string) {
	t.Helper()
	r.execute(t, "UPDATE webhooks SET "+change+" WHERE id = $1", id)
}

func anEvent() webhook.Event {
	return webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"p1","n":12345678901234567890.12345678901234567890}`)}.Complete(time.Now())
}

func toAccept(run string, events ...webhook.Event) EventsToAccept {
	return EventsToAccept{Events: events, WorkflowID: "event-" + events[0].ID, RunID: run, At: time.Now()}
}

// audience is one event's, with its targets.
type audience struct {
	EventAudience
	Targets []Target
}

func (r *rig) accept(t testing.TB, e webhook.Event, run string) audience {
	t.Helper()
	a, err := r.Accept(t.Context(), toAccept(run, e))
	require.NoError(t, err)
	return audienceOf(a, 0)
}

func audienceOf(a Audience, n int) audience {
	one := audience{EventAudience: a.Events[n]}
	for _, place := range a.Events[n].Targets {
		one.Targets = append(one.Targets, a.Targets[place])
	}
	return one
}

// accepted is a new event, accepted by this process.
func (r *rig) accepted(t testing.TB) webhook.Event {
	t.Helper()
	e := anEvent()
	r.accept(t, e, "run")
	return e
}

// storedElsewhere is a new event of which this process has prefetched nothing.
func (r *rig) storedElsewhere(t testing.TB) webhook.Event {
	t.Helper()
	e := anEvent()
	r.execute(t, "INSERT INTO events (id, type, payload, run_id) VALUES ($1, $2, $3, 'run')", e.ID, string(e.Type), e.Body())
	return e
}

func (r *rig) mustRun(t testing.TB, a Attempt) Result {
	t.Helper()
	result, err := r.Run(t.Context(), a)
	require.NoError(t, err)
	return result
}

type runEnd struct {
	Result
	err error
}

// start runs an attempt in the background.
func (r *rig) start(a Attempt) <-chan runEnd {
	ended := make(chan runEnd, 1)
	go func() {
		result, err := r.Run(context.Background(), a)
		ended <- runEnd{result, err}
	}()
	return ended
}

type row struct {
	history.Row
	DueIn time.Duration
}

func rowsOf(list []row) (rows []history.Row) {
	for _, one := range list {
		rows = append(rows, one.Row)
	}
	return rows
}

// planned is the webhook's queue in the order in which it is worked off.
func (r *rig) planned(t testing.TB, id uuid.UUID) (list []row) {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), "SELECT event_id, attempt, step, trigger::text, extract(epoch FROM due_at - now())::float8 FROM queue WHERE webhook_id = $1 ORDER BY due_at, seq", id)
	require.NoError(t, err)
	_, err = pgx.CollectRows(rows, func(found pgx.CollectableRow) (struct{}, error) {
		var one row
		var trigger string
		var due float64
		err := found.Scan(&one.EventID, &one.Attempt, &one.Step, &trigger, &due)
		one.Trigger, one.DueIn = webhook.Trigger(trigger), time.Duration(due*float64(time.Second))
		list = append(list, one)
		return struct{}{}, err
	})
	require.NoError(t, err)
	return list
}

func (r *rig) plan(t testing.TB, id uuid.UUID, eventID string, trigger webhook.Trigger, due time.Duration) history.Row {
	t.Helper()
	r.execute(t, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 1, $3::text::delivery_trigger, now() + make_interval(secs => $4))",
		id, eventID, string(trigger), due.Seconds())
	return history.Row{EventID: eventID, Attempt: 1, Step: 1, Trigger: trigger}
}

// deliveryID is the id that an attempt at a stored event has.
func (r *rig) deliveryID(t testing.TB, a Attempt) uuid.UUID {
	t.Helper()
	require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT accepted_at FROM events WHERE id = $1", a.EventID).Scan(&a.acceptedAt))
	return a.deliveryID()
}

// sentBefore records so many attempts that were taken.
func (r *rig) sentBefore(t testing.TB, id uuid.UUID, eventID string, attempts int) {
	t.Helper()
	for n := range attempts {
		r.execute(t, "INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ($1, $2, $3, $4, true, 1, now())",
			r.deliveryID(t, Attempt{EventID: eventID, WebhookID: id, Number: n + 1}), id, eventID, n+1)
	}
}

func (r *rig) failures(t testing.TB, id uuid.UUID) (n int) {
	t.Helper()
	require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT failure_count FROM webhooks WHERE id = $1", id).Scan(&n))
	return n
}

func (r *rig) isQueued(t testing.TB, id uuid.UUID) (queued bool) {
	t.Helper()
	require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT queued FROM webhooks WHERE id = $1", id).Scan(&queued))
	return queued
}

func (r *rig) deliveries(t testing.TB, id uuid.UUID) int {
	t.Helper()
	return r.count(t, "deliveries WHERE webhook_id = $1", id)
}

type received struct {
	header http.Header
	body   []byte
}

// receiver is a real HTTP server that keeps what it gets, and answers with its status once it is not held any more.
type receiver struct {
	url    string
	status atomic.Int32
	hits   atomic.Int32
	header http.Header

	mu   sync.Mutex
	got  []received
	hold chan struct{} // nil: it answers at once
}

func newReceiver(t testing.TB, status int32) *receiver {
	r := &receiver{header: http.Header{}}
	r.status.Store(status)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.got = append(r.got, received{req.Header.Clone(), body})
		hold := r.hold
		r.mu.Unlock()
		r.hits.Add(1)
		if hold != nil {
			<-hold
		}
		for name, values := range r.header {
			w.Header()[name] = values
		}
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// held makes it hang until release is called, or each receive from the channel lets one go.
func (r *receiver) held(t testing.TB) (hold chan struct{}, release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = make(chan struct{})
	hold = r.hold
	release = sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		close(hold)
		r.hold = nil
	})
	t.Cleanup(release)
	return hold, release
}

func (r *receiver) requests() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// arrived returns once it has got so many requests.
func (r *receiver) arrived(t testing.TB, n int32) {
	t.Helper()
	require.Eventually(t, func() bool { return r.hits.Load() >= n }, 3*time.Minute, time.Millisecond)
}
