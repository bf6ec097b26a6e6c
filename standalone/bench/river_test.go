package bench_test

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/mathub/webhooks/webhook"
)

// riverVariable makes this program yardstick D's process; it holds its settings as JSON.
const riverVariable = "MATHUB_BENCH_RIVER"

// riverListener is the file of the socket that D's process is given: the first after stdin, stdout and stderr.
const riverListener = 3

// riverSettings are what D runs with.
type riverSettings struct {
	DatabaseURL string
	Token       string
	Conns       int32
	Workers     int
	// FetchCooldown is the least time between two fetches of jobs.
	FetchCooldown time.Duration
}

// riverSchema has the product's columns and indexes wherever D needs the like.
const riverSchema = `
	CREATE TYPE delivery_trigger AS ENUM ('event', 'retry', 'redeliver', 'recover', 'test');
	CREATE TABLE webhooks (
		id uuid PRIMARY KEY, url text NOT NULL, events text[] NOT NULL, secret text NOT NULL, is_active boolean NOT NULL DEFAULT true);
	CREATE INDEX webhooks_events ON webhooks USING gin (events) WHERE is_active;
	CREATE TABLE events (id text PRIMARY KEY, type text NOT NULL, payload bytea NOT NULL, accepted_at timestamptz NOT NULL DEFAULT now());
	CREATE INDEX events_accepted ON events (accepted_at, id);
	CREATE TABLE deliveries (
		id            uuid        PRIMARY KEY,
		seq           bigint      GENERATED ALWAYS AS IDENTITY,
		webhook_id    uuid        NOT NULL,
		event_id      text        NOT NULL,
		attempt       integer     NOT NULL,
		trigger       delivery_trigger NOT NULL DEFAULT 'event',
		success       boolean     NOT NULL,
		status_code   integer,
		response_body bytea,
		error         text,
		duration_ms   integer     NOT NULL,
		attempted_at  timestamptz NOT NULL,
		exchange      bytea
	);
	CREATE INDEX deliveries_history ON deliveries (webhook_id, seq DESC);
	CREATE INDEX deliveries_failed ON deliveries (webhook_id, seq DESC) WHERE NOT success;
	CREATE INDEX deliveries_of_event ON deliveries (event_id, webhook_id);`

// runRiver is D's process: it serves until it is killed.
func runRiver(ctx context.Context, encoded string) error {
	var settings riverSettings
	if err := json.Unmarshal([]byte(encoded), &settings); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(settings.DatabaseURL)
	if err != nil {
		return err
	}
	config.MaxConns = settings.Conns
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{pool: pool, http: riverHTTP(settings.Workers)})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: settings.FetchCooldown,
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: settings.Workers}},
		Workers:       workers,
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(riverListener, "listener"))
	if err != nil {
		return err
	}
	door := &riverDoor{pool: pool, client: client, token: settings.Token}
	return (&http.Server{Handler: door.handler(), ReadHeaderTimeout: 10 * time.Second}).Serve(listener)
}

func riverHTTP(workers int) *http.Client {
	return &http.Client{
		Timeout:       5 * time.Second,
		Transport:     &http.Transport{MaxIdleConns: 2 * workers, MaxIdleConnsPerHost: workers, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// riverDoor is where events come in, as the product's API takes them.
type riverDoor struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	token  string
}

type riverEvent struct {
	ID        string          `json:"id"`
	Type      string          `json:"event"`
	Timestamp string          `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

type riverReceipt struct {
	ID        string `json:"id"`
	Duplicate bool   `json:"duplicate"`
}

func (d *riverDoor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+eventsPath, func(w http.ResponseWriter, r *http.Request) {
		var event riverEvent
		d.answer(w, r, &event, func() (any, error) {
			receipts, err := d.accept(r.Context(), []riverEvent{event})
			if err != nil {
				return nil, err
			}
			return receipts[0], nil
		})
	})
	mux.HandleFunc("POST "+batchPath, func(w http.ResponseWriter, r *http.Request) {
		var batch struct {
			Events []riverEvent `json:"events"`
		}
		d.answer(w, r, &batch, func() (any, error) { return d.accept(r.Context(), batch.Events) })
	})
	return mux
}

var errRiverInput = errors.New("an event needs an id, a type and data")

// answer decodes a call into input, makes it, and answers 202 with what it returns.
func (d *riverDoor) answer(w http.ResponseWriter, r *http.Request, input any, call func() (any, error)) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+d.token)) != 1 {
		http.Error(w, "not authorized", http.StatusUnauthorized)
		return
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(input); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	receipt, err := call()
	switch {
	case errors.Is(err, errRiverInput):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		slog.Error("accept", "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(receipt) // the caller went away
	}
}

// accept stores events, and a job for each delivery of those that are new, in one transaction.
func (d *riverDoor) accept(ctx context.Context, events []riverEvent) ([]riverReceipt, error) {
	bodies := make([][]byte, len(events))
	for i, e := range events {
		if e.ID == "" || e.Type == "" || len(e.Data) == 0 {
			return nil, errRiverInput
		}
		var err error
		if bodies[i], err = e.body(); err != nil {
			return nil, err
		}
	}
	var receipts []riverReceipt
	err := pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		known, jobs, err := d.store(ctx, tx, events, bodies)
		if err != nil {
			return err
		}
		receipts = known
		return d.enqueue(ctx, tx, jobs)
	})
	return receipts, err
}

// body is what is sent.
func (e riverEvent) body() ([]byte, error) {
	if e.Timestamp == "" {
		e.Timestamp = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return json.Marshal(struct {
		Event     string          `json:"event"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{e.Type, e.Timestamp, e.Data})
}

// store inserts the events and looks up who hears of the new ones, in one statement.
func (d *riverDoor) store(ctx context.Context, tx pgx.Tx, events []riverEvent, bodies [][]byte) ([]riverReceipt, []river.InsertManyParams, error) {
	ids, types := make([]string, len(events)), make([]string, len(events))
	for i, e := range events {
		ids[i], types[i] = e.ID, e.Type
	}
	rows, err := tx.Query(ctx, `
		WITH stored AS (
			INSERT INTO events (id, type, payload) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
			ON CONFLICT DO NOTHING RETURNING id, type
		)
		SELECT s.id, w.id FROM stored s LEFT JOIN webhooks w ON w.is_active AND w.events @> ARRAY[s.type]`, ids, types, bodies)
	if err != nil {
		return nil, nil, err
	}
	var jobs []river.InsertManyParams
	stored := map[string]bool{}
	var id string
	var webhookID uuid.NullUUID
	_, err = pgx.ForEachRow(rows, []any{&id, &webhookID}, func() error {
		stored[id] = true
		if webhookID.Valid {
			jobs = append(jobs, river.InsertManyParams{Args: riverDelivery{EventID: id, WebhookID: webhookID.UUID}})
		}
		return nil
	})
	receipts := make([]riverReceipt, len(ids))
	for i, id := range ids {
		receipts[i] = riverReceipt{ID: id, Duplicate: !stored[id]}
	}
	return receipts, jobs, err
}

// copied is from how many jobs on River's COPY takes less time than its INSERT.
const copied = 10

func (d *riverDoor) enqueue(ctx context.Context, tx pgx.Tx, jobs []river.InsertManyParams) (err error) {
	switch {
	case len(jobs) >= copied:
		_, err = d.client.InsertManyFastTx(ctx, tx, jobs)
	case len(jobs) > 0:
		_, err = d.client.InsertManyTx(ctx, tx, jobs)
	}
	return err
}

// riverDelivery is a job: one event's delivery to one webhook.
type riverDelivery struct {
	EventID   string    `json:"event_id"`
	WebhookID uuid.UUID `json:"webhook_id"`
}

func (riverDelivery) Kind() string { return "delivery" }

// riverWorker does the jobs. River's own policy tries again those that fail.
type riverWorker struct {
	river.WorkerDefaults[riverDelivery]
	pool *pgxpool.Pool
	http *http.Client
}

// riverExchange is what came of an attempt.
type riverExchange struct {
	at       time.Time
	took     time.Duration
	status   *int
	body     []byte
	response http.Header
	err      error
}

func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverDelivery]) error {
	var url, secret string
	d := webhook.Delivery{ID: webhook.AttemptKey(job.Args.EventID, job.Args.WebhookID, job.Attempt), EventID: job.Args.EventID}
	err := w.pool.QueryRow(ctx, "SELECT e.type, e.payload, w.url, w.secret FROM events e, webhooks w WHERE e.id = $1 AND w.id = $2 AND w.is_active",
		job.Args.EventID, job.Args.WebhookID).Scan(&d.Type, &d.Body, &url, &secret)
	if errors.Is(err, pgx.ErrNoRows) {
		return river.JobCancel(errors.New("the webhook is gone, or disabled"))
	}
	if err != nil {
		return err
	}
	d.At, d.Secrets = time.Now(), []string{secret}
	exchange := w.post(ctx, url, d)
	if err := w.record(ctx, job, d, exchange); err != nil {
		return err
	}
	return exchange.err
}

func (w *riverWorker) post(ctx context.Context, url string, d webhook.Delivery) (e riverExchange) {
	e.at = d.At
	defer func() { e.took = time.Since(e.at) }()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(d.Body))
	if err != nil {
		e.err = err
		return e
	}
	request.Header = webhook.Headers(d)
	response, err := w.http.Do(request)
	if err != nil {
		e.err = err
		return e
	}
	defer response.Body.Close() //nolint:errcheck // what is kept has been read
	e.status, e.response = &response.StatusCode, response.Header
	if e.body, e.err = io.ReadAll(io.LimitReader(response.Body, 4<<10)); e.err == nil && response.StatusCode/100 != 2 {
		e.err = fmt.Errorf("HTTP %d", response.StatusCode)
	}
	return e
}

func (w *riverWorker) record(ctx context.Context, job *river.Job[riverDelivery], d webhook.Delivery, e riverExchange) error {
	var cause *string
	if e.err != nil {
		text := e.err.Error()
		cause = &text
	}
	trigger := "event"
	if job.Attempt > 1 {
		trigger = "retry"
	}
	exchange, err := json.Marshal(e.response)
	if err != nil {
		return err
	}
	_, err = w.pool.Exec(ctx, `
		INSERT INTO deliveries (id, webhook_id, event_id, attempt, trigger, success, status_code, response_body, error, duration_ms, attempted_at, exchange)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`,
		d.ID, job.Args.WebhookID, d.EventID, job.Attempt, trigger, e.err == nil, e.status, e.body, cause, e.took.Milliseconds(), e.at, exchange)
	return err
}
