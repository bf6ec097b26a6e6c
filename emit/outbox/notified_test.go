package outbox

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// looks are the times at which a relay has looked for rows.
type looks struct {
	mu sync.Mutex
	at []time.Time
}

// TraceQueryStart implements pgx.QueryTracer.
func (l *looks) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.Contains(data.SQL, "FOR UPDATE SKIP LOCKED") {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.at = append(l.at, time.Now())
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*looks) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// beforeWait is how many there were before the relay waited for half of its interval; 0: it did not wait yet.
func (l *looks) beforeWait() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := 1; n < len(l.at); n++ {
		if l.at[n].Sub(l.at[n-1]) > pollInterval/2 {
			return n
		}
	}
	return 0
}

// What is notified of while a relay works was kept one by one, for as long as rows never ran out, and then looked for one by one.
func TestManyNotificationsMeanOneLook(t *testing.T) {
	t.Parallel()
	const rows = 300
	url := dbtest.NewURL(t)
	pool, err := db.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), Schema)
	require.NoError(t, err)
	insert := func(id string) {
		require.NoError(t, Insert(t.Context(), pool, webhook.Event{ID: id, Type: webhook.PostCreated, Data: []byte(`{}`)}))
	}
	begun, goOn := make(chan struct{}), make(chan struct{})
	emitted := make(chan int, rows)
	relay := &Relay{URL: url, Emit: func(_ context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		if events[0].ID == "first" {
			close(begun)
			<-goOn
		}
		emitted <- len(events)
		return nil, nil
	}}
	config, err := relay.config()
	require.NoError(t, err)
	looked := new(looks)
	config.Tracer = looked
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = relay.session(ctx, config)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	insert("first")
	<-begun
	for n := range rows { // each in a transaction, and so with a notification, of its own
		insert("e" + strconv.Itoa(n))
	}
	looked.mu.Lock()
	looked.at = nil
	looked.mu.Unlock()
	close(goOn)
	for n := 0; n < 1+rows; n += <-emitted {
	}
	require.Eventually(t, func() bool { return looked.beforeWait() > 0 }, time.Minute, 10*time.Millisecond)
	require.Less(t, looked.beforeWait(), rows/10)
}

// What a proxy before the service asks for may be hours: it may answer again at once.
func TestPauseAfter_ARetryAfterIsBounded(t *testing.T) {
	t.Parallel()
	for asked, want := range map[time.Duration]time.Duration{20 * time.Second: 20 * time.Second, 10 * time.Hour: time.Minute} {
		require.Equal(t, want, pauseAfter(0, &emit.RefusedError{Status: 503, RetryAfter: asked}))
	}
}
