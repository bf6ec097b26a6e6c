package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/emit/outbox"
	"github.com/mathub/webhooks/internal/testutil"
	"github.com/mathub/webhooks/webhook"
)

// backend is a backend's database with an outbox, and the service that its relays emit to.
type backend struct {
	*pgxpool.Pool
	url string

	mu      sync.Mutex
	calls   [][]string // the ids that each call brought
	emitted []webhook.Event
	fails   func(e webhook.Event) error // nil: all is accepted
	log     testutil.Buffer
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{url: dbtest.NewURL(t)}
	var err error
	b.Pool, err = db.Open(t.Context(), b.url)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	for range 2 { // it can be run again
		_, err = b.Exec(t.Context(), outbox.Schema)
		require.NoError(t, err)
	}
	return b
}

// emit is the service: it takes all events of a call or none.
func (b *backend) emit(_ context.Context, events []webhook.Event) ([]emit.Receipt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, e := range events {
		ids = append(ids, e.ID)
	}
	b.calls = append(b.calls, ids)
	if err := webhook.ValidateBatch(events); err != nil {
		return nil, err
	}
	var receipts []emit.Receipt
	for _, e := range events {
		if b.fails != nil {
			if err := b.fails(e); err != nil {
				return nil, err
			}
		}
		receipts = append(receipts, emit.Receipt{ID: e.ID})
	}
	b.emitted = append(b.emitted, events...)
	return receipts, nil
}

func (b *backend) ids() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, e := range b.emitted {
		ids = append(ids, e.ID)
	}
	return ids
}

// sizes are how many events each call brought.
func (b *backend) sizes() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var sizes []int
	for _, ids := range b.calls {
		sizes = append(sizes, len(ids))
	}
	return sizes
}

func (b *backend) relay() *outbox.Relay {
	return &outbox.Relay{URL: b.url, Emit: b.emit, Logger: slog.New(slog.NewTextHandler(&b.log, nil))}
}

// start runs a relay until stop is called, which returns how long it took to stop.
func (b *backend) start(t *testing.T, relay *outbox.Relay) (stop func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	stop = sync.OnceValue(func() time.Duration {
		began := time.Now()
		cancel()
		require.NoError(t, <-ended)
		return time.Since(began)
	})
	t.Cleanup(func() { stop() })
	return stop
}

func (b *backend) insert(t *testing.T, first, n int) []string {
	t.Helper()
	return b.insertData(t, first, n, `{"n":1.10}`)
}

// insertOf inserts events of data of so many bytes.
func (b *backend) insertOf(t *testing.T, first, n, bytes int) []string {
	t.Helper()
	return b.insertData(t, first, n, `{"a":"`+strings.Repeat("x", bytes-len(`{"a":""}`))+`"}`)
}

func (b *backend) insertData(t *testing.T, first, n int, data string) []string {
	t.Helper()
	var ids []string
	require.NoError(t, pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error {
		for i := first; i < first+n; i++ {
			id := fmt.Sprintf("e%05d", i)
			ids = append(ids, id)
			e := webhook.Event{ID: id, Type: webhook.PostCreated, Data: []byte(data)}
			if err := outbox.Insert(t.Context(), tx, e); err != nil {
				return err
			}
		}
		return nil
	}))
	return ids
}

func (b *backend) rows(t *testing.T) (waiting, aside int) {
	t.Helper()
	waiting, aside, err := b.count(t.Context())
	require.NoError(t, err)
	return waiting, aside
}

func (b *backend) count(ctx context.Context) (waiting, aside int, err error) {
	err = b.QueryRow(ctx, "SELECT count(*) FILTER (WHERE failed_at IS NULL), count(*) FILTER (WHERE failed_at IS NOT NULL) FROM mathub_outbox").Scan(&waiting, &aside)
	return waiting, aside, err
}

// drained is how many events were accepted.
func drained(c outbox.Counts, err error) (int, error) { return c.Accepted, err }
