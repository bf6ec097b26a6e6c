package ops

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/bots"
)

// bed is a service on a database of its own.
type bed struct {
	*Service
	t testing.TB
}

func newBed(t testing.TB) *bed {
	t.Helper()
	pool := dbtest.New(t)
	return &bed{t: t, Service: &Service{Pool: pool, Bots: &bots.Service{Pool: pool}}}
}

func (b *bed) ctx() context.Context {
	return audit.As(b.t.Context(), audit.Actor{Kind: audit.Service, Name: "ada"})
}

func (b *bed) execute(sql string, args ...any) {
	b.t.Helper()
	execute(b.t, b.Pool, sql, args...)
}

func execute(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

func (b *bed) bot(id string) {
	b.t.Helper()
	_, err := b.Bots.Create(b.ctx(), bots.New{ID: id, Name: "Bot " + id})
	require.NoError(b.t, err)
}

// hook makes a webhook of a bot at a host, whose id ends with n, and changes it as `set` says.
func (b *bed) hook(n int, bot, host, set string) uuid.UUID {
	b.t.Helper()
	id := uuid.MustParse(fmt.Sprintf("00000000-0000-7000-8000-%012d", n))
	b.execute("INSERT INTO webhooks (id, bot_id, url, origin, events) VALUES ($1, $2, '', $3, '{post.created}')", id, bot, "https://"+host)
	if set != "" {
		b.execute("UPDATE webhooks SET "+set+" WHERE id = $1", id)
	}
	return id
}

// queue plans deliveries of a webhook, the first of them due so many seconds ago, and the others each a second later.
func (b *bed) queue(id uuid.UUID, rows, ago int) {
	b.t.Helper()
	b.execute(`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
		SELECT $1, 'e' || n, 1, 1, 'event', now() - make_interval(secs => $3 - n + 1) FROM generate_series(1, $2::integer) n`, id, rows, float64(ago))
}

// failures, disabled and so on are what a webhook is set to.
const (
	queued   = "queued = true"
	disabled = "is_active = false, disabled_at = now() - interval '%d h', disabled_reason = '%s'"
)

func failures(n int, class string) string {
	return fmt.Sprintf("queued = true, failure_count = %d, failure_class = '%s'", n, class)
}

// numbers are the ends of the ids.
func numbers(page []Webhook) (list []int) {
	for _, w := range page {
		var n int
		_, _ = fmt.Sscanf(w.ID.String()[24:], "%d", &n)
		list = append(list, n)
	}
	return list
}
